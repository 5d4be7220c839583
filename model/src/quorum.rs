//! Whether a change of the voters is safe, checked before it is made.

use std::collections::BTreeSet;
use std::fmt;

use crate::ids::NodeId;

/// Why a change of the voters is not safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsafe {
    /// No voter would be left.
    NoVoters,
    /// The change cannot be committed: too few of the current voters are reachable.
    NoMajorityNow { reachable: usize, needed: usize },
    /// Nothing could be committed after it.
    NoMajorityAfter { reachable: usize, needed: usize },
    /// It would decrease fault tolerance.
    LessTolerant { now: usize, after: usize },
}

/// The size of a majority of `voters`.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// How many of the `reached` voters may fail without losing the quorum of `voters`.
pub fn fault_tolerance(voters: &BTreeSet<NodeId>, reached: &BTreeSet<NodeId>) -> usize {
    voters.intersection(reached).count().saturating_sub(majority(voters.len()))
}

/// The votes of a cluster at one moment.
pub struct Votes<'a> {
    /// The sets that need a majority each: one, or two while the voters change.
    pub sets: &'a [BTreeSet<NodeId>],
    /// The intended voters, by the changes that were requested before.
    pub intended: &'a BTreeSet<NodeId>,
    /// The reachable members, voters or not.
    pub reached: &'a BTreeSet<NodeId>,
}

impl Votes<'_> {
    /// Whether the voters may become `after`.
    ///
    /// A joint change needs a majority of the sets before it and of the one after. Beyond that, no change may
    /// decrease fault tolerance below the intended one, unless `shrink` is set: losing two of five is
    /// repaired by one change, and a healthy three do not become two by accident.
    pub fn may_become(&self, after: &BTreeSet<NodeId>, shrink: bool) -> Result<(), Unsafe> {
        if after.is_empty() {
            return Err(Unsafe::NoVoters);
        }
        let count = |set: &BTreeSet<NodeId>| (set.intersection(self.reached).count(), majority(set.len()));
        for (reachable, needed) in self.sets.iter().map(count) {
            if reachable < needed {
                return Err(Unsafe::NoMajorityNow { reachable, needed });
            }
        }
        let (reachable, needed) = count(after);
        if reachable < needed {
            return Err(Unsafe::NoMajorityAfter { reachable, needed });
        }
        let (now, after) =
            (fault_tolerance(self.intended, self.reached), fault_tolerance(after, self.reached));
        if after < now && !shrink { Err(Unsafe::LessTolerant { now, after }) } else { Ok(()) }
    }
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsafe::NoVoters => f.write_str("no voter would be left"),
            Unsafe::NoMajorityNow { reachable, needed } => {
                write!(f, "{reachable} of the current voters are reachable, and the change needs {needed}")
            }
            Unsafe::NoMajorityAfter { reachable, needed } => write!(
                f,
                "{reachable} of the resulting voters are reachable, and they would need {needed} for a quorum"
            ),
            Unsafe::LessTolerant { now, after } => {
                write!(f, "the cluster tolerates {now} more failures now, and would tolerate {after}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bits: u32) -> BTreeSet<NodeId> {
        (0..6).filter(|bit| bits & (1 << bit) != 0).map(NodeId).collect()
    }

    /// Every change among six managers, whoever of them is reachable.
    #[test]
    fn a_change_that_may_be_made_can_be_made_and_leaves_a_cluster_that_works() {
        let mut allowed = 0;
        for voters in 1..64u32 {
            for after in 0..64u32 {
                for reached in 0..64u32 {
                    let [voters, after, reached] = [voters, after, reached].map(set);
                    let votes =
                        Votes { sets: std::slice::from_ref(&voters), intended: &voters, reached: &reached };
                    let works = |set: &BTreeSet<NodeId>| {
                        !set.is_empty() && set.intersection(&reached).count() * 2 > set.len()
                    };
                    let can = works(&voters) && works(&after);
                    assert_eq!(
                        votes.may_become(&after, true).is_ok(),
                        can,
                        "{voters:?} {after:?} {reached:?}"
                    );
                    if votes.may_become(&after, false).is_ok() {
                        allowed += 1;
                        // Whoever could be lost before can be lost after.
                        let spare =
                            |set: &BTreeSet<NodeId>| set.intersection(&reached).count() - majority(set.len());
                        assert!(can && spare(&after) >= spare(&voters), "{voters:?} {after:?} {reached:?}");
                    }
                }
            }
        }
        assert!(allowed > 0);
    }

    #[test]
    fn what_operators_do_is_judged_as_they_expect() {
        let of = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        let judge = |voters: &[u64], after: &[u64], reached: &[u64]| {
            let (voters, reached) = (of(voters), of(reached));
            Votes { sets: std::slice::from_ref(&voters), intended: &voters, reached: &reached }
                .may_become(&of(after), false)
        };
        // Two of five are dead: one swap heals it.
        assert_eq!(judge(&[1, 2, 3, 4, 5], &[1, 2, 3, 6, 7], &[1, 2, 3, 6, 7]), Ok(()));
        // A dead one may go, a healthy one may not when another is dead.
        assert_eq!(judge(&[1, 2, 3], &[1, 2], &[1, 2]), Ok(()));
        let split = Unsafe::NoMajorityAfter { reachable: 1, needed: 2 };
        assert_eq!(judge(&[1, 2, 3], &[1, 3], &[1, 2]), Err(split));
        assert_eq!(judge(&[1, 2, 3], &[1, 2], &[1, 2, 3]), Err(Unsafe::LessTolerant { now: 1, after: 0 }));
        assert_eq!(judge(&[1, 2], &[1], &[1, 2]), Ok(()));
        assert_eq!(judge(&[1], &[], &[1]), Err(Unsafe::NoVoters));
        assert_eq!(
            judge(&[1, 2, 3], &[1, 2, 3, 4], &[1]),
            Err(Unsafe::NoMajorityNow { reachable: 1, needed: 2 })
        );
        // Half way from one set to another, both must agree.
        let (sets, intended, reached) = ([of(&[1, 2, 3]), of(&[1, 2, 4])], of(&[1, 2, 4]), of(&[1, 2]));
        let votes = Votes { sets: &sets, intended: &intended, reached: &reached };
        assert_eq!(votes.may_become(&intended, true), Ok(()));
        // A wish that cannot be done any more can be taken back.
        let (voters, intended) = ([of(&[1, 2, 3])], of(&[1, 3]));
        let votes = Votes { sets: &voters, intended: &intended, reached: &reached };
        assert_eq!(votes.may_become(&of(&[1, 2, 3]), false), Ok(()));
    }
}
