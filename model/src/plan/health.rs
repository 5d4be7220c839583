//! Who is asked how it is, and which answers are verdicts.

use std::collections::BTreeSet;

use super::evidence;
use super::planner::{Planner, RunningMember};
use super::waiting::Wait;
use crate::failpoints::{Protection, is_left_out};
use crate::ids::{InstanceRef, Slot};
use crate::limits::{ASKED_AT_REST, HEALTH_AGREES, HEALTH_AT_REST, HEALTH_EVERY, LARGEST_ROUND};
use crate::observed::{Backoff, Health, HealthSample, InstanceState};
use crate::plugin::PluginClass;
use crate::state::{Lifecycle, Verdict};
use crate::time::{Millis, Timestamp};

impl Planner<'_> {
    /// What the latest answers about a member come to; asks again whoever is not known to be well.
    pub(super) fn check_health(&mut self, member: &RunningMember<'_>) {
        if let Some(state) = self.not_running(member).filter(|_| !is_left_out(Protection::RunningIsReady)) {
            self.check_state(member, state);
            return;
        }
        match member.health {
            Verdict::Booting => self.await_health(member),
            Verdict::Ready => self.check_ready(member),
            Verdict::Unhealthy { since } => {
                let sample = self.sample_of(member.instance);
                if sample.is_some_and(|it| it.health == Health::Healthy && it.streak >= HEALTH_AGREES) {
                    self.plan.ready.push((member.slot.clone(), member.instance.clone()));
                    return;
                }
                let message = sample.map_or_else(String::new, |it| it.message.clone());
                self.plan.waits.push(Wait::Unhealthy {
                    slot: member.slot.clone(),
                    instance: member.instance.id.clone(),
                    since,
                    message,
                });
                self.ask(member.slot, member.instance);
            }
        }
    }

    /// Its plugin says that it does not run: it is not ready, whatever its flavor would say.
    fn check_state(&mut self, member: &RunningMember<'_>, state: &InstanceState) {
        let (slot, instance) = (member.slot.clone(), member.instance.clone());
        let listed_at = self.view_of(member.template).map_or(self.now, |view| view.taken_at);
        let since = match member.health {
            Verdict::Unhealthy { since } => since,
            // Not the managers' own word yet, whose programs do not know it.
            Verdict::Ready if self.observed.bounds.level >= 2 => {
                self.plan.unhealthy.push((slot.clone(), instance.clone(), listed_at));
                listed_at
            }
            Verdict::Ready | Verdict::Booting => listed_at,
        };
        let overdue = self.is_overdue(member, &state.to_string());
        let acts = self.group.lifecycle == Lifecycle::Managed && self.group.paused.is_none();
        if acts && self.group.spec.healing.start && state.can_be_started() {
            self.start(slot, instance, since, state);
            return;
        }
        if overdue {
            return;
        }
        self.plan.waits.push(Wait::NotRunning { slot, instance: instance.id, since, state: state.clone() });
    }

    /// Starts it, unless that was tried a moment ago.
    fn start(&mut self, slot: Slot, instance: InstanceRef, since: Timestamp, state: &InstanceState) {
        let (until, message) = match self.held_off(&instance) {
            Some(Backoff { until, message, .. }) => (Some(until), message),
            None => {
                self.plan.start.push(instance.clone());
                (None, String::new())
            }
        };
        let (instance, state) = (instance.id, state.clone());
        self.plan.waits.push(Wait::Start { slot, instance, since, state, until, message });
    }

    /// Whether it has not become ready by the deadline of its group; if so, the plan says what it said last.
    fn is_overdue(&mut self, member: &RunningMember<'_>, message: &str) -> bool {
        let Some(deadline) = self.group.spec.healing.boot_deadline else { return false };
        let Some(made) = self.group.occupied(member.instance).map(|it| it.since) else { return false };
        if member.health != Verdict::Booting {
            return false;
        }
        if evidence::age(self.observed, made, self.now) < deadline {
            self.wake(made.max(self.observed.leading_since) + deadline);
            return false;
        }
        self.plan.overdue.insert(member.instance.clone());
        self.plan.waits.push(Wait::Overdue {
            slot: member.slot.clone(),
            instance: member.instance.id.clone(),
            since: made,
            deadline,
            message: message.to_owned(),
        });
        true
    }

    fn sample_of(&self, instance: &InstanceRef) -> Option<&HealthSample> {
        self.observed.health.get(instance)
    }

    fn ask(&mut self, slot: &Slot, instance: &InstanceRef) {
        self.wake(self.now + HEALTH_EVERY);
        self.plan.ask.push((slot.clone(), instance.clone()));
    }

    fn await_health(&mut self, member: &RunningMember<'_>) {
        let (slot, instance) = (member.slot, member.instance);
        // Who was never listed by a plugin that proves nothing is not believed to be there, whatever its
        // flavor says; and which plugin that is, a listing tells.
        let unseen = self.view_of(member.template).is_none_or(|view| {
            view.guarantees.class == PluginClass::D && !view.seen.contains_key(&instance.id)
        });
        if self.health_of(instance) == Health::Healthy && !unseen {
            self.plan.ready.push((slot.clone(), instance.clone()));
            return;
        }
        let sample = self.sample_of(instance).map_or("", |sample| &sample.message);
        let message = if unseen { "its plugin has not listed it yet" } else { sample }.to_owned();
        let (slot, instance) = (slot.clone(), instance.clone());
        if !self.is_overdue(member, &message) {
            self.plan.waits.push(Wait::Health { slot: slot.clone(), instance: instance.id.clone(), message });
        }
        self.plan.ask.push((slot, instance));
    }

    /// A member that was ready last: one bad answer is asked about again, and the next makes a verdict.
    fn check_ready(&mut self, member: &RunningMember<'_>) {
        let Some(sample) = self.sample_of(member.instance) else { return };
        match sample.health {
            Health::Healthy | Health::Unknown => {}
            // Not the managers' own word yet, whose programs do not know it.
            Health::Unhealthy if sample.streak >= HEALTH_AGREES && self.observed.bounds.level >= 2 => {
                let verdict = (member.slot.clone(), member.instance.clone(), sample.since);
                self.plan.unhealthy.push(verdict);
            }
            Health::Unhealthy => self.ask(member.slot, member.instance),
        }
    }

    /// Everybody else is asked in turn: a small group every ten seconds, a large one as often as is cheap, so that
    /// nobody is called ready for long who is not.
    pub(super) fn patrol(&mut self) {
        // Counted first, and listed only when somebody is to be asked: this is a part of every plan.
        let ready = self.running.iter().filter(|it| it.is_ready()).count();
        if ready == 0 {
            return;
        }
        let batch = ready.min(LARGEST_ROUND);
        let share = HEALTH_AT_REST.0 * batch as u64 / ready as u64;
        let cheap = 1000 * batch as u64 / ASKED_AT_REST as u64;
        let every = if batch == ready { HEALTH_AT_REST } else { Millis(share.max(cheap)) };
        let due = self.observed.patrolled_at + every;
        if self.now < due {
            self.wake(due);
            return;
        }
        let asked: BTreeSet<&InstanceRef> = self.plan.ask.iter().map(|(_, instance)| instance).collect();
        let resting: Vec<&RunningMember<'_>> = self
            .running
            .iter()
            .filter(|it| it.is_ready() && !asked.contains(it.instance) && self.not_running(it).is_none())
            .collect();
        let last = self.observed.patrolled.as_ref();
        let from = last.map_or(0, |last| resting.partition_point(|it| it.slot <= last));
        let turn = resting.iter().cycle().skip(from).take(resting.len().min(batch));
        self.plan.patrol = turn.map(|it| (it.slot.clone(), it.instance.clone())).collect();
        self.wake(self.now + every);
    }
}
