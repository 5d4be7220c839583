//! Replaces members of older templates: one at a time, and the new one first where there is room for it.

use super::planner::{Planner, RunningMember};
use super::steps::Action;
use super::waiting::Wait;
use crate::ids::{Revision, Slot};
use crate::intent::Reason;
use crate::limits::{HEALTH_EVERY, SURGE};
use crate::observed::{Health, HealthSample};
use crate::rollout::Phase;
use crate::spec::HealthGate;
use crate::state::Member;

impl<'a> Planner<'a> {
    /// Takes the next step towards the target's template, when all others are well.
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
        let new_ready =
            self.running.iter().all(|running| running.health.is_settled() || running.template != to);
        if outdated.is_empty() {
            let all_ready = self.running.iter().all(RunningMember::is_ready);
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
        if !quiet || !new_ready || !well || self.ends_a_replacement(&outdated) {
            return;
        }
        if complete && self.rate_allows() {
            self.replace_next(outdated);
        }
    }

    /// Whether a slot is being taken over: then that is ended before another is begun. It changes nothing about how
    /// many there are, so nobody has to be complete for it.
    fn ends_a_replacement(&mut self, outdated: &[RunningMember<'a>]) -> bool {
        // An incoming one of a template that is not wanted any more has replaced nobody.
        let hosts = |it: &&RunningMember<'a>| self.observed.bounds.hosts.has(it.instance);
        if let Some(late) = outdated.iter().find(|it| it.incoming && !hosts(it)).cloned() {
            self.destroy(&late, Reason::RollingUpdate);
            return true;
        }
        let Some(old) = outdated.iter().find(|it| self.is_being_replaced(it.slot)).cloned() else {
            return false;
        };
        let next = self.group.roster.get(old.slot).and_then(Member::incoming_occupied);
        if next.is_some_and(|it| it.is_ready() && it.terminating.is_none()) {
            self.destroy(&old, Reason::RollingUpdate);
        }
        true
    }

    /// Everybody of the new template is well: the next of the old goes, or gets a successor first.
    fn replace_next(&mut self, outdated: Vec<RunningMember<'a>>) {
        let Some(first) = self.first_to_go(outdated) else { return };
        if self.hosts_a_manager(first.instance) {
            return;
        }
        let named = matches!(first.slot, Slot::Logical(_));
        let surges = self.observed.bounds.level >= 2
            && !named
            && self.ceiling > 0
            && self.incarnations < self.group.desired() + SURGE;
        if surges {
            if self.can_provision() && !self.is_held_back(first.slot) {
                self.plan.actions.push(Action::Replace { slot: first.slot.clone() });
            }
        } else if self.may_be_refilled() {
            self.destroy(&first, Reason::RollingUpdate);
        }
    }

    /// The sick first, for they cost no availability; the machines of managers last; then the lowest slots.
    fn first_to_go(&self, outdated: Vec<RunningMember<'a>>) -> Option<RunningMember<'a>> {
        outdated.into_iter().min_by_key(|it| {
            let hosts = self.observed.bounds.hosts.has(it.instance);
            (hosts, !self.is_sick(it), it.slot)
        })
    }

    /// Whether every member of the new template has been well for as long as was asked.
    fn gate(&mut self, to: Revision) -> bool {
        let gate = self.group.spec.updating.gate;
        let current: Vec<RunningMember<'a>> =
            self.running.iter().filter(|running| running.template == to).cloned().collect();
        let mut all_well = true;
        for running in current.iter().filter(|running| running.health.is_settled()) {
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
                self.plan.waits.push(Wait::Health {
                    slot: running.slot.clone(),
                    instance: running.instance.id.clone(),
                    message,
                });
            }
        }
        all_well
    }
}
