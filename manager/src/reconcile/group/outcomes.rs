//! What calls came to, and how long to back off from what failed.

use std::collections::BTreeSet;
use std::time::Duration;

use model::answer::Denial;
use model::command::Verb;
use model::intent::Task;
use model::observed::{Backoff, HealthSample, Unsure};
use model::report::{Claim, Fact};
use model::{
    Change, GroupState, InstanceId, InstanceRef, IntentId, Millis, ObjectKey, Outcome, Revision, Slot,
    Timestamp,
};

use super::{Completion, FIRST_PAUSE, LAST_PAUSE, Reconciler, Refused};
use crate::world::{Notes, Rejection, World};

impl<W: World> Reconciler<W> {
    pub(super) fn take_completions(&mut self, group: &GroupState) {
        while let Ok(completion) = self.inbox.try_recv() {
            self.on_completion(completion, group);
        }
    }

    pub(super) fn on_completion(&mut self, completion: Completion, group: &GroupState) {
        let now = self.shared.clock.now();
        match completion {
            Completion::Performed(id, outcome, notes) => {
                match (&outcome, group.intents.get(&id).map(|intent| &intent.task)) {
                    (Outcome::Done(made), Some(task)) => self.take_notes(task, made, &notes, group),
                    // It may be gone, and then nobody else says how.
                    (Outcome::Unsure { .. }, Some(task @ Task::Destroy { instance, .. })) => {
                        self.take_notes(task, &instance.id, &notes, group);
                    }
                    (Outcome::Done(_) | Outcome::Refused { .. } | Outcome::Unsure { .. }, _) => {}
                }
                self.on_outcome(id, outcome, group, now);
            }
            Completion::Health(id, health, message) => {
                self.asking.remove(&id);
                let sample = match self.observed.health.get(&id) {
                    Some(known) if known.health == health => {
                        HealthSample { streak: known.streak.saturating_add(1), message, ..known.clone() }
                    }
                    Some(_) | None => HealthSample { health, since: now, streak: 1, message },
                };
                self.observed.health.insert(id, sample);
            }
            Completion::Started(instance, ended) => {
                self.starting.remove(&instance);
                if let Err(message) = &ended {
                    tracing::warn!(group = %self.id, %instance, %message, "a stopped member could not be started");
                } else {
                    tracing::info!(group = %self.id, %instance, "a stopped member was started");
                    // The group asks for it only since feature level 2.
                    self.remarks.push(Fact::Started { instance: instance.clone() });
                }
                self.shared.observers.poke(&instance.plugin);
                let message = ended.err().unwrap_or_else(|| "it was started a moment ago".into());
                self.hold_off(instance, group.target, now, &message);
            }
            Completion::Validated(revision, rejections) => self.on_validation(revision, &rejections, now),
        }
    }

    fn take_notes(&mut self, task: &Task, made: &InstanceId, notes: &Notes, group: &GroupState) {
        match task {
            Task::Provision { template, .. } => {
                let made = InstanceRef::new(group.plugin_of(*template), made);
                self.prepared.extend(notes.prepared.get().map(|tags| (made, tags.clone())));
            }
            // Programs until feature level 2 do not know it.
            Task::Destroy { instance, .. } if self.observed.bounds.level >= 2 => {
                let why = notes.not_drained.get().cloned();
                self.remarks
                    .extend(why.map(|message| Fact::NotDrained { instance: instance.clone(), message }));
            }
            Task::Destroy { .. } | Task::Label { .. } => {}
        }
    }

    /// What a listing shows is known from there, and of what is gone nobody asks.
    pub(super) fn forget_prepared(&mut self, group: &GroupState) {
        let unreported: BTreeSet<&InstanceId> = self
            .outcomes
            .iter()
            .filter_map(|(_, outcome)| match outcome {
                Outcome::Done(made) => Some(made),
                Outcome::Refused { .. } | Outcome::Unsure { .. } => None,
            })
            .collect();
        let observed = &self.observed;
        self.prepared.retain(|it, _| {
            observed.seen(it).is_none() && (group.occupied(it).is_some() || unreported.contains(&it.id))
        });
    }

