//! Closes open intents by their outcome, or by the evidence of listings.

use super::planner::Planner;
use super::steps::Action;
use super::waiting::Wait;
use crate::failpoints::{Protection, is_left_out};
use crate::ids::Slot;
use crate::intent::{Intent, Outcome, Task};
use crate::limits::{HEALTH_EVERY, LONGEST_CALL, UNPROMISED_LAG};
use crate::observed::View;
use crate::plugin::{Guarantees, PluginClass};
use crate::state::Lifecycle;
use crate::tags;
use crate::time::{Millis, Timestamp};

impl Planner<'_> {
    /// Settles open intents without a call under way: those of earlier leaders, and those with an unsure outcome.
    pub(super) fn settle_intents(&mut self) {
        let mut under_way = 0;
        for intent in self.group.intents.values() {
            if self.observed.in_flight.contains(&intent.id) {
                under_way += 1;
                continue;
            }
            match self.settle(intent) {
                Some(outcome) => {
                    self.open -= 1;
                    self.plan.outcomes.push((intent.id, outcome));
                }
                None => under_way += 1,
            }
        }
        if under_way > 0 {
            self.plan.waits.push(Wait::Calls { open: under_way });
        }
    }

    /// The outcome of an open intent, by the latest listing; without one, perhaps another attempt.
    ///
    /// Another attempt is not a second intent: it has the same token, and waits until the first call
    /// can no longer take effect, unless the plugin creates no second instance for a token.
    fn settle(&mut self, intent: &Intent) -> Option<Outcome> {
        let template = intent.task.template();
        let unsure = self.observed.unsure.get(&intent.id);
        if is_left_out(Protection::Settling) && matches!(intent.task, Task::Provision { .. }) {
            return Some(Outcome::Refused { message: "no listing was checked".into(), retryable: true });
        }
        let message = unsure.map_or_else(
            || "an earlier leader made the call, and its reply is lost".to_owned(),
            |unsure| unsure.message.clone(),
        );
        let retry_at = unsure.map_or(Timestamp(0), |unsure| unsure.retry_at);
        let plugin = match &intent.task {
            Task::Destroy { instance, .. } => &instance.plugin,
            Task::Provision { .. } | Task::Label { .. } => self.plugin_of(template),
        };
        let Some(view) = self.observed.views.get(plugin).map(|view| &**view) else {
            self.plan.waits.push(Wait::Listing { plugin: plugin.clone() });
            return None;
        };
        match &intent.task {
            Task::Provision { slot, .. } => self.settle_provision(intent, slot, view, message),
            Task::Destroy { instance, .. } => {
                // A listing may lag behind, and lack an instance that exists. There is no hurry here, and an
                // instance that is wrongly considered gone is lost, so it needs as much evidence as many do.
                if view.after >= intent.admitted && self.is_surely_gone(instance, view) {
                    return Some(Outcome::Done(instance.id.clone()));
                }
                if self.group.lifecycle == Lifecycle::Releasing {
                    let ended_at = unsure.map_or(self.observed.leading_since, |unsure| unsure.ended_at);
                    return self.given_up_at(ended_at + LONGEST_CALL, view, intent, message);
                }
                // Destroying by id is safe to repeat.
                self.repeat_from(retry_at, intent, message);
                None
            }
            Task::Label { instance, .. } => {
                let hash = &self.group.template_of(template).hash;
                let seen = view.seen.get(instance);
                if seen.and_then(|seen| seen.tag(tags::CONFIG_HASH)) == Some(hash) {
                    return Some(Outcome::Done(instance.clone()));
                }
                // A label that takes effect late does no harm: there is no need to wait for it.
                let unwanted = self.group.lifecycle != Lifecycle::Managed;
                if unwanted || seen.is_none() && view.after >= intent.admitted {
                    let message =
                        "it is no longer listed, or its group is being validated or destroyed".to_owned();
                    return Some(Outcome::Refused { message, retryable: true });
                }
                // Labelling again changes nothing.
                self.repeat_from(retry_at, intent, message);
                None
            }
        }
    }

    fn settle_provision(
        &mut self,
        intent: &Intent,
        slot: &Slot,
        view: &View,
        message: String,
    ) -> Option<Outcome> {
        let unsure = self.observed.unsure.get(&intent.id);
        let ended_at = unsure.map_or(self.observed.leading_since, |unsure| unsure.ended_at);
        let guarantees = view.guarantees;
        if let Some(instance) = view.by_intent.get(&intent.id) {
            let from = ended_at + shown_before_it_counts(guarantees, intent, unsure.is_some());
            if view.taken_at >= from || is_left_out(Protection::LateEvidence) {
                return Some(Outcome::Done(instance.clone()));
            }
            // One that knows the token is asked again, and its answer counts at once.
            if !guarantees.class.dedupes() {
                self.settles_at(from, intent, message);
                return None;
            }
        } else if guarantees.class == PluginClass::C && (!view.untagged.is_empty() || view.has_unreadable) {
            // What carries the token cannot be told: an operator may, if the tags stay away.
            let message = format!("{message}; its plugin lists instances without their tags");
            let over = ended_at + LONGEST_CALL;
            if view.taken_at < over {
                self.settles_at(over, intent, message);
            } else {
                self.wake(self.now + HEALTH_EVERY);
                self.plan.waits.push(Wait::Operator { intent: intent.id, slot: slot.clone(), message });
            }
            return None;
        }
        if guarantees.class == PluginClass::D {
            let over = ended_at + LONGEST_CALL;
            self.plan.waits.push(if view.taken_at < over {
                Wait::Settling { intent: intent.id, until: over, message }
            } else {
                Wait::Operator { intent: intent.id, slot: slot.clone(), message }
            });
            return None;
        }
        // An instance may be listed as late after the call as the listing lag of the plugin allows.
        let over = ended_at + LONGEST_CALL + guarantees.lists_within.unwrap_or_default();
        if self.group.lifecycle == Lifecycle::Releasing {
            // Nothing is made for a group that is to be forgotten.
            return self.given_up_at(over, view, intent, message);
        }
        let proven = guarantees.class.dedupes() && view.after >= intent.admitted;
        if !proven && view.taken_at < over {
            self.settles_at(over, intent, message);
        } else if self.was_filled_since(intent, slot) {
            // The log entries that were lost in the recovery went further: their instance is adopted.
            let message =
                "the slot was filled by a later call, whose record was lost when the cluster was recovered";
            return Some(Outcome::Refused { message: message.to_owned(), retryable: true });
        } else {
            self.repeat_from(unsure.map_or(Timestamp(0), |unsure| unsure.retry_at), intent, message);
        }
        None
    }

    /// An intent of a group that is released is not attempted again: it ends when its call can no longer take effect.
    fn given_up_at(
        &mut self,
        over: Timestamp,
        view: &View,
        intent: &Intent,
        message: String,
    ) -> Option<Outcome> {
        if view.taken_at >= over {
            let message = "it is not attempted again: its group is released".to_owned();
            return Some(Outcome::Refused { message, retryable: false });
        }
        self.settles_at(over, intent, message);
        None
    }

    fn settles_at(&mut self, until: Timestamp, intent: &Intent, message: String) {
        self.plan.waits.push(Wait::Settling { intent: intent.id, until, message });
        self.wake(until);
    }

    /// Attempts an intent again, or says until when it waits.
    fn repeat_from(&mut self, retry_at: Timestamp, intent: &Intent, message: String) {
        if self.now < retry_at {
            self.settles_at(retry_at, intent, message);
        } else {
            self.plan.actions.push(Action::Repeat { intent: intent.id });
        }
    }
}

/// How long after an attempt a listing must have begun for the instance that it shows to be what the attempt made, and
/// not half of it: an attempt of an earlier leader may still be under way.
fn shown_before_it_counts(guarantees: Guarantees, intent: &Intent, ended_here: bool) -> Millis {
    match guarantees.class {
        // It is asked again first; what hangs also then is believed by its listing.
        PluginClass::A | PluginClass::B if intent.attempt == 1 => LONGEST_CALL,
        PluginClass::C if ended_here => guarantees.shows_the_past(),
        _ => guarantees.shows_the_past().max(UNPROMISED_LAG),
    }
}
