//! Applies the report of a reconciler: facts first, then claims.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::State;
use super::context::Context;
use super::group::{GroupState, Lifecycle};
use super::slot::{Incarnation, Member, Occupied, Verdict};
use crate::answer::{Admission, Answer, Denial};
use crate::bounds::Bounds;
use crate::command::Verb;
use crate::event::Kind;
use crate::failpoints::{Protection, is_left_out};
use crate::ids::{GroupId, InstanceId, InstanceRef, IntentId, Revision, Slot};
use crate::intent::{Intent, Outcome, Task};
use crate::report::{Adoption, Fact, Report};
use crate::time::Timestamp;

impl State {
    pub(super) fn report(&mut self, context: &mut Context<'_>, report: &Report) -> Answer {
        let denied = |why| Answer::Admitted(vec![Admission::Denied(why); report.claims.len()]);
        if context.log.term != report.term {
            return denied(Denial::OtherTerm);
        }
        let Some(id) = report.key.as_group() else { return denied(Denial::GroupNotManaged) };
        let mut bounds =
            if report.claims.is_empty() { Bounds::default() } else { self.bounds(context.log.index, &id) };
        let Some(group) = self.groups.get_mut(&id) else {
            return denied(Denial::GroupNotManaged);
        };
        let group = Arc::make_mut(group);
        if report.outcomes().next().is_some() {
            group.forget_destroyed(context.at);
        }
        let before = group.revision;
        let current = report.revision == group.revision || is_left_out(Protection::Admission);
        let mut held = group.held_of(context, report.outcomes());
        for fact in &report.facts {
            group.learn(context, &id, fact, current, &mut held, &mut bounds);
        }
        let mut answers = Vec::with_capacity(report.claims.len());
        // A rollback among the facts is a revision of its own.
        let current = current && group.revision == before;
        for (offset, claim) in report.claims.iter().enumerate() {
            let intent = IntentId { index: context.log.index, offset: offset as u32 };
            let admitted = if current {
                group.admit(context, intent, claim, &mut bounds)
            } else {
                Err(Denial::OtherRevision)
            };
            answers.push(match admitted {
                Ok(()) => Admission::Granted(intent),
                Err(denial) => Admission::Denied(denial),
            });
        }
        if group.paused.is_none() {
            group.repeat(context, &report.repeats);
        }
        group.forget_templates();
        if group.revision != before {
            self.revisions.insert(report.key.clone(), group.revision);
        }
        let emptied = report.facts.contains(&Fact::Emptied);
        if emptied && group.lifecycle == Lifecycle::Destroying && group.is_empty() {
            self.groups.remove(&id);
            context.emit(Some(&id), Kind::GroupDestroyed, "it has no instances left, and is removed");
        } else if emptied && group.lifecycle == Lifecycle::Releasing && group.intents.is_empty() {
            let left = format!("{} instances are left as they are", group.running());
            self.groups.remove(&id);
            context.emit(Some(&id), Kind::Object(Verb::Release), left);
        }
        Answer::Admitted(answers)
    }
}

impl GroupState {
    fn learn(
        &mut self,
        context: &mut Context<'_>,
        id: &GroupId,
        fact: &Fact,
        current: bool,
        held: &mut BTreeSet<InstanceRef>,
        bounds: &mut Bounds,
    ) {
        match fact {
            Fact::Outcome(intent, outcome) => self.close(context, id, *intent, outcome, held),
            Fact::NotDrained { instance, message } => {
                let what = format!("{instance} is destroyed without its drain: {message}");
                context.emit(Some(id), Kind::InstanceNotDrained, what);
            }
            Fact::Started { instance } => {
                let what = format!("{instance} had stopped, and was started again");
                context.emit(Some(id), Kind::InstanceStarted, what);
            }
            Fact::Gone { slot, instance } => self.lose(context, id, slot, instance),
            Fact::Ready { slot, instance } => self.ready(context, id, slot, instance),
            Fact::Unhealthy { slot, instance, since } => {
                self.unhealthy(context, id, slot, instance, *since);
            }
            Fact::Adopted(adoption) => {
                if current && self.adopt(context, id, adoption, false) {
                    bounds.instances = bounds.instances.saturating_sub(1);
                }
            }
            Fact::MembersKnown => self.declared_again = None,
            Fact::AllReplaced(at) => self.all_replaced(context, id, *at),
            Fact::Rollout { to, finding } => self.found(context, id, *to, finding),
            // It counts after everything else has been applied: see `report`.
            Fact::Emptied => {}
        }
    }

    fn repeat(&mut self, context: &Context<'_>, repeats: &[IntentId]) {
        for intent in repeats {
            if let Some(open) = self.intents.get_mut(intent) {
                open.attempt += 1;
                open.admitted = context.log.index;
                open.term = context.log.term;
                open.since = context.at;
            }
        }
    }