    fn on_outcome(&mut self, id: IntentId, outcome: Outcome, group: &GroupState, now: Timestamp) {
        let outcome = self.with_doubt(group, id, outcome, now);
        let task = group.intents.get(&id).map(|intent| intent.task.clone());
        match &outcome {
            Outcome::Done(instance) => {
                self.on_done(task, instance, group, now);
                self.outcomes.push((id, outcome));
            }
            Outcome::Refused { message, .. } => {
                tracing::warn!(group = %self.id, intent = %id, %message, "the call was refused");
                match task {
                    Some(Task::Destroy { instance, slot, .. }) => {
                        self.refused
                            .entry(instance.clone())
                            .or_insert(Refused { since: now, last: now })
                            .last = now;
                        match slot {
                            Some(slot) => self.slot_failed(slot, group.target, now, message.clone()),
                            None => self.hold_off(instance, group.target, now, message),
                        }
                    }
                    Some(Task::Provision { slot, .. }) => {
                        self.slot_failed(slot, group.target, now, message.clone())
                    }
                    Some(Task::Label { instance, template }) => {
                        let instance = InstanceRef::new(group.plugin_of(template), &instance);
                        self.hold_off(instance, group.target, now, message);
                    }
                    None => {}
                }
                self.outcomes.push((id, outcome));
            }
            Outcome::Unsure { message } => {
                tracing::warn!(group = %self.id, intent = %id, %message, "the outcome of the call is unknown; nothing else is done for it before a listing");
                let attempt = group.intents.get(&id).map_or(1, |intent| intent.attempt);
                self.observed.in_flight.remove(&id);
                let retry_at = now + pause_after(attempt);
                let unsure = Unsure { ended_at: now, retry_at, message: message.clone() };
                self.observed.unsure.insert(id, unsure);
                for plugin in self.listings.keys() {
                    self.shared.observers.poke(plugin);
                }
            }
        }
    }

    fn on_done(&mut self, task: Option<Task>, instance: &InstanceId, group: &GroupState, now: Timestamp) {
        let Some(task) = task else { return };
        let instance = InstanceRef::new(group.plugin_of(task.template()), instance);
        match task {
            Task::Provision { slot, .. } if group.roster.slot_of(&instance).is_some() => {
                let message = format!("its plugin answered with {instance}, which holds a slot already");
                self.slot_failed(slot, group.target, now, message);
            }
            Task::Provision { slot, .. } | Task::Destroy { slot: Some(slot), .. } => {
                self.observed.backoff.remove(&slot);
                self.refused.remove(&instance);
            }
            // Some plugins say so and do nothing.
            Task::Label { .. } => self.hold_off(instance, group.target, now, "its label is not listed yet"),
            Task::Destroy { slot: None, .. } => drop(self.refused.remove(&instance)),
        }
    }

    fn on_validation(&mut self, revision: model::Revision, rejections: &[Rejection], now: Timestamp) {
        let told = rejections.iter().map(|Rejection { plugin, absent, message, .. }| {
            let verdict = if *absent { "is unavailable" } else { "rejects the spec" };
            format!("plugin `{plugin}` {verdict}: {message}")
        });
        self.observed.unaccepted = told.collect::<Vec<_>>().join("; ");
        if rejections.is_empty() {
            let change = Change::Object { key: ObjectKey::group(&self.id), verb: Verb::Accept(revision) };
            let (replica, command) = (self.shared.replica.clone(), self.command(change, now));
            let term = self.shared.term;
            self.tasks.spawn(async move {
                // If the proposal is lost, the group still waits, and is validated again.
                let _ = replica.propose(&command, Some(term)).await;
            });
        }
    }

    /// Backs off from an instance without a slot, longer after each failure in a row.
    fn hold_off(&mut self, instance: InstanceRef, template: Revision, now: Timestamp, message: &str) {
        let failures = self.strays.entry(instance.clone()).or_default();
        *failures += 1;
        let before = self.observed.held_off.get(&instance);
        let backoff = Backoff {
            since: before.map_or(now, |before| before.since),
            failures: *failures,
            template,
            until: now + pause_after(*failures),
            message: message.to_owned(),
        };
        self.observed.held_off.insert(instance, backoff);
    }

