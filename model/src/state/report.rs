//! One turn of the reconciler, applied: outcomes and verdicts first, then admission.
//!
//! Admission happens here, on every replica alike, so that not even a faulty or deposed leader
//! gets past it (ha-raft §3.2).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::State;
use super::context::Context;
use super::group::{GroupState, Holder, Lifecycle, Member, TemplateRecord};
use crate::bounds::Bounds;
use crate::command::{Admission, Adoption, Answer, Claim, Denial, Refusal, Report, Settle};
use crate::event::Kind;
use crate::failpoints::{Protection, is_left_out};
use crate::ids::{Generation, GroupId, InstanceId, IntentId, Revision, Slot};
use crate::intent::{Intent, Outcome, Task};
use crate::limits::MOST_OPEN;
use crate::rollout::Event as Turn;
use crate::spec::Allocation;

impl State {
    pub(super) fn report(&mut self, context: &mut Context<'_>, report: &Report) -> Answer {
        let denied = |why| Answer::Admitted(vec![Admission::Denied(why); report.claims.len()]);
        if context.log.term != report.term {
            return denied(Denial::OtherTerm);
        }
        let mut bounds =
            if report.claims.is_empty() { Bounds::default() } else { self.bounds(context.log.index) };
        let Some(group) = self.groups.get_mut(&report.group) else {
            return denied(Denial::GroupNotManaged);
        };
        let id = &report.group;
        let group = Arc::make_mut(group);
        let phase = group.phase;
        if !report.outcomes.is_empty() {
            group.forget_destroyed(context.at);
        }
        let mut held = group.held_of(&report.outcomes);
        for (intent, outcome) in &report.outcomes {
            group.close(context, id, *intent, outcome, &mut held);
        }
        for (slot, instance) in &report.gone {
            group.lose(context, id, slot, instance);
        }
        for (slot, instance) in &report.ready {
            group.ready(context, id, slot, instance);
        }
        let current = report.revision == group.revision || is_left_out(Protection::Admission);
        for adoption in report.adopt.iter().filter(|_| current) {
            if group.adopt(context, id, adoption) {
                bounds.instances = bounds.instances.saturating_sub(1);
            }
        }
        let mut present = group.present();
        let mut answers = Vec::with_capacity(report.claims.len());
        for (offset, claim) in report.claims.iter().enumerate() {
            let intent = IntentId { index: context.log.index, offset: offset as u32 };
            let admitted = if current {
                group.admit(context, intent, claim, &mut present, &mut bounds)
            } else {
                Err(Denial::OtherRevision)
            };
            answers.push(match admitted {
                Ok(()) => Admission::Granted(intent),
                Err(denial) => Admission::Denied(denial),
            });
        }
        for intent in &report.repeats {
            if let Some(open) = group.intents.get_mut(intent) {
                open.attempt += 1;
                open.admitted = context.log.index;
                open.term = context.log.term;
                open.since = context.at;
            }
        }
        if let Some(at) = report.replaced {
            group.phase = group.phase.after(Turn::AllReplaced(at));
            if group.phase != phase {
                context.emit(Some(id), Kind::RolloutSucceeded, format!("all members are at revision {at}"));
            }
        }
        group.forget_templates();
        if report.finished && group.lifecycle == Lifecycle::Destroying && group.is_empty() {
            self.groups.remove(id);
            context.emit(Some(id), Kind::GroupDestroyed, "nothing of it is left");
        }
        Answer::Admitted(answers)
    }
}

