//! What became of open intents.

use super::planner::Planner;
use super::steps::Action;
use super::waiting::Wait;
use crate::failpoints::{Protection, is_left_out};
use crate::intent::{Intent, Outcome, Task};
use crate::limits::LONGEST_CALL;
use crate::plugin::PluginClass;
use crate::state::Lifecycle;
use crate::tags;
use crate::time::Timestamp;

impl Planner<'_> {
    /// Open intents that nobody here is calling for: after a new leader, or an unsure answer.
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

    /// What a look says about an open intent; without an answer, perhaps a repeat.
    ///
    /// A repeat never makes a second intent: it has the same name, and waits until the first call
    /// can no longer take effect unless the plugin knows the token again.
    fn settle(&mut self, intent: &Intent) -> Option<Outcome> {
        let template = intent.task.template();
        let unsure = self.observed.unsure.get(&intent.id);
        if is_left_out(Protection::Settling) && matches!(intent.task, Task::Provision { .. }) {
            return Some(Outcome::Refused { message: "nobody looked".into(), retryable: true });
        }
        let message = unsure.map_or_else(
            || "an earlier leader began it, and its outcome is not known".to_owned(),
            |unsure| unsure.message.clone(),
        );
        let retry_at = unsure.map_or(Timestamp(0), |unsure| unsure.retry_at);
        let Some(view) = self.view_of(template) else {
            self.plan.waits.push(Wait::Listing { plugin: self.plugin_of(template).clone() });
            return None;
        };
        match &intent.task {
            Task::Provision { slot, .. } => {
                if let Some(instance) = view.by_intent.get(&intent.id) {
                    return Some(Outcome::Done(instance.clone()));
                }
                let ended_at = unsure.map_or(self.observed.leading_since, |unsure| unsure.ended_at);
                if view.guarantees.class == PluginClass::D {
                    let over = ended_at + LONGEST_CALL;
                    self.plan.waits.push(if view.taken_at < over {
                        Wait::Settling { intent: intent.id, until: over, message }
                    } else {
                        Wait::Operator { intent: intent.id, slot: slot.clone(), message }
                    });
                    return None;
                }
                // What it promises to list within a time may come as late after the call.
                let lag = view.guarantees.lists_within.unwrap_or_default();
                let over = ended_at + LONGEST_CALL + lag;
                let proven = view.guarantees.class.dedupes() && view.after >= intent.admitted;
                if !proven && view.taken_at < over {
                    self.plan.waits.push(Wait::Settling { intent: intent.id, until: over, message });
                    self.wake(over);
                } else if self.was_filled_since(intent, slot) {
                    // What was lost with the lineage before had gone further: its instance is taken in.
                    let message = "its slot was filled since, in the lineage before".to_owned();
                    return Some(Outcome::Refused { message, retryable: true });
                } else {
                    self.repeat_from(retry_at, intent, message);
                }
                None
            }
            Task::Destroy { instance, .. } => {
                // A listing may lag behind, and hide whom it should show. Nothing hurries here, and whoever
                // is taken for gone and is not is lost, so it must go on as long as for many.
                if view.after >= intent.admitted && self.is_surely_gone(instance, view) {
                    return Some(Outcome::Done(instance.clone()));
                }
                // Destroying by id is harmless however often it is done.
                self.repeat_from(retry_at, intent, message);
                None
            }
            Task::Label { instance, .. } => {
                let hash = &self.group.template_of(template).hash;
                let seen = view.seen.get(instance);
                if seen.and_then(|seen| seen.tag(tags::CONFIG_HASH)) == Some(hash) {
                    return Some(Outcome::Done(instance.clone()));
                }
                // A label that is late does no harm: nobody has to wait for it.
                let unwanted = self.group.lifecycle != Lifecycle::Managed;
                if unwanted || seen.is_none() && view.after >= intent.admitted {
                    let message = "it is not there, or not wanted any more".to_owned();
                    return Some(Outcome::Refused { message, retryable: true });
                }
                // Labelling again changes nothing.
                self.repeat_from(retry_at, intent, message);
                None
            }
        }
    }

    /// Attempts an intent again, or says until when it waits.
    fn repeat_from(&mut self, retry_at: Timestamp, intent: &Intent, message: String) {
        if self.now < retry_at {
            self.plan.waits.push(Wait::Settling { intent: intent.id, until: retry_at, message });
            self.wake(retry_at);
        } else {
            self.plan.actions.push(Action::Repeat { intent: intent.id });
        }
    }
}
