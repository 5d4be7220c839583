//! Replaces members of older templates, one at a time.

use super::planner::{Desk, Living};
use super::steps::Action;
use super::waiting::Waiting;
use crate::ids::Revision;
use crate::intent::Reason;
use crate::limits::PULSE_EVERY;
use crate::observed::{Health, Pulse};
use crate::rollout::Phase;
use crate::spec::Gate;

impl<'a> Desk<'a> {
    /// Replaces members of older templates, one at a time, when all others are well.
    pub(super) fn roll(&mut self) {
        let Phase::Running { to } = self.group.phase else { return };
        let outdated: Vec<Living<'a>> =
            self.living.iter().filter(|living| living.template != to).cloned().collect();
        // A label changes nothing about who is there; whoever is about to be taken in does.
        let acts = |action: &Action| !matches!(action, Action::Label { .. });
        let quiet = self.open == 0
            && self.kept == 0
            && !self.plan.actions.iter().any(acts)
            && self.plan.gone.is_empty()
            && self.plan.adopt.is_empty();
        let complete = self.present == self.group.wanted();
        let all_ready = self.living.iter().all(|living| living.ready || living.template != to);
        if outdated.is_empty() {
            if quiet && complete && all_ready {
                self.plan.replaced = Some(to);
            }
            return;
        }
        let well = self.gate(to);
        // The health of the old is asked too, so that the sick among them go first. The shell limits
        // how often it really asks; the planner only says what it wants to know.
        self.wake(self.now + PULSE_EVERY);
        self.plan.ask.extend(outdated.iter().map(|old| (old.slot.clone(), old.instance.clone())));
        if quiet && complete && all_ready && well && self.rate_allows() && self.may_be_refilled() {
            let first = self.by_worth(outdated).remove(0);
            self.destroy(&first, Reason::RollingUpdate);
        }
    }

    /// Whether every member of the new template has been well for as long as was asked.
    fn gate(&mut self, to: Revision) -> bool {
        let gate = self.group.spec.updating.gate;
        let current: Vec<Living<'a>> =
            self.living.iter().filter(|living| living.template == to).cloned().collect();
        let mut all_well = true;
        for living in current.iter().filter(|living| living.ready) {
            self.wake(self.now + PULSE_EVERY);
            self.plan.ask.push((living.slot.clone(), living.instance.clone()));
            let pulse = self.observed.pulses.get(living.instance);
            let healthy = pulse.filter(|pulse| pulse.health == Health::Healthy);
            let well = match gate {
                // A member that was ready under an earlier leader is asked once more here.
                Gate::Once => healthy.is_some(),
                Gate::Count(count) => healthy.is_some_and(|pulse| pulse.streak >= count),
                Gate::Duration(span) => healthy.is_some_and(|pulse| self.now.since(pulse.since) >= span),
            };
            if !well {
                all_well = false;
                let because = match (pulse, gate) {
                    (Some(Pulse { health: Health::Healthy, streak, .. }), Gate::Count(count)) => {
                        format!("healthy {streak} of {count} times in a row")
                    }
                    (Some(Pulse { health: Health::Healthy, since, .. }), Gate::Duration(span)) => {
                        format!("healthy for {} of {span}", self.now.since(*since))
                    }
                    (Some(pulse), _) => pulse.because.clone(),
                    (None, _) => String::new(),
                };
                self.plan.waiting.push(Waiting::ForHealth {
                    slot: living.slot.clone(),
                    instance: living.instance.clone(),
                    because,
                });
            }
        }
        all_well
    }
}
