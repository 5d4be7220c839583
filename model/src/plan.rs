//! Decides what to do next for one group.

mod adopt;
mod allocate;
mod evidence;
mod health;
mod operator;
mod planner;
mod presence;
mod rollout;
mod settle;
mod steps;
mod waiting;

use planner::Planner;

use crate::limits::{HEALTH_EVERY, LARGEST_BATCH};
use crate::observed::Observed;
use crate::spec::Allocation;
use crate::state::{GroupState, Lifecycle};
use crate::time::Timestamp;

pub use evidence::see;
pub use operator::{NoStray, Unasked, is_own_stray, operators_word, word_on_strays};
pub use steps::{Action, Plan};
pub use waiting::{Anomaly, Wait};

/// The next steps for a group, in order. Empty means the group is as desired.
///
/// Called again after every step, with whatever is then observed.
pub fn plan(group: &GroupState, observed: &Observed, now: Timestamp) -> Plan {
    let mut planner = Planner::open(group, observed, now);
    planner.report_strangers();
    planner.settle_intents();
    planner.check_members();
    if let Some(paused) = &group.paused {
        if group.lifecycle == Lifecycle::Managed {
            // For the strays among them.
            planner.take_in();
        }
        planner.plan.bound();
        return planner.at_rest(paused);
    }
    match group.lifecycle {
        Lifecycle::PendingValidation => {
            planner.plan.waits.push(Wait::Validation { message: observed.unaccepted.clone() });
        }
        Lifecycle::Managed => {
            planner.take_in();
            match &group.spec.allocation {
                Allocation::Size(size) => planner.size(*size as usize),
                Allocation::LogicalIds(ids) => planner.names(ids),
            }
            planner.roll();
        }
        Lifecycle::Destroying => planner.clear_out(),
        Lifecycle::Releasing => {
            planner.plan.finished = planner.open == 0 && planner.plan.outcomes.is_empty();
        }
    }
    planner.patrol();
    let complete = planner.present == group.desired() && group.outdated().next().is_none();
    if observed.bounds.open == 0 && !complete {
        // Whoever makes room does not say so here.
        planner.wake(now + HEALTH_EVERY);
        planner.plan.waits.push(Wait::Others);
    }
    // What one report carries is bounded too: the rest follows in the next.
    planner.plan.bound();
    // Only new work is bounded: a repeat opens no intent, and must be possible however many are open.
    let repeats = planner.plan.actions.iter().take_while(|it| matches!(it, Action::Repeat { .. })).count();
    let most = if repeats >= LARGEST_BATCH { LARGEST_BATCH } else { repeats + planner.room };
    planner.plan.actions.truncate(most);
    planner.plan
}

#[cfg(test)]
mod tests;