    /// The outcome of an attempt, given that earlier attempts may still take effect.
    fn with_doubt(&mut self, group: &GroupState, id: IntentId, outcome: Outcome, now: Timestamp) -> Outcome {
        let Some(intent) = group.intents.get(&id) else { return outcome };
        let (plugin, of) = match &intent.task {
            Task::Provision { template, .. } => (group.plugin_of(*template), None),
            Task::Destroy { instance, .. } => (&instance.plugin, Some(instance)),
            Task::Label { .. } => return outcome,
        };
        if let Outcome::Unsure { .. } = outcome {
            self.doubts.insert(id, now);
        }
        let ended_at = self.doubts.get(&id).copied().unwrap_or(self.observed.leading_since);
        // One that was destroyed by an earlier attempt is shown no more, and a refusal does not say otherwise.
        let view = self
            .observed
            .views
            .get(plugin)
            .filter(|view| of.is_none_or(|instance| view.seen.contains_key(&instance.id)));
        let looked_at = view
            .map_or(Timestamp(0), |view| view.taken_at - view.guarantees.lists_within.unwrap_or_default());
        outcome.given_doubt(intent.attempt, ended_at, looked_at)
    }

    /// What was denied is claimed again after a pause, unless the state that it was planned from was simply not the
    /// latest.
    pub(super) fn on_denial(&mut self, group: &GroupState, claim: &Claim, why: Denial, now: Timestamp) {
        tracing::debug!(group = %self.id, %why, "a claim was denied");
        if matches!(why, Denial::OtherTerm | Denial::OtherRevision | Denial::Paused) {
            return;
        }
        let message = format!("denied: {why}");
        // Groups that were planned at one moment share what the cluster allows: that is no failure of the slot.
        if let (
            Denial::TooManyOpen | Denial::Ceiling | Denial::SlotTaken | Denial::EnoughMembers,
            Claim::Provision { slot } | Claim::Replace { slot } | Claim::Destroy { slot: Some(slot), .. },
        ) = (&why, claim)
        {
            self.hold_slot(slot.clone(), group.target, 0, now, message);
            return;
        }
        match claim {
            Claim::Provision { slot } | Claim::Replace { slot } => {
                self.slot_failed(slot.clone(), group.target, now, message)
            }
            Claim::Destroy { slot: Some(slot), .. } => {
                self.slot_failed(slot.clone(), group.target, now, message)
            }
            Claim::Destroy { instance, slot: None, template, .. } => {
                self.hold_off(
                    InstanceRef::new(group.plugin_of(*template), instance),
                    group.target,
                    now,
                    &message,
                );
            }
            Claim::Label { instance } => {
                self.hold_off(
                    InstanceRef::new(group.plugin_of(group.target), instance),
                    group.target,
                    now,
                    &message,
                );
            }
        }
    }

    /// Backs off from a slot, longer after each failure in a row.
    fn slot_failed(&mut self, slot: Slot, template: Revision, now: Timestamp, message: String) {
        self.hold_slot(slot, template, 1, now, message);
    }

    /// The same, after as many more failures of this template.
    fn hold_slot(&mut self, slot: Slot, template: Revision, more: u32, now: Timestamp, message: String) {
        let before = self.observed.backoff.get(&slot).filter(|before| before.template == template);
        let (since, failures) = before.map_or((now, more), |before| (before.since, before.failures + more));
        let until = now + if more == 0 { FIRST_PAUSE } else { pause_after(failures) };
        self.observed.backoff.insert(slot, Backoff { since, failures, template, until, message });
    }

    /// For how long the end of the same instance was refused before.
    pub(super) fn refused_for(&mut self, task: &Task, now: Timestamp) -> Duration {
        let Task::Destroy { instance, .. } = task else { return Duration::ZERO };
        let since = self.refused.get(instance).map_or(now, |refused| refused.since);
        Duration::from_millis(now.since(since).0)
    }
}

/// Doubles with every failure, with a jitter of a fifth, so that many slots are not attempted again at
/// the same moment.
fn pause_after(failures: u32) -> Millis {
    let doubled = FIRST_PAUSE.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LAST_PAUSE.0);
    Millis(doubled * raft::between(80, 120) / 100)
}
