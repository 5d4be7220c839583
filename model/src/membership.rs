//! The next membership step of a leader, as a pure function of the desired roles and the reachable members.
//! It is called again after every step.

use std::collections::BTreeSet;

use crate::ids::NodeId;
use crate::quorum::{Unsafe, Votes, fault_tolerance};
use crate::state::State;

/// The members at one moment, as the leader sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MembershipView {
    /// The sets that need a majority each: one, or two while the voters change.
    pub sets: Vec<BTreeSet<NodeId>>,
    /// All members, voters and learners.
    pub members: BTreeSet<NodeId>,
    /// The reachable members, including the leader.
    pub reached: BTreeSet<NodeId>,
    /// Learners that have caught up.
    pub ready: BTreeSet<NodeId>,
    /// Voters that have been unreachable for longer than `dead-manager-after`.
    pub silent: BTreeSet<NodeId>,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make these the voters, in one joint change; or complete a change that was begun.
    SetVoters(BTreeSet<NodeId>),
    /// The leader itself is to lose its vote: transfer leadership to one of these first.
    HandOver(BTreeSet<NodeId>),
    /// Add it as a learner.
    AddLearner(NodeId),
    /// Autopilot: record that it is removed.
    GiveUp(NodeId),
    /// Remove these learners.
    Drop(BTreeSet<NodeId>),
    /// Nothing to do.
    Rest,
}

impl MembershipView {
    /// The voters, in any set.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.sets.iter().flatten().copied().collect()
    }

    /// The desired voters that vote already or have caught up.
    pub fn desired(&self, state: &State) -> BTreeSet<NodeId> {
        let voters = self.voters();
        state.voters().filter(|id| voters.contains(id) || self.ready.contains(id)).collect()
    }

    /// The votes, with these intended voters.
    pub fn votes<'a>(&'a self, intended: &'a BTreeSet<NodeId>) -> Votes<'a> {
        Votes { sets: &self.sets, intended, reached: &self.reached }
    }

    /// The next step of the leader `me`, or why it is not safe at the moment.
    pub fn next(&self, state: &State, me: NodeId) -> Result<Step, Unsafe> {
        let desired = self.desired(state);
        if self.sets != [desired.clone()] || !desired.contains(&me) {
            // The request of the operator was checked then; meanwhile other managers may have failed.
            self.votes(&desired).may_become(&desired, true)?;
            // A leader does not remove its own vote: the next one does.
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

    /// An unreachable voter for autopilot to remove, if fault tolerance increases without it, as when another
    /// manager has joined to replace it. Never by a leader without a majority.
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
