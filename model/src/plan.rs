//! Decides what to do next for one group.

mod adopt;
mod cattle;
mod evidence;
mod operator;
mod pets;
mod planner;
mod presence;
mod roll;
mod settle;
mod steps;
mod waiting;

use planner::Desk;

use crate::limits::{LARGEST_BATCH, PULSE_EVERY};
use crate::observed::Observed;
use crate::spec::Allocation;
use crate::state::{GroupState, Life};
use crate::time::Timestamp;

pub use evidence::see;
pub use operator::{Unasked, operators_word};
pub use steps::{Action, Plan};
pub use waiting::{Condition, Waiting};

/// The next steps for a group, in order. Empty means the group is as desired.
///
/// Called again after every step, with whatever is then observed.
pub fn plan(group: &GroupState, observed: &Observed, now: Timestamp) -> Plan {
    let mut desk = Desk::open(group, observed, now);
    desk.report_strangers();
    desk.settle_intents();
    desk.check_members();
    match group.life {
        Life::PendingValidation => {
            desk.plan.waiting.push(Waiting::ForValidation { because: observed.unaccepted.clone() });
        }
        Life::Managed => {
            desk.take_in();
            match &group.spec.allocation {
                Allocation::Size(size) => desk.size(*size as usize),
                Allocation::LogicalIds(ids) => desk.names(ids),
            }
            desk.roll();
        }
        Life::Destroying => desk.clear_out(),
    }
    let complete = desk.present == group.wanted() && group.outdated().next().is_none();
    if observed.bounds.open == 0 && !complete {
        // Whoever makes room does not say so here.
        desk.wake(now + PULSE_EVERY);
        desk.plan.waiting.push(Waiting::ForOthers);
    }
    // Only new work is bounded: a repeat opens no intent, and must be possible however many are open.
    let repeats = desk.plan.actions.iter().take_while(|it| matches!(it, Action::Repeat { .. })).count();
    let most = if repeats >= LARGEST_BATCH { LARGEST_BATCH } else { repeats + desk.room };
    desk.plan.actions.truncate(most);
    desk.plan
}

#[cfg(test)]
mod tests;
