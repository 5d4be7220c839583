//! What a leader does next for its members: a function of what is wanted and of who can be reached
//! (ha-raft §4.3). Asked again after every step.

use std::collections::BTreeSet;

use crate::ids::NodeId;
use crate::quorum::{Unsafe, Votes, fault_tolerance};
use crate::state::State;

/// The members at one moment, as the leader sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MembershipView {
    /// The sets that need a majority each: one, or two while the voters change.
    pub sets: Vec<BTreeSet<NodeId>>,
    /// Whoever receives the log, voter or not.
    pub members: BTreeSet<NodeId>,
    /// Those who answered a moment ago, the leader with them.
    pub reached: BTreeSet<NodeId>,
    /// Learners that could vote at once.
    pub ready: BTreeSet<NodeId>,
    /// Voters that have been silent for so long that they may be given up.
    pub silent: BTreeSet<NodeId>,
}

/// One step, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Give the vote to these and to nobody else, in one joint change; or end one that was begun.
    SetVoters(BTreeSet<NodeId>),
    /// The leader itself is to vote no more: one of these is to lead first.
    HandOver(BTreeSet<NodeId>),
    /// Send it the log.
    AddLearner(NodeId),
    /// Record that it is removed.
    GiveUp(NodeId),
    /// Send them nothing any more.
    Drop(BTreeSet<NodeId>),
    /// Everybody is what they are to be.
    Rest,
}

impl MembershipView {
    /// Those who vote, in any set.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.sets.iter().flatten().copied().collect()
    }

    /// Those who vote or could at once, of those who are to.
    pub fn desired(&self, state: &State) -> BTreeSet<NodeId> {
        let voters = self.voters();
        state.voters().filter(|id| voters.contains(id) || self.ready.contains(id)).collect()
    }

    pub fn votes<'a>(&'a self, intended: &'a BTreeSet<NodeId>) -> Votes<'a> {
        Votes { sets: &self.sets, intended, reached: &self.reached }
    }

    /// What the leader `me` does next. An error says why what is wanted cannot be done at the moment.
    pub fn next(&self, state: &State, me: NodeId) -> Result<Step, Unsafe> {
        let desired = self.desired(state);
        if self.sets != [desired.clone()] || !desired.contains(&me) {
            // What an operator asked for was judged then; meanwhile others may have died.
            self.votes(&desired).may_become(&desired, true)?;
            // A leader does not take its own vote: the next one does.
            return Ok(if desired.contains(&me) {
                Step::SetVoters(desired)
            } else {
                Step::HandOver(desired)
            });
        }
        if let Some(id) = state.managers.keys().find(|id| !self.members.contains(*id)) {
            return Ok(Step::AddLearner(*id));
        }
        if let Some(dead) = self.given_up(state, me) {
            return Ok(Step::GiveUp(dead));
        }
        let gone: BTreeSet<NodeId> =
            self.members.iter().copied().filter(|id| !state.managers.contains_key(id)).collect();
        Ok(if gone.is_empty() { Step::Rest } else { Step::Drop(gone) })
    }

    /// A silent voter that is given up, when the cluster bears more without it: as when another has joined to take
    /// its place. Never by a leader that hears too few itself.
    fn given_up(&self, state: &State, me: NodeId) -> Option<NodeId> {
        let dead = *self.silent.iter().find(|id| **id != me)?;
        if !state.managers.contains_key(&dead) {
            return None;
        }
        let voters = self.voters();
        let without: BTreeSet<NodeId> = voters.iter().copied().filter(|id| *id != dead).collect();
        let helps = without.len() >= 3
            && fault_tolerance(&without, &self.reached) > fault_tolerance(&voters, &self.reached);
        (helps && self.votes(&voters).may_become(&without, false).is_ok()).then_some(dead)
    }
}