impl State {
    /// An operator's word: it counts only while nobody else has found out, or tries, again.
    pub(super) fn settle(&mut self, context: &mut Context<'_>, settle: &Settle) -> Answer {
        let Settle { group: id, intent, attempt, made } = settle;
        let Some(group) = self.groups.get_mut(id) else {
            return Answer::Refused(Refusal::NotFound { group: id.clone() });
        };
        let open = group.intents.get(intent);
        let doubted =
            |open: &&Intent| open.attempt == *attempt && matches!(open.task, Task::Provision { .. });
        let taken =
            made.as_ref().is_some_and(|it| group.is_held(it) || group.terminating_strays.contains(it));
        let Some(slot) = open.filter(doubted).filter(|_| !taken).and_then(|open| open.task.slot().cloned())
        else {
            return Answer::Refused(Refusal::NotInDoubt { group: id.clone(), intent: *intent });
        };
        let group = Arc::make_mut(group);
        let outcome = match made {
            Some(instance) => Outcome::Done(instance.clone()),
            None => {
                Outcome::Refused { message: "an operator says that nothing was made".into(), retryable: true }
            }
        };
        let told = made.as_ref().map_or_else(|| "nothing was made".to_owned(), |it| format!("{it} was made"));
        context.emit(Some(id), Kind::IntentSettled, format!("slot {slot}: {told}"));
        let outcomes = [(*intent, outcome)];
        let mut held = group.held_of(&outcomes);
        group.close(context, id, *intent, &outcomes[0].1, &mut held);
        group.remember_repeated(*intent, made.clone());
        Answer::Done
    }
}

