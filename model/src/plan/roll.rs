//! Replaces members of older templates, one at a time.

use super::planner::{Planner, RunningMember};
use super::steps::Action;
use super::waiting::Waiting;
use crate::ids::Revision;
use crate::intent::Reason;
use crate::limits::HEALTH_EVERY;
use crate::observed::{Health, HealthSample};
use crate::rollout::Phase;
use crate::spec::HealthGate;

impl<'a> Planner<'a> {
    /// Replaces members of older templates, one at a time, when all others are well.
    pub(super) fn roll(&mut self) {
        let Phase::Running { to } = self.group.phase else { return };
        let outdated: Vec<RunningMember<'a>> =
            self.running.iter().filter(|running| running.template != to).cloned().collect();
        // A label changes nothing about who is there; whoever is about to be taken in does.
        let acts = |action: &Action| !matches!(action, Action::Label { .. });
        let quiet = self.open == 0
            && self.kept == 0
            && !self.plan.actions.iter().any(acts)
            && self.plan.gone.is_empty()
            && self.plan.adopt.is_empty();
        let complete = self.present == self.group.desired();
        let all_ready = self.running.iter().all(|running| running.ready || running.template != to);
        if outdated.is_empty() {
            if quiet && complete && all_ready {
                self.plan.replaced = Some(to);
            }
            return;
        }
        let well = self.gate(to);
        // The health of the old is asked too, so that the sick among them go first. The shell limits
        // how often it really asks; the planner only says what it wants to know.
        self.wake(self.now + HEALTH_EVERY);
        self.plan.ask.extend(outdated.iter().map(|old| (old.slot.clone(), old.instance.clone())));
        if quiet && complete && all_ready && well && self.rate_allows() && self.may_be_refilled() {
            let first = self.by_worth(outdated).remove(0);
            self.destroy(&first, Reason::RollingUpdate);
        }
    }

    /// Whether every member of the new template has been well for as long as was asked.
    fn gate(&mut self, to: Revision) -> bool {
        let gate = self.group.spec.updating.gate;
        let current: Vec<RunningMember<'a>> =
            self.running.iter().filter(|running| running.template == to).cloned().collect();
        let mut all_well = true;
        for running in current.iter().filter(|running| running.ready) {
            self.wake(self.now + HEALTH_EVERY);
            self.plan.ask.push((running.slot.clone(), running.instance.clone()));
            let sample = self.observed.health.get(running.instance);
            let healthy = sample.filter(|sample| sample.health == Health::Healthy);
            let well = match gate {
                // A member that was ready under an earlier leader is asked once more here.
                HealthGate::Once => healthy.is_some(),
                HealthGate::Count(count) => healthy.is_some_and(|sample| sample.streak >= count),
                HealthGate::Duration(span) => {
                    healthy.is_some_and(|sample| self.now.since(sample.since) >= span)
                }
            };
            if !well {
                all_well = false;
                let message = match (sample, gate) {
                    (
                        Some(HealthSample { health: Health::Healthy, streak, .. }),
                        HealthGate::Count(count),
                    ) => {
                        format!("healthy {streak} of {count} times in a row")
                    }
                    (
                        Some(HealthSample { health: Health::Healthy, since, .. }),
                        HealthGate::Duration(span),
                    ) => {
                        format!("healthy for {} of {span}", self.now.since(*since))
                    }
                    (Some(sample), _) => sample.message.clone(),
                    (None, _) => String::new(),
                };
                self.plan.waiting.push(Waiting::ForHealth {
                    slot: running.slot.clone(),
                    instance: running.instance.clone(),
                    message,
                });
            }
        }
        all_well
    }
}
