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
    /// Autopilot: record that they are removed, all at once.
    GiveUp(BTreeSet<NodeId>),
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
        let dead = self.given_up(state, me);
        if !dead.is_empty() {
            return Ok(Step::GiveUp(dead));
        }
        let gone: BTreeSet<NodeId> =
            self.members.iter().copied().filter(|id| !state.managers.contains_key(id)).collect();
        Ok(if gone.is_empty() { Step::Rest } else { Step::Drop(gone) })
    }

    /// The unreachable voters for autopilot to remove: those without whom the cluster tolerates most failures, and no
    /// more than that takes. They are judged together, for two of five may only go together. Never by a leader without a
    /// majority, nor below three voters.
    fn given_up(&self, state: &State, me: NodeId) -> BTreeSet<NodeId> {
        let voters = self.voters();
        let dead: Vec<NodeId> = self
            .silent
            .iter()
            .copied()
            .filter(|id| *id != me && voters.contains(id) && state.managers.contains_key(id))
            .collect();
        let mut best = (fault_tolerance(&voters, &self.reached), BTreeSet::new());
        for count in 1..=dead.len().min(voters.len().saturating_sub(FEWEST)) {
            let gone: BTreeSet<NodeId> = dead[..count].iter().copied().collect();
            let without: BTreeSet<NodeId> = voters.difference(&gone).copied().collect();
            let tolerated = fault_tolerance(&without, &self.reached);
            if tolerated > best.0 && self.votes(&voters).may_become(&without, false).is_ok() {
                best = (tolerated, gone);
            }
        }
        best.1
    }
}

/// Autopilot leaves so many voters at least: with fewer, no failure is tolerated.
const FEWEST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Manager, Program};

    /// Voters 1 to `n` in the state, as bits of whom the leader 1 reaches and whom it has missed for long.
    fn of(n: u64, reached: u64, silent: u64) -> (State, MembershipView) {
        let set = |bits: u64| -> BTreeSet<NodeId> {
            (1..=n).filter(|id| bits & (1 << (id - 1)) != 0).map(NodeId).collect()
        };
        let mut state = State { level: crate::command::LEVEL, ..State::default() };
        for id in 1..=n {
            let manager = Manager {
                name: format!("m{id}"),
                address: format!("m{id}:1"),
                storage: format!("d{id}"),
                instance: None,
                program: Program::default(),
            };
            state.managers.insert(NodeId(id), manager);
        }
        let voters = set(u64::MAX);
        let view = MembershipView {
            sets: vec![voters.clone()],
            members: voters,
            reached: set(reached),
            ready: BTreeSet::new(),
            silent: set(silent),
        };
        (state, view)
    }

    #[test]
    fn two_dead_of_five_are_given_up_together_and_one_of_five_is_waited_for() {
        let (state, view) = of(5, 0b00111, 0b11000);
        let dead = BTreeSet::from([NodeId(4), NodeId(5)]);
        assert_eq!(view.next(&state, NodeId(1)), Ok(Step::GiveUp(dead)));
        let (state, view) = of(5, 0b01111, 0b10000);
        assert_eq!(view.next(&state, NodeId(1)), Ok(Step::Rest));
        // With a replacement in place, the dead one only weighs.
        let (state, view) = of(4, 0b0111, 0b1000);
        assert_eq!(view.next(&state, NodeId(1)), Ok(Step::GiveUp(BTreeSet::from([NodeId(4)]))));
    }

    /// Every small membership: whoever is given up may be removed by `node rm` without --force, and if anybody may who
    /// helps, the cluster tolerates as much afterwards as it can.
    #[test]
    fn autopilot_gives_up_whom_an_operator_may_remove_and_leaves_no_gain() {
        let mut given_up = 0;
        for n in 1..=7u64 {
            for reached in (0..1u64 << n).filter(|bits| bits & 1 == 1) {
                for silent in (0..1u64 << n).filter(|bits| bits & reached == 0) {
                    let (state, view) = of(n, reached, silent);
                    let voters = view.voters();
                    let now = fault_tolerance(&voters, &view.reached);
                    let allowed = |gone: &BTreeSet<NodeId>| {
                        let without: BTreeSet<NodeId> = voters.difference(gone).copied().collect();
                        let tolerated = fault_tolerance(&without, &view.reached);
                        let ok = without.len() >= FEWEST
                            && tolerated > now
                            && view.votes(&voters).may_become(&without, false).is_ok();
                        ok.then_some(tolerated)
                    };
                    let subsets = (1..1u64 << n).filter(|bits| bits & silent == *bits);
                    let best = subsets.filter_map(|bits| allowed(&of(n, bits, 0).1.reached)).max();
                    let case = format!("{n} voters, {reached:b} reached, {silent:b} silent");
                    match view.next(&state, NodeId(1)) {
                        Ok(Step::GiveUp(gone)) => {
                            assert_eq!(allowed(&gone), best, "{case}: {gone:?}");
                            given_up += 1;
                        }
                        Ok(Step::Rest) => assert_eq!(best, None, "{case}"),
                        other => panic!("{case}: {other:?}"),
                    }
                }
            }
        }
        assert!(given_up > 0);
    }
}