impl GroupState {
    /// The instances among the outcomes that hold a slot already.
    fn held_of(&self, outcomes: &[(IntentId, Outcome)]) -> BTreeSet<InstanceId> {
        let made = |(_, outcome): &'_ (IntentId, Outcome)| match outcome {
            Outcome::Done(instance) => Some(instance.clone()),
            Outcome::Refused { .. } | Outcome::Unsure { .. } => None,
        };
        let made: BTreeSet<InstanceId> = outcomes.iter().filter_map(made).collect();
        if made.is_empty() {
            return made;
        }
        self.members().filter(|instance| made.contains(*instance)).cloned().collect()
    }

    fn close(
        &mut self,
        context: &mut Context<'_>,
        id: &GroupId,
        intent: IntentId,
        outcome: &Outcome,
        held: &mut BTreeSet<InstanceId>,
    ) {
        // What is not open was closed before: a repeated report changes nothing.
        if matches!(outcome, Outcome::Unsure { .. }) {
            return;
        }
        let Some(open) = self.intents.remove(&intent) else { return };
        if open.attempt > 1 && matches!(open.task, Task::Provision { .. }) {
            let kept = if let Outcome::Done(instance) = outcome { Some(instance.clone()) } else { None };
            self.remember_repeated(intent, kept);
        }
        // A refusal is no news of who is there.
        if matches!(outcome, Outcome::Done(_)) {
            self.changed = context.log.index;
        }
        match (open.task, outcome) {
            (Task::Provision { slot, generation, .. }, Outcome::Done(instance))
                if !held.insert(instance.clone()) =>
            {
                // A plugin that gives out one instance twice must not make it two members.
                let message = format!("slot {slot}: {instance} holds another slot already");
                context.emit(Some(id), Kind::ProvisionRefused, message);
                self.place(slot, generation, Holder::Empty);
            }
            (Task::Provision { slot, generation, template }, Outcome::Done(instance)) => {
                let message = format!("slot {slot} is held by {instance} (generation {generation})");
                context.emit(Some(id), Kind::InstanceProvisioned, message);
                self.destroyed.remove(instance);
                self.place(
                    slot,
                    generation,
                    Holder::Occupied {
                        instance: instance.clone(),
                        template,
                        since: context.at,
                        recorded: context.log.index,
                        ready: false,
                        terminating: None,
                    },
                );
            }
            (Task::Provision { slot, generation, .. }, Outcome::Refused { message, .. }) => {
                context.emit(Some(id), Kind::ProvisionRefused, format!("slot {slot}: {message}"));
                self.place(slot, generation, Holder::Empty);
            }
            (Task::Destroy { instance, slot, .. }, Outcome::Done(_)) => {
                context.emit(Some(id), Kind::InstanceDestroyed, of_slot(&instance, slot.as_ref()));
                self.vacate(slot.as_ref(), &instance);
                self.destroyed.insert(instance, context.at);
            }
            (Task::Destroy { instance, slot, .. }, Outcome::Refused { message, .. }) => {
                let message = format!("{}: {message}", of_slot(&instance, slot.as_ref()));
                context.emit(Some(id), Kind::DestroyRefused, message);
                self.terminating_strays.remove(&instance);
                if let Some(slot) = slot
                    && let Some(Member {
                        holder: Holder::Occupied { instance: held, terminating, .. }, ..
                    }) = self.roster.get_mut(&slot)
                    && *held == instance
                {
                    *terminating = None;
                }
            }
            (Task::Label { instance, .. }, Outcome::Done(_)) => {
                context.emit(Some(id), Kind::InstanceLabelled, format!("{instance} is to be taken in"));
            }
            (Task::Label { instance, .. }, Outcome::Refused { message, .. }) => {
                context.emit(Some(id), Kind::LabelRefused, format!("{instance}: {message}"));
            }
            (Task::Provision { .. } | Task::Destroy { .. } | Task::Label { .. }, Outcome::Unsure { .. }) => {
                unreachable!("unsure outcomes returned above: they close nothing")
            }
        }
    }

    fn lose(&mut self, context: &mut Context<'_>, id: &GroupId, slot: &Slot, lost: &InstanceId) {
        if let Some(Member { holder: Holder::Occupied { instance, terminating: None, .. }, .. }) =
            self.roster.get(slot)
            && instance == lost
        {
            self.changed = context.log.index;
            context.emit(Some(id), Kind::InstanceLost, of_slot(lost, Some(slot)));
            self.vacate(Some(slot), lost);
        }
    }

    fn ready(&mut self, context: &mut Context<'_>, id: &GroupId, slot: &Slot, healthy: &InstanceId) {
        if let Some(Member { holder: Holder::Occupied { instance, ready, .. }, .. }) =
            self.roster.get_mut(slot)
            && instance == healthy
            && !*ready
        {
            *ready = true;
            context.emit(Some(id), Kind::InstanceReady, of_slot(healthy, Some(slot)));
        }
    }

    /// Whether it was taken in.
    fn adopt(&mut self, context: &mut Context<'_>, id: &GroupId, adoption: &Adoption) -> bool {
        let Adoption { slot, instance, template } = adoption;
        let free = self.roster.get(slot).is_none_or(|member| member.holder == Holder::Empty);
        if !free || !self.wants(slot) || self.lifecycle != Lifecycle::Managed || self.is_held(instance) {
            return false;
        }
        if *template == Revision(0) && !self.templates.contains_key(template) {
            // Made from something that is not known, but by the plugin that is used now: it is kept in
            // mind, so that it is drained and destroyed there even when the plugin has changed.
            let known = TemplateRecord { template: self.template().template.clone(), hash: String::new() };
            self.templates.insert(*template, Arc::new(known));
        }
        let plugin = |at: &Revision| self.templates.get(at).map(|known| &known.template.instance.plugin);
        let elsewhere = *template == Revision(0) && plugin(template) != plugin(&self.target);
        if plugin(template).is_none() || elsewhere {
            // The template was forgotten meanwhile: the next look decides anew.
            return false;
        }
        self.changed = context.log.index;
        context.emit(Some(id), Kind::InstanceAdopted, of_slot(instance, Some(slot)));
        if *template != self.target {
            self.phase = self.phase.after(Turn::Outdated(self.target));
        }
        let generation = self.next_generation(slot);
        self.place(
            slot.clone(),
            generation,
            Holder::Occupied {
                instance: instance.clone(),
                template: *template,
                since: context.at,
                recorded: context.log.index,
                ready: false,
                terminating: None,
            },
        );
        true
    }

    /// The rules that no leader gets past: one living or pending instance a slot, never more members than
    /// wanted or than the cluster may have, not too many in a short time, a destroy only of a named and not
    /// yet doomed instance, and never of one that a manager runs on (ha-raft §3.2, A1 to A6).
    fn admit(
        &mut self,
        context: &Context<'_>,
        id: IntentId,
        claim: &Claim,
        present: &mut usize,
        bounds: &mut Bounds,
    ) -> Result<(), Denial> {
        if self.intents.len() >= MOST_OPEN || bounds.open == 0 {
            return Err(Denial::TooManyOpen);
        }
        let task = match claim {
            Claim::Provision { slot } => {
                if self.lifecycle != Lifecycle::Managed {
                    return Err(Denial::GroupNotManaged);
                }
                let guarded = !is_left_out(Protection::Admission);
                let taken = self.roster.get(slot).is_some_and(|member| member.holder != Holder::Empty);
                if taken && guarded {
                    return Err(Denial::SlotTaken);
                }
                let enough = match &self.spec.allocation {
                    Allocation::Size(size) => *present >= *size as usize,
                    Allocation::LogicalIds(_) => false,
                };
                if (enough || !self.wants(slot)) && guarded {
                    return Err(Denial::EnoughMembers);
                }
                if bounds.instances == 0 {
                    return Err(Denial::Ceiling);
                }
                if !self.pay(context.said) {
                    return Err(Denial::TooFast);
                }
                bounds.instances -= 1;
                let generation = self.next_generation(slot);
                self.place(slot.clone(), generation, Holder::Pending(id));
                *present += 1;
                Task::Provision { slot: slot.clone(), generation, template: self.target }
            }
            Claim::Destroy { instance, slot, template, reason } => {
                if bounds.hosts.contains_key(instance) {
                    return Err(Denial::HostsManager);
                }
                match slot {
                    Some(slot) => {
                        let Some(Member {
                            holder: Holder::Occupied { instance: held, terminating, .. }, ..
                        }) = self.roster.get_mut(slot)
                        else {
                            return Err(Denial::NotThere);
                        };
                        if held != instance || terminating.is_some() {
                            return Err(Denial::NotThere);
                        }
                        *terminating = Some(id);
                        *present -= 1;
                    }
                    None => {
                        if self.terminating_strays.contains(instance) || self.is_held(instance) {
                            return Err(Denial::NotThere);
                        }
                        self.terminating_strays.insert(instance.clone());
                    }
                }
                Task::Destroy {
                    instance: instance.clone(),
                    slot: slot.clone(),
                    template: *template,
                    reason: *reason,
                }
            }
            Claim::Label { instance } => {
                if self.lifecycle != Lifecycle::Managed {
                    return Err(Denial::GroupNotManaged);
                }
                let terminating = self.terminating_strays.contains(instance);
                if terminating || self.is_held(instance) || self.is_being_labelled(instance) {
                    return Err(Denial::NotThere);
                }
                Task::Label { instance: instance.clone(), template: self.target }
            }
        };
        bounds.open -= 1;
        let intent = Intent {
            id,
            task,
            attempt: 1,
            admitted: context.log.index,
            term: context.log.term,
            since: context.at,
        };
        self.intents.insert(id, intent);
        Ok(())
    }

    /// Whether it holds a slot.
    fn is_held(&self, instance: &InstanceId) -> bool {
        let holds = |member: &Member| matches!(&member.holder, Holder::Occupied { instance: held, .. } if held == instance);
        self.roster.values().any(holds)
    }

    fn next_generation(&self, slot: &Slot) -> Generation {
        Generation(self.roster.get(slot).map_or(0, |member| member.generation.0) + 1)
    }

    fn place(&mut self, slot: Slot, generation: Generation, holder: Holder) {
        self.roster.insert(slot, Member { generation, holder });
    }

    fn vacate(&mut self, slot: Option<&Slot>, gone: &InstanceId) {
        self.terminating_strays.remove(gone);
        if let Some(slot) = slot
            && let Some(member) = self.roster.get_mut(slot)
            && matches!(&member.holder, Holder::Occupied { instance, .. } if instance == gone)
        {
            member.holder = Holder::Empty;
        }
    }
}

fn of_slot(instance: &InstanceId, slot: Option<&Slot>) -> String {
    match slot {
        Some(slot) => format!("{instance} in slot {slot}"),
        None => format!("{instance}, which holds no slot"),
    }
}
