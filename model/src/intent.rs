//! A record written before a side effect, so that no crash can hide one.

use crate::ids::{Generation, InstanceId, InstanceRef, IntentId, LogIndex, Revision, Slot, Term};
use crate::limits::LONGEST_CALL;
use crate::time::Timestamp;

/// A side effect that was admitted and whose outcome is not yet known.
///
/// ```text
///            claimed                  Done, Refused
///  (nothing) --------> open (attempt n) ------------> closed
///                       |   ^
///                Unsure |   | repeated: same intent, same token, attempt n+1
///                       v   |
///                      searched for in listings
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub id: IntentId,
    pub task: Task,
    /// From 1.
    pub attempt: u32,
    /// The log index that admitted this attempt.
    pub admitted: LogIndex,
    /// The term of the leader that makes this attempt.
    pub term: Term,
    /// When this attempt was admitted.
    pub since: Timestamp,
}

/// What an intent is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    Provision {
        slot: Slot,
        generation: Generation,
        /// The revision whose template is used.
        template: Revision,
    },
    /// Drain an instance by its flavor, and destroy it.
    Destroy {
        instance: InstanceRef,
        /// The slot it holds; none for an instance of this cluster without a slot.
        slot: Option<Slot>,
        /// The revision whose plugins drain and destroy it.
        template: Revision,
        reason: Reason,
    },
    /// Tag an instance that was created by hand with the fingerprint of its group. Safe to repeat.
    Label {
        instance: InstanceId,
        /// The revision whose fingerprint it gets, and whose plugin lists it.
        template: Revision,
    },
}

/// Why an instance is destroyed: InfraKit's `Context.Reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Terminate,
    RollingUpdate,
}

/// The result of an attempt. A timeout is `Unsure`, never "not created".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded: this instance exists (provision), no longer exists (destroy), or has its label.
    Done(InstanceId),
    /// It was refused, and nothing was done.
    Refused { message: String, retryable: bool },
    /// It may have been done. Nothing else is done for it before a listing has been checked.
    Unsure { message: String },
}

impl Outcome {
    /// What the outcome of a provision means while an earlier attempt may still take effect: a refusal
    /// says only that *this* attempt did nothing. If the intent were closed now, its slot would be filled
    /// under another token, and the first call might still create a second instance.
    ///
    /// `ended_at` is when the earlier attempt ended here without a reply, `looked_at` when the latest
    /// listing began; that listing does not have the token, or the intent would be closed.
    #[must_use]
    pub fn given_doubt(self, attempt: u32, ended_at: Timestamp, looked_at: Timestamp) -> Outcome {
        match self {
            Outcome::Refused { message, .. } if attempt > 1 && looked_at < ended_at + LONGEST_CALL => {
                Outcome::Unsure { message }
            }
            Outcome::Done(_) | Outcome::Refused { .. } | Outcome::Unsure { .. } => self,
        }
    }
}

impl Task {
    pub fn template(&self) -> Revision {
        match self {
            Task::Provision { template, .. }
            | Task::Destroy { template, .. }
            | Task::Label { template, .. } => *template,
        }
    }

    pub fn slot(&self) -> Option<&Slot> {
        match self {
            Task::Provision { slot, .. } => Some(slot),
            Task::Destroy { slot, .. } => slot.as_ref(),
            Task::Label { .. } => None,
        }
    }
}

impl Reason {
    /// The text on the wire (plugin-protocol §8.2).
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Terminate => "terminate",
            Reason::RollingUpdate => "rolling_update",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_repeat_closes_nothing_while_the_first_call_may_still_take_effect() {
        let refused = || Outcome::Refused { message: "full".into(), retryable: true };
        let unsure = Outcome::Unsure { message: "full".into() };
        let (ended, over) = (Timestamp(1000), Timestamp(1000) + LONGEST_CALL);
        assert_eq!(refused().given_doubt(1, ended, ended), refused(), "a first attempt has no earlier one");
        assert_eq!(refused().given_doubt(2, ended, ended), unsure);
        assert_eq!(refused().given_doubt(2, ended, Timestamp(over.0 - 1)), unsure);
        assert_eq!(refused().given_doubt(2, ended, over), refused(), "a late look has shown nothing");
        let done = Outcome::Done("i".into());
        assert_eq!(done.clone().given_doubt(2, ended, ended), done);
    }
}
