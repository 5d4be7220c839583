//! The rules that no leader gets past, not even a faulty or deposed one: they are applied on every replica alike
//! (ha-raft §3.2, A1 to A6).

use std::sync::Arc;

use super::context::Context;
use super::group::{GroupState, Lifecycle, TemplateRecord};
use super::slot::{Incarnation, Member, Occupied};
use crate::answer::Denial;
use crate::bounds::Bounds;
use crate::failpoints::{Protection, is_left_out};
use crate::ids::{InstanceId, InstanceRef, IntentId, Revision, Slot};
use crate::intent::{Intent, Reason, Task};
use crate::limits::MOST_OPEN;
use crate::report::Claim;
use crate::spec::Allocation;

impl GroupState {
    /// Opens an intent: at most one living or pending instance a slot, and one that takes it over; never more
    /// members than wanted or than the cluster may have, not too many in a short time, a destroy only of a named
    /// and not yet terminating instance, and never of one that a manager runs on.
    pub(super) fn admit(
        &mut self,
        context: &Context<'_>,
        id: IntentId,
        claim: &Claim,
        bounds: &mut Bounds,
    ) -> Result<(), Denial> {
        // One plugin that hangs may hold all that the cluster may open: any group may still open one.
        let reserved = bounds.level >= 2 && self.intents.is_empty();
        if self.intents.len() >= MOST_OPEN || bounds.open == 0 && !reserved {
            return Err(Denial::TooManyOpen);
        }
        if self.paused.is_some() {
            return Err(Denial::Paused);
        }
        let task = match claim {
            Claim::Provision { slot } => self.admit_provision(context, id, slot, bounds)?,
            Claim::Replace { slot } => self.admit_replace(context, id, slot, bounds)?,
            Claim::Destroy { instance, slot, template, reason } => {
                self.admit_destroy(id, instance, slot.as_ref(), *template, *reason, bounds)?
            }
            Claim::Label { instance } => self.admit_label(instance, bounds)?,
        };
        bounds.open = bounds.open.saturating_sub(1);
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

    fn admit_provision(
        &mut self,
        context: &Context<'_>,
        id: IntentId,
        slot: &Slot,
        bounds: &mut Bounds,
    ) -> Result<Task, Denial> {
        if self.lifecycle != Lifecycle::Managed {
            return Err(Denial::GroupNotManaged);
        }
        let guarded = !is_left_out(Protection::Admission);
        let taken = self.roster.get(slot).is_some_and(|member| !member.is_free());
        if taken && guarded {
            return Err(Denial::SlotTaken);
        }
        if (self.has_enough() || !self.wants(slot)) && guarded {
            return Err(Denial::EnoughMembers);
        }
        self.pay_for_one(context, bounds)?;
        Ok(self.make(id, slot, |member, pending| member.current = Some(pending)))
    }

    /// The one that holds the slot stays until the other is ready.
    fn admit_replace(
        &mut self,
        context: &Context<'_>,
        id: IntentId,
        slot: &Slot,
        bounds: &mut Bounds,
    ) -> Result<Task, Denial> {
        if self.lifecycle != Lifecycle::Managed {
            return Err(Denial::GroupNotManaged);
        }
        // Two of one name would be one too many at any time.
        if matches!(self.spec.allocation, Allocation::LogicalIds(_)) || !self.wants(slot) {
            return Err(Denial::EnoughMembers);
        }
        let Some(member) = self.roster.get(slot) else { return Err(Denial::NotThere) };
        let old = |it: &Occupied| it.terminating.is_none() && it.template != self.target;
        if !member.occupied().is_some_and(old) {
            return Err(Denial::NotThere);
        }
        // It could not be destroyed afterwards, and both would stay.
        if member.occupied().is_some_and(|it| bounds.hosts.has(&it.instance)) {
            return Err(Denial::HostsManager);
        }
        if member.incoming.is_some() {
            return Err(Denial::SlotTaken);
        }
        // Of the slots that have two, and of all that is there: also whoever is still going.
        let surge = self.disruption(bounds).surge;
        if self.roster.pairs() >= surge || self.roster.existing() >= self.desired() + surge {
            return Err(Denial::EnoughMembers);
        }
        self.pay_for_one(context, bounds)?;
        Ok(self.make(id, slot, |member, pending| member.incoming = Some(Box::new(pending))))
    }

    fn admit_destroy(
        &mut self,
        id: IntentId,
        instance: &InstanceId,
        slot: Option<&Slot>,
        template: Revision,
        reason: Reason,
        bounds: &Bounds,
    ) -> Result<Task, Denial> {
        let of_template = InstanceRef::new(self.plugin_of(template), instance);
        if bounds.hosts.has(&of_template) {
            return Err(Denial::HostsManager);
        }
        let instance = match slot {
            Some(slot) => {
                let member = self.roster.get(slot).ok_or(Denial::NotThere)?;
                let is_it = |it: &&Occupied| {
                    it.instance == of_template || bounds.level < 2 && it.instance.id == of_template.id
                };
                let held = member.instances().find(is_it).cloned().ok_or(Denial::NotThere)?;
                if held.terminating.is_some() {
                    return Err(Denial::NotThere);
                }
                let taken_over = member.occupied() == Some(&held) && member.incoming.is_some();
                let ready = member.incoming_occupied().is_some_and(Occupied::is_ready);
                if taken_over && reason == Reason::RollingUpdate && !ready {
                    return Err(Denial::NotReady);
                }
                // Whoever is not ready, or leaves a ready one in its place, costs nothing.
                let stays = member
                    .instances()
                    .any(|it| it.instance != held.instance && it.is_ready() && it.terminating.is_none());
                let costs = held.is_ready() && !stays && reason == Reason::RollingUpdate;
                let least = self.desired().saturating_sub(self.disruption(bounds).unavailable);
                if bounds.level >= 2 && costs && self.roster.ready() <= least {
                    return Err(Denial::NotReady);
                }
                self.roster.update_instance(&held.instance, |it| it.terminating = Some(id));
                held.instance
            }
            None => {
                if self.is_terminating_stray(&of_template, bounds.level)
                    || self.holds(&of_template, bounds.level)
                {
                    return Err(Denial::NotThere);
                }
                if bounds.level >= 2 {
                    self.keep_plugin_of(template);
                }
                self.terminating_strays.insert(of_template.clone());
                of_template
            }
        };
        Ok(Task::Destroy { instance, slot: slot.cloned(), template, reason })
    }

    /// Whether one more would be one too many. Pets have their names.
    pub(super) fn has_enough(&self) -> bool {
        match &self.spec.allocation {
            Allocation::Size(size) => self.roster.present() >= *size as usize,
            Allocation::LogicalIds(_) => false,
        }
    }

    /// Records the plugin of an unknown template as that of the target: what is destroyed by it now is destroyed by it
    /// also when the group has changed its plugin.
    pub(super) fn keep_plugin_of(&mut self, template: Revision) {
        if template == Revision(0) && !self.templates.contains_key(&template) {
            let known = TemplateRecord { template: self.template().template.clone(), hash: String::new() };
            self.templates.insert(template, Arc::new(known));
        }
    }

    fn admit_label(&self, instance: &InstanceId, bounds: &Bounds) -> Result<Task, Denial> {
        if self.lifecycle != Lifecycle::Managed {
            return Err(Denial::GroupNotManaged);
        }
        let of_target = InstanceRef::new(self.plugin_of(self.target), instance);
        if self.is_terminating_stray(&of_target, bounds.level)
            || self.holds(&of_target, bounds.level)
            || self.is_being_labelled(instance)
        {
            return Err(Denial::NotThere);
        }
        Ok(Task::Label { instance: instance.clone(), template: self.target })
    }

    fn pay_for_one(&mut self, context: &Context<'_>, bounds: &mut Bounds) -> Result<(), Denial> {
        if bounds.instances == 0 {
            return Err(Denial::Ceiling);
        }
        if !self.pay(context.said) {
            return Err(Denial::TooFast);
        }
        bounds.instances -= 1;
        Ok(())
    }

    /// Marks the place in a slot as being filled under this intent.
    fn make(&mut self, id: IntentId, slot: &Slot, place: impl FnOnce(&mut Member, Incarnation)) -> Task {
        let generation = self.roster.next_generation(slot);
        self.roster.update(slot, |member| {
            member.generation = generation;
            place(member, Incarnation::Pending(id));
        });
        Task::Provision { slot: slot.clone(), generation, template: self.target }
    }
}