    /// The instances among the outcomes that are in a slot before any of them is applied.
    pub(super) fn held_of<'o>(
        &self,
        context: &Context<'_>,
        outcomes: impl Iterator<Item = (IntentId, &'o Outcome)>,
    ) -> BTreeSet<InstanceRef> {
        let made = outcomes.filter_map(|(intent, outcome)| {
            let Outcome::Done(instance) = outcome else { return None };
            Some(self.named_by(context, self.intents.get(&intent)?.task.template(), instance))
        });
        made.filter(|instance| self.holds(instance, context.level)).collect()
    }

    /// The instance that a plugin means by this id, as it is compared with others: before feature level 2, whatever
    /// the plugin.
    fn named_by(&self, context: &Context<'_>, template: Revision, id: &InstanceId) -> InstanceRef {
        if context.level < 2 {
            return InstanceRef::of_any_plugin(id);
        }
        InstanceRef::new(self.plugin_of(template), id)
    }

    /// Closes an intent, unless its outcome is unsure. `held` are instances that may not hold another slot.
    pub(super) fn close(
        &mut self,
        context: &mut Context<'_>,
        id: &GroupId,
        intent: IntentId,
        outcome: &Outcome,
        held: &mut BTreeSet<InstanceRef>,
    ) {
        let done = match outcome {
            Outcome::Unsure { .. } => return,
            Outcome::Done(instance) => Ok(instance),
            Outcome::Refused { message, .. } => Err(message),
        };
        // What is not open was closed before: a repeated report changes nothing.
        let Some(open) = self.intents.remove(&intent) else { return };
        if open.attempt > 1 && matches!(open.task, Task::Provision { .. }) {
            self.remember_repeated(intent, done.ok().cloned());
        }
        // A refused provision may have been half made, and be shown for a while: listings from here on count.
        if done.is_ok() || context.level >= 2 && matches!(open.task, Task::Provision { .. }) {
            self.changed = context.log.index;
        }
        match open.task {
            Task::Provision { .. } => self.close_provision(context, id, &open, done, held),
            Task::Destroy { instance, slot, .. } => match done {
                Ok(_) => {
                    context.emit(Some(id), Kind::InstanceDestroyed, of_slot(&instance, slot.as_ref()));
                    self.given_up.remove(&instance);
                    self.vacate(context, slot.as_ref(), &instance);
                    let of_any = || InstanceRef::of_any_plugin(&instance.id);
                    let gone = if context.level < 2 { of_any() } else { instance };
                    self.destroyed.insert(gone, context.at);
                }
                Err(message) => {
                    let what = format!("{}: {message}", of_slot(&instance, slot.as_ref()));
                    context.emit(Some(id), Kind::DestroyRefused, what);
                    if slot.is_none() || context.level < 2 {
                        self.terminating_strays.remove(&instance);
                    }
                    if slot.is_some() && slot.as_ref() == self.roster.slot_of(&instance) {
                        self.roster.update_instance(&instance, |it| it.terminating = None);
                    }
                }
            },
            Task::Label { instance, .. } => match done {
                Ok(_) => {
                    let what = format!("{instance} is labelled, and is adopted when a listing has its label");
                    context.emit(Some(id), Kind::InstanceLabelled, what);
                }
                Err(message) => {
                    context.emit(Some(id), Kind::LabelRefused, format!("{instance}: {message}"));
                }
            },
        }
    }

    fn close_provision(
        &mut self,
        context: &mut Context<'_>,
        id: &GroupId,
        open: &Intent,
        done: Result<&InstanceId, &String>,
        held: &mut BTreeSet<InstanceRef>,
    ) {
        let Task::Provision { slot, generation, template } = &open.task else { return };
        let named = done.map(|instance| self.named_by(context, *template, instance));
        match done {
            // A plugin that returns one instance twice must not make it two members.
            Ok(instance) if named.is_ok_and(|it| !held.insert(it)) => {
                let what = format!("slot {slot}: the plugin returned {instance}, which already holds a slot");
                context.emit(Some(id), Kind::ProvisionRefused, what);
                self.roster.settle(slot, open.id, None);
            }
            Ok(instance) => {
                let what = format!("slot {slot} is held by {instance} (generation {generation})");
                context.emit(Some(id), Kind::InstanceProvisioned, what);
                let instance = InstanceRef::new(self.plugin_of(*template), instance);
                // Whoever had this id before is another.
                self.given_up.remove(&instance);
                self.destroyed.remove(&instance);
                self.destroyed.remove(&InstanceRef::of_any_plugin(&instance.id));
                let made = Occupied {
                    instance,
                    generation: *generation,
                    template: *template,
                    since: context.at,
                    recorded: context.log.index,
                    health: Verdict::Booting,
                    terminating: None,
                };
                self.roster.settle(slot, open.id, Some(made));
            }
            Err(message) => {
                context.emit(Some(id), Kind::ProvisionRefused, format!("slot {slot}: {message}"));
                self.roster.settle(slot, open.id, None);
            }
        }
    }

