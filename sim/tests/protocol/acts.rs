//! What may happen next in a history.

use model::state::Member;
use model::{IntentId, NodeId};

use crate::world::{Call, World};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    Crash(NodeId),
    Restart(NodeId),
    /// It is cut off: nobody hears it, and it may act until its lease has run out. What it has called for is on its
    /// way still.
    Depose,
    LeaseEnds,
    /// By the leader that was cut off.
    SendLate(IntentId),
    Commit,
    Elect(NodeId),
    /// The majority is lost: an operator goes on from this one's disk, in another lineage.
    /// It may lack the last entry that the others had.
    Recover {
        node: NodeId,
        stale: bool,
    },
    Join,
    /// A manager that was removed asks again.
    JoinAgain(NodeId),
    Wish(NodeId, Wish),
    CatchUp(NodeId),
    /// What the leader does for its members, when those that are down have been silent for long, or not.
    Keep {
        silent: bool,
    },
    Claim(u32),
    /// Another is to take this slot over; and the other is ready, so the first goes.
    Replace(u32),
    TakeOver(u32),
    Doom(u32),
    Send(IntentId),
    Effect(Call),
    Lose(Call),
    Report(IntentId),
    Listed,
    Vanish(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wish {
    Voter,
    Learner,
    Removed,
}

impl World {
    /// Everything that may happen next, as far as the budget goes.
    pub(crate) fn acts(&self, acts: &mut Vec<Act>) {
        self.acts_of_managers(acts);
        self.recoveries(acts);
        self.acts_of_calls(acts);
        self.acts_of_the_provider(acts);
        if self.leader.is_some() && self.has_majority(&self.sets) {
            self.acts_of_operators(acts);
            self.acts_of_the_leader_for_members(acts);
            self.acts_of_the_leader_for_slots(acts);
        }
    }

    fn acts_of_managers(&self, acts: &mut Vec<Act>) {
        for id in self.up.iter().copied() {
            if self.left.crashes > 0 {
                acts.push(Act::Crash(id));
            }
            if self.may_be_elected(id) {
                acts.push(Act::Elect(id));
            }
            if self.state().removed.contains_key(&id) && self.leader.is_some() {
                acts.push(Act::JoinAgain(id));
            }
        }
        acts.extend(self.known().filter(|id| !self.up.contains(id)).map(Act::Restart));
    }

    fn may_be_elected(&self, id: NodeId) -> bool {
        let votes = self.sets.iter().any(|set| set.contains(&id));
        // Voters wait until the lease of the leader that they heard last has run out (raft/src/replica.rs).
        let waited = self.cut_off.is_none() || !self.leased;
        let majority = self.has_majority(&self.sets);
        self.leader.is_none() && waited && self.left.elections > 0 && votes && majority
    }

    fn recoveries(&self, acts: &mut Vec<Act>) {
        if self.left.recoveries > 0
            && self.leader.is_none()
            && self.cut_off.is_none()
            && !self.has_majority(&self.sets)
        {
            for node in self.known().filter(|id| self.up.contains(id)) {
                acts.extend([false, true].map(|stale| Act::Recover { node, stale }));
            }
        }
    }

    fn acts_of_calls(&self, acts: &mut Vec<Act>) {
        for call in &self.calls {
            acts.push(Act::Effect(call.clone()));
            acts.push(Act::Lose(call.clone()));
        }
        if let Some((_, known)) = &self.cut_off {
            acts.push(Act::LeaseEnds);
            acts.extend(known.keys().copied().map(Act::SendLate));
        }
    }

    fn acts_of_the_provider(&self, acts: &mut Vec<Act>) {
        if self.left.vanishings > 0 {
            // The provider may lose anything but the machine that a manager stands on: that is a crash.
            acts.extend(self.cloud.keys().filter(|id| *id != "host").cloned().map(Act::Vanish));
        }
    }

    fn acts_of_operators(&self, acts: &mut Vec<Act>) {
        if self.left.deposals > 0 {
            acts.push(Act::Depose);
        }
        if self.left.joins > 0 {
            acts.push(Act::Join);
        }
        if self.left.commits > 0 {
            acts.push(Act::Commit);
        }
        if self.left.wishes > 0 {
            for id in self.known() {
                acts.extend([Wish::Voter, Wish::Learner, Wish::Removed].map(|wish| Act::Wish(id, wish)));
            }
        }
    }

    fn acts_of_the_leader_for_members(&self, acts: &mut Vec<Act>) {
        let learner = |id: &NodeId| !self.sets.iter().any(|set| set.contains(id)) && !self.ready.contains(id);
        acts.extend(self.members.intersection(&self.up).copied().filter(learner).map(Act::CatchUp));
        acts.extend([Act::Keep { silent: false }, Act::Keep { silent: true }]);
    }

    fn acts_of_the_leader_for_slots(&self, acts: &mut Vec<Act>) {
        // Nothing is made before a look (model/src/plan.rs).
        if self.left.claims > 0 && self.looked {
            // One more than there are: it must be denied.
            acts.extend((0..3).map(Act::Claim));
            if self.state().revisions.values().any(|it| it.0 > 1) {
                acts.extend((0..2).map(Act::Replace));
            }
        }
        let both = |it: &Member| it.occupied().is_some() && it.incoming_occupied().is_some();
        acts.extend(self.holders().iter().filter(|(_, it)| both(it)).map(|(slot, _)| Act::TakeOver(*slot)));
        if self.left.dooms > 0 {
            acts.extend((0..2).map(Act::Doom));
        }
        acts.extend(self.open().into_keys().filter(|id| !self.called.contains(id)).map(Act::Send));
        acts.extend(self.answered.keys().copied().map(Act::Report));
        acts.push(Act::Listed);
    }

    fn known(&self) -> impl Iterator<Item = NodeId> {
        self.state().managers.keys().copied()
    }
}
