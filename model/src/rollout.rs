//! The progress of a group's rollout: its phase, and what the managers agree on about it.

use std::fmt;

use imbl::OrdSet;

use crate::command::Actor;
use crate::ids::{Generation, Revision, Slot};
use crate::time::Timestamp;

/// The phase of a group's rollout, replicated: a new leader has nothing to resume.
///
/// ```text
///   Succeeded --Target--> Running --AllReplaced--> Succeeded
///                         |  |  ^
///                         |  |  +-- Promote, by itself or by an operator
///                         |  +----> Baking: the canaries are watched
///                         |
///                         +-- too many failed, no progress, or an operator -->  Paused --resume--> Running
///                         |                                                       |
///                         +-- the same, where the group asks for a rollback --+   | abort
///                         |                                                   v   v
///                         |                                               RollingBack --AllReplaced--> RolledBack
///                         |                                                   |
///                         +-- no progress, and nothing is to be done --> Failed <-- no progress
/// ```
///
/// A commit with another template begins a new rollout from any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Members are being created, or replaced.
    Running { to: Revision },
    /// The canaries are there and healthy, and are watched.
    Baking { to: Revision },
    /// No further member is replaced until an operator says how it goes on.
    Paused { to: Revision },
    /// The template of before was declared again, for the reason in [`Rollout::cause`].
    RollingBack { to: Revision },
    /// Every desired member was ready at this template once. Remediation and scaling do not change it.
    Succeeded { at: Revision },
    /// Every desired member has the template of before.
    RolledBack { at: Revision },
    /// It has not got on for longer than it may, and nothing more is tried.
    Failed { to: Revision },
}

/// What the managers agree on about a rollout, beside its phase. Since feature level 2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rollout {
    /// When its target was declared.
    pub began: Timestamp,
    /// When its phase began.
    pub since: Timestamp,
    /// When a member became ready at the target last, or an operator resumed it.
    pub progressed: Timestamp,
    /// The canaries have proven the template, or there are none.
    pub promoted: bool,
    /// The new members that have failed.
    pub failed: OrdSet<(Slot, Generation)>,
    /// Why it is paused, rolls back, or has failed.
    pub cause: Option<Cause>,
    /// It takes another one back.
    pub back: bool,
    /// The latest revision whose rollout succeeded: what a rollback declares again.
    pub stable: Option<Revision>,
}

/// Why a rollout does not go on to its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// So many of its new members have failed.
    Failures(u32),
    /// No member became ready for longer than the group allows.
    NoProgress,
    /// An operator.
    Operator(Actor),
}

/// Why an operator cannot do that to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSteer {
    /// It is over.
    NotGoingOn,
    /// It is not paused, and has not failed.
    NotPaused,
    /// It has no canaries, or they are promoted already.
    NoCanary,
    /// The revision that it would go back to is not kept any more, or there is none with another template.
    NothingBefore,
}

impl NoSteer {
    /// The code, for the wire and for scripts.
    pub fn code(self) -> &'static str {
        match self {
            NoSteer::NotGoingOn => "NotGoingOn",
            NoSteer::NotPaused => "NotPaused",
            NoSteer::NoCanary => "NoCanary",
            NoSteer::NothingBefore => "NothingBefore",
        }
    }

    pub const ALL: [NoSteer; 4] =
        [NoSteer::NotGoingOn, NoSteer::NotPaused, NoSteer::NoCanary, NoSteer::NothingBefore];
}

impl fmt::Display for NoSteer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoSteer::NotGoingOn => "it has no rollout that goes on",
            NoSteer::NotPaused => "its rollout is not paused",
            NoSteer::NoCanary => "its rollout has no canaries that wait to be promoted",
            NoSteer::NothingBefore => {
                "no earlier revision with another template has been rolled out and is kept"
            }
        })
    }
}

impl Phase {
    /// The template that it leads to, or has led to.
    pub fn target(self) -> Revision {
        match self {
            Phase::Running { to }
            | Phase::Baking { to }
            | Phase::Paused { to }
            | Phase::RollingBack { to }
            | Phase::Failed { to } => to,
            Phase::Succeeded { at } | Phase::RolledBack { at } => at,
        }
    }

    /// Whether it is over, one way or the other.
    pub fn is_over(self) -> bool {
        match self {
            Phase::Succeeded { .. } | Phase::RolledBack { .. } | Phase::Failed { .. } => true,
            Phase::Running { .. }
            | Phase::Baking { .. }
            | Phase::Paused { .. }
            | Phase::RollingBack { .. } => false,
        }
    }

    /// The phase when this is the template that members should have.
    #[must_use]
    pub fn with_target(self, target: Revision) -> Phase {
        match self {
            Phase::Succeeded { at } | Phase::RolledBack { at } if at == target => self,
            Phase::Running { to }
            | Phase::Baking { to }
            | Phase::Paused { to }
            | Phase::RollingBack { to }
                if to == target =>
            {
                self
            }
            _ => Phase::Running { to: target },
        }
    }

    /// The phase when every desired member is ready at this template; one of another template changes nothing.
    #[must_use]
    pub fn when_all_replaced(self, at: Revision) -> Phase {
        match self {
            Phase::RollingBack { to } if to == at => Phase::RolledBack { at },
            Phase::Running { to } | Phase::Baking { to } | Phase::Paused { to } | Phase::Failed { to }
                if to == at =>
            {
                Phase::Succeeded { at }
            }
            _ => self,
        }
    }

    /// The phase when a member of another template was adopted: it is replaced by one of this template.
    #[must_use]
    pub fn when_outdated(self) -> Phase {
        match self {
            Phase::Succeeded { at } => Phase::Running { to: at },
            Phase::RolledBack { at } => Phase::RollingBack { to: at },
            _ => self,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Running { .. } => "Running",
            Phase::Baking { .. } => "Baking",
            Phase::Paused { .. } => "Paused",
            Phase::RollingBack { .. } => "RollingBack",
            Phase::Succeeded { .. } => "Succeeded",
            Phase::RolledBack { .. } => "RolledBack",
            Phase::Failed { .. } => "Failed",
        })
    }
}

impl Cause {
    /// The code, for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Cause::Failures(_) => "TooManyFailures",
            Cause::NoProgress => "ProgressDeadlineExceeded",
            Cause::Operator(_) => "ByOperator",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Failures(1) => f.write_str("a new member failed"),
            Cause::Failures(failed) => write!(f, "{failed} new members failed"),
            Cause::NoProgress => f.write_str("no new member became ready within its ProgressDeadline"),
            Cause::Operator(by) => write!(f, "by {by}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(of: Revision) -> [Phase; 7] {
        [
            Phase::Running { to: of },
            Phase::Baking { to: of },
            Phase::Paused { to: of },
            Phase::RollingBack { to: of },
            Phase::Succeeded { at: of },
            Phase::RolledBack { at: of },
            Phase::Failed { to: of },
        ]
    }

    #[test]
    fn only_the_current_target_can_succeed() {
        let (old, new) = (Revision(1), Revision(2));
        for phase in all(old) {
            assert_eq!(phase.with_target(new), Phase::Running { to: new }, "{phase}: another template");
            assert_eq!(phase.when_all_replaced(new), phase, "a late word about another target");
            let done = phase.when_all_replaced(old);
            assert!(done.is_over() && done.target() == old, "{phase}");
            assert_eq!(done.with_target(old), done, "declared once more");
            assert!(!done.when_outdated().is_over(), "{phase}: somebody of another template came");
        }
        assert_eq!(Phase::Failed { to: old }.with_target(old), Phase::Running { to: old }, "tried again");
    }
}