    /// The record of this instance in this slot; none when the slot does not have it.
    fn in_slot(&self, slot: &Slot, told: &InstanceRef) -> Option<Occupied> {
        self.roster.get(slot)?.instances().find(|it| told.means(&it.instance)).cloned()
    }

    fn lose(&mut self, context: &mut Context<'_>, id: &GroupId, slot: &Slot, lost: &InstanceRef) {
        if let Some(lost) = self.in_slot(slot, lost).filter(|it| it.terminating.is_none()) {
            self.changed = context.log.index;
            context.emit(Some(id), Kind::InstanceLost, of_slot(&lost.instance, Some(slot)));
            self.vacate(context, Some(slot), &lost.instance);
        }
    }

    fn ready(&mut self, context: &mut Context<'_>, id: &GroupId, slot: &Slot, healthy: &InstanceRef) {
        if let Some(healthy) = self.in_slot(slot, healthy).filter(|it| !it.is_ready()) {
            self.roster.update_instance(&healthy.instance, |it| it.health = Verdict::Ready);
            // Whoever was ready before is no progress.
            let is_new = healthy.health == Verdict::Booting && healthy.template == self.target;
            if context.level >= 2 && is_new {
                self.rollout.progressed = context.at;
            }
            context.emit(Some(id), Kind::InstanceReady, of_slot(&healthy.instance, Some(slot)));
        }
    }

    fn unhealthy(
        &mut self,
        context: &mut Context<'_>,
        id: &GroupId,
        slot: &Slot,
        sick: &InstanceRef,
        since: Timestamp,
    ) {
        if let Some(sick) = self.in_slot(slot, sick).filter(Occupied::is_ready) {
            self.roster.update_instance(&sick.instance, |it| it.health = Verdict::Unhealthy { since });
            context.emit(Some(id), Kind::InstanceUnhealthy, of_slot(&sick.instance, Some(slot)));
        }
    }

    /// Whether it was adopted: in a paused group only by an operator's word.
    pub(super) fn adopt(
        &mut self,
        context: &mut Context<'_>,
        id: &GroupId,
        adoption: &Adoption,
        asked: bool,
    ) -> bool {
        let Adoption { slot, instance, template } = adoption;
        let free = self.roster.get(slot).is_none_or(Member::is_free);
        let acted_on = self.lifecycle == Lifecycle::Managed && (self.paused.is_none() || asked);
        // By the plugin of its template, which may be recorded only below.
        let instance = InstanceRef::new(self.plugin_of(*template), instance);
        let terminating = context.level >= 2 && self.is_terminating_stray(&instance, context.level);
        if !free || !self.wants(slot) || !acted_on || terminating || self.holds(&instance, context.level) {
            return false;
        }
        // By it the instance is drained and destroyed, also after the group has changed its plugin.
        self.keep_plugin_of(*template);
        let plugin = |at: &Revision| self.templates.get(at).map(|known| &known.template.instance.plugin);
        let elsewhere = *template == Revision(0) && plugin(template) != plugin(&self.target);
        if plugin(template).is_none() || elsewhere {
            // The template was dropped meanwhile: the next listing decides again.
            return false;
        }
        self.given_up.remove(&instance);
        self.changed = context.log.index;
        context.emit(Some(id), Kind::InstanceAdopted, of_slot(&instance, Some(slot)));
        if *template != self.target {
            let phase = self.phase.when_outdated();
            if phase != self.phase {
                self.enter(context, phase, None);
            }
        }
        let generation = self.roster.next_generation(slot);
        let adopted = Occupied {
            instance,
            generation,
            template: *template,
            since: context.at,
            recorded: context.log.index,
            health: Verdict::Booting,
            terminating: None,
        };
        self.roster.update(slot, |member| {
            member.generation = generation;
            member.current = Some(Incarnation::Occupied(adopted));
        });
        true
    }

    fn vacate(&mut self, context: &Context<'_>, slot: Option<&Slot>, gone: &InstanceRef) {
        if slot.is_none() || context.level < 2 {
            self.terminating_strays.remove(gone);
        }
        if slot.is_some() && slot == self.roster.slot_of(gone) {
            self.roster.vacate(gone);
        }
    }
}

fn of_slot(instance: &InstanceRef, slot: Option<&Slot>) -> String {
    match slot {
        Some(slot) => format!("{instance} in slot {slot}"),
        None => format!("{instance}, which holds no slot"),
    }
}
