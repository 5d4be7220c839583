//! Instances that carry this group's tag and hold no slot: adopted, reported, destroyed, or left alone.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::evidence;
use super::planner::Planner;
use super::steps::Action;
use super::waiting::{Anomaly, Wait};
use crate::failpoints::{Protection, is_left_out};
use crate::ids::{InstanceId, InstanceRef, IntentId, PluginName, Revision, Slot};
use crate::intent::{Intent, Reason, Task};
use crate::limits::LISTINGS_LAG;
use crate::observed::{Backoff, Seen, View};
use crate::report::Adoption;
use crate::spec::Allocation;
use crate::state::{GroupState, Member, Occupied, Verdict};
use crate::tags;

impl<'a> Planner<'a> {
    /// Fills empty slots with instances that exist already. An instance that gets no slot is a stray, and
    /// a stray is never destroyed automatically (decision 16), except when this cluster created it and it
    /// is a second instance of one logical id or of one token.
    pub(super) fn take_in(&mut self) {
        let ended: BTreeSet<&InstanceRef> = self
            .group
            .intents
            .values()
            .filter_map(|intent| match &intent.task {
                Task::Destroy { instance, .. } => Some(instance),
                Task::Provision { .. } | Task::Label { .. } => None,
            })
            .collect();
        let views: Vec<(&'a PluginName, &'a View)> =
            self.observed.views.iter().map(|(plugin, view)| (plugin, &**view)).collect();
        for (plugin, view) in views {
            let awaited: BTreeSet<&InstanceId> =
                self.group.intents.keys().filter_map(|open| view.by_intent.get(open)).collect();
            // Both in the order of the ids: whoever is listed and no member is found in one pass.
            let group = self.group;
            let mut members = group.members().filter(|it| it.plugin == *plugin).peekable();
            let mut newcomers: Vec<(InstanceRef, &Seen)> = Vec::new();
            for (id, seen) in &view.seen {
                while members.next_if(|it| it.id < *id).is_some() {}
                if members.peek().is_some_and(|it| it.id == *id) || awaited.contains(id) {
                    continue;
                }
                let instance = InstanceRef::new(plugin, id);
                if ended.contains(&instance) {
                    continue;
                }
                if self.has_just_been_destroyed(&instance) || self.is_a_member_elsewhere(&instance, seen) {
                    continue;
                }
                newcomers.push((instance, seen));
            }
            // Of one plugin, whose slot is known comes first: the others take what is left.
            newcomers.sort_by_key(|(_, seen)| seen.tag(tags::SLOT).is_none());
            for (instance, seen) in newcomers {
                // A listing that began before the last change of the roster proves too little to act on.
                if view.after >= self.group.changed {
                    self.newcomer(&instance, seen);
                } else {
                    self.keep_place(plugin, seen);
                    self.unplaced |= self.is_too_new(&instance, seen) && self.is_unplaced(&instance, seen);
                }
            }
        }
        self.plan.known = self.knows_its_members();
    }

    /// Whether it was destroyed so short a time ago that a listing may still show it.
    fn has_just_been_destroyed(&self, instance: &InstanceRef) -> bool {
        let at = self.group.destroyed_at(&instance.id);
        at.is_some_and(|at| evidence::age(self.observed, at, self.now) <= LISTINGS_LAG)
    }

    /// Whether it is a member that another plugin lists, too: two plugins may serve one provider. The token tells it;
    /// while the other plugin shows nothing of it, it may be.
    fn is_a_member_elsewhere(&self, instance: &InstanceRef, seen: &Seen) -> bool {
        if self.observed.bounds.level < 2 {
            return self.group.holds(instance, self.observed.bounds.level);
        }
        let token = seen.tag(tags::INTENT);
        let is_it = |other: &InstanceRef| {
            let listed = self.observed.seen(other).map(|it| it.tag(tags::INTENT));
            listed.is_none_or(|other| other.is_none() || other == token)
        };
        let members = self.group.roster.with_id(&instance.id);
        let ended = self.group.terminating_strays.iter().filter(|it| it.id == instance.id);
        members.chain(ended).any(|it| it.plugin != instance.plugin && is_it(it))
    }

    /// Whether this plan adopts it already, as another plugin lists it.
    fn is_adopted_elsewhere(&self, instance: &InstanceRef) -> bool {
        let other =
            |it: &Adoption| it.instance == instance.id && *self.plugin_of(it.template) != instance.plugin;
        self.plan.adopt.iter().any(other)
    }

    /// Reserves a slot for an instance that may belong to it until a newer listing decides; nothing is created
    /// in that slot.
    fn keep_place(&mut self, plugin: &PluginName, seen: &Seen) {
        let given_up = self.group.given_up.contains_key(&InstanceRef::new(plugin, &seen.description.id));
        if seen.is_another_clusters() || given_up {
            return;
        }
        // A plugin that cannot be listed, and creates no new members, must not delay interchangeable
        // members. Named ones wait: a second instance of a name would be worse.
        let elsewhere = *plugin != *self.plugin_of(self.group.target);
        let cattle = matches!(self.group.spec.allocation, Allocation::Size(_));
        if elsewhere && cattle && self.observed.troubles.contains_key(plugin) {
            return;
        }
        let Some(slot) = self.place_for(seen) else { return };
        self.taken.insert(slot);
        self.present += 1;
        self.kept += 1;
        self.unrecorded += 1;
        self.wait_once(Wait::Listing { plugin: plugin.clone() });
    }

    fn newcomer(&mut self, instance: &InstanceRef, seen: &Seen) {
        let plugin = &instance.plugin;
        if self.group.given_up.contains_key(instance) && !seen.is_another_clusters() {
            // An operator says so; until it is gone, it is a stray.
            self.plan.strays.push(instance.clone());
            self.destroy_stray(instance, template_of(self.group, plugin, seen));
            return;
        }
        if seen.is_another_clusters() {
            self.plan.strays.push(instance.clone());
            return;
        }
        if self.is_too_new(instance, seen) {
            self.keep_place(plugin, seen);
            self.unplaced |= self.is_unplaced(instance, seen);
            return;
        }
        let template = template_of(self.group, plugin, seen);
        if template == Revision(0) && *self.plugin_of(template) != *plugin {
            // Members of unknown origin are recorded for another plugin, by which they are destroyed:
            // this one can be adopted when they are gone.
            self.keep_place(plugin, seen);
            return;
        }
        if template == Revision(0) && *self.plugin_of(self.group.target) != *plugin {
            // Of unknown origin, and of a plugin that creates no members any more: admission denies both.
            self.plan.strays.push(instance.clone());
            return;
        }
        match self.place_for(seen) {
            // The label is the fingerprint of the target, so an instance of another plugin cannot get it.
            Some(_) if seen.bootstrap && *self.plugin_of(self.group.target) != *plugin => {
                self.plan.strays.push(instance.clone());
            }
            // Its slot is reserved while it is labelled; the next listing adopts it.
            Some(slot) if seen.bootstrap => {
                self.taken.insert(slot);
                self.present += 1;
                self.unrecorded += 1;
                self.label(instance);
            }
            Some(_) if self.is_adopted_elsewhere(instance) => {}
            Some(slot) => {
                self.taken.insert(slot.clone());
                self.present += 1;
                self.ceiling = self.ceiling.saturating_sub(1);
                self.plan.adopt.push(Adoption { slot, instance: instance.id.clone(), template });
            }
            None if self.is_doubtful(&instance.id) => self.plan.strays.push(instance.clone()),
            None if self.is_surplus(instance, seen) => self.destroy_stray(instance, template),
            None if self.takes_its_slot_again(instance, seen) => {}
            None if self.is_second_of_a_pet(seen) => {
                if is_left_out(Protection::Returned) {
                    self.destroy_stray(instance, template);
                    return;
                }
                // It may be the one in use: an operator must say which of the two stays (decision 42).
                self.plan.strays.push(instance.clone());
                let name = seen.logical_id().map(|id| id.to_string()).unwrap_or_default();
                self.plan.anomalies.push(Anomaly::SecondOfName { instance: instance.id.clone(), name });
            }
            None => self.plan.strays.push(instance.clone()),
        }
    }

    /// Whether it is of a group of names, and its tags do not tell its own: what its plugin calls it may be another's.
    fn is_unplaced(&self, instance: &InstanceRef, seen: &Seen) -> bool {
        let elsewhere = instance.plugin != *self.plugin_of(self.group.target);
        if elsewhere && self.observed.troubles.contains_key(&instance.plugin) {
            return false;
        }
        let theirs = seen.is_another_clusters() || self.group.given_up.contains_key(instance);
        !theirs && self.has_names() && !(seen.ours && seen.tag(tags::LOGICAL_ID).is_some())
    }

    fn has_names(&self) -> bool {
        matches!(self.group.spec.allocation, Allocation::LogicalIds(_))
    }

    /// Whether it has not been listed for long enough to be judged. It may carry the token of an intent that was closed
    /// without it: an attempt that was refused may have made it for a moment. Or it lacks some of our tags: they may
    /// come later than it.
    fn is_too_new(&mut self, instance: &InstanceRef, seen: &Seen) -> bool {
        let settled = seen.intent.is_none() || is_left_out(Protection::LateEvidence);
        let tagged = seen.has_all_tags(&self.group.spec.allocation) || is_left_out(Protection::LateTags);
        if settled && tagged {
            return false;
        }
        let Some(view) = self.observed.views.get(&instance.plugin) else { return false };
        let from = self.observed.appeared.get(instance).map(|at| *at + view.guarantees.shows_the_past());
        match from {
            Some(from) if view.taken_at >= from => false,
            Some(from) => {
                self.wake(from);
                true
            }
            None => true,
        }
    }

    /// A member that was lost and came back, whose slot is held by one that was never ready: that one goes, and its
    /// slot is kept meanwhile.
    fn takes_its_slot_again(&mut self, instance: &InstanceRef, seen: &Seen) -> bool {
        let current = seen.tag(tags::CONFIG_HASH) == Some(&*self.group.template().hash);
        if !self.observed.lost.contains(instance) || !current || seen.not_running().is_some() {
            return false;
        }
        let slot = match &self.group.spec.allocation {
            Allocation::LogicalIds(_) => seen.logical_id().map(Slot::Logical),
            Allocation::Size(_) => seen.tag(tags::SLOT).and_then(|slot| slot.parse().ok()).map(Slot::Ordinal),
        };
        let Some(slot) = slot.filter(|slot| seen.intent.is_some() && self.group.wants(slot)) else {
            return false;
        };
        let Some(holder) = self.group.roster.get(&slot).and_then(Member::occupied) else { return false };
        if holder.health != Verdict::Booting {
            return false;
        }
        let counts = holder.terminating.is_none();
        let booting = self.running.iter().find(|it| it.instance == &holder.instance).cloned();
        if let Some(booting) = booting {
            self.destroy(&booting, Reason::Terminate);
        }
        if !counts {
            self.present += 1;
            self.kept += 1;
        }
        self.unrecorded += 1;
        true
    }

    /// Destroys an instance of this cluster without a slot, unless a manager runs on it or the last attempt
    /// failed a moment ago.
    fn destroy_stray(&mut self, instance: &InstanceRef, template: Revision) {
        if self.hosts_a_manager(instance) {
            if self.plan.strays.last() != Some(instance) {
                self.plan.strays.push(instance.clone());
            }
            return;
        }
        if template == Revision(0) && *self.plugin_of(template) != instance.plugin {
            // The group has no template of its plugin any more, by which it could be destroyed.
            return;
        }
        if let Some(Backoff { until, message, .. }) = self.held_off(instance) {
            self.plan.waits.push(Wait::Stray { instance: instance.id.clone(), until, message });
            return;
        }
        self.plan.actions.push(Action::Destroy {
            instance: instance.id.clone(),
            slot: None,
            template,
            reason: Reason::Terminate,
        });
    }

    /// Until when an instance is left alone, because the last attempt failed a moment ago.
    pub(super) fn held_off(&mut self, instance: &InstanceRef) -> Option<Backoff> {
        let backoff = self.observed.held_off.get(instance).filter(|it| self.now < it.until).cloned()?;
        self.wake(backoff.until);
        Some(backoff)
    }

    /// Labels an instance that was created by hand, unless that is under way or failed a moment ago.
    fn label(&mut self, instance: &InstanceRef) {
        if self.group.is_being_labelled(&instance.id) {
            return;
        }
        match self.held_off(instance) {
            Some(Backoff { until, message, .. }) => {
                self.plan.waits.push(Wait::Label { instance: instance.id.clone(), until, message });
            }
            None => self.plan.actions.push(Action::Label { instance: instance.id.clone() }),
        }
    }

    /// Whether it is a duplicate, created by a second attempt or by a late first one.
    fn is_surplus(&self, instance: &InstanceRef, seen: &Seen) -> bool {
        let kept = seen.intent.and_then(|intent| self.group.repeated.get(&intent));
        kept.is_some_and(|kept| kept.as_ref() != Some(&instance.id))
    }

    /// Reports instances that carry this cluster's id and that it cannot have created.
    pub(super) fn report_strangers(&mut self) {
        for (plugin, view) in &self.observed.views {
            if !view.untagged.is_empty() {
                let members = view.untagged.len();
                self.plan.anomalies.push(Anomaly::TagsLost { plugin: plugin.clone(), members });
            }
            if let Some((instance, listed)) = view.misnamed.first_key_value() {
                self.plan.anomalies.push(Anomaly::OtherName {
                    plugin: plugin.clone(),
                    members: view.misnamed.len(),
                    instance: instance.clone(),
                    listed: listed.clone(),
                });
            }
            let last = IntentId { index: self.observed.bounds.index, offset: u32::MAX };
            let to_come = view.by_intent.range((Bound::Excluded(last), Bound::Unbounded));
            let unknown_tokens = to_come
                .map(|(intent, instance)| (instance, intent.to_string()))
                .chain(view.unknown_tokens.iter().map(|(instance, token)| (instance, token.clone())))
                // An operator may have made it a member.
                .filter(|(instance, _)| !self.group.has(plugin, instance));
            for (instance, token) in unknown_tokens {
                self.plan.anomalies.push(Anomaly::UnknownIntent { instance: instance.clone(), token });
            }
            for (intent, duplicate) in &view.duplicates {
                let repeated = self.group.repeated.contains_key(intent)
                    || self.group.intents.get(intent).is_some_and(|open| open.attempt > 1);
                if let Some(other) = view.by_intent.get(intent).filter(|_| !repeated) {
                    let instances = [duplicate.clone(), other.clone()];
                    self.plan.anomalies.push(Anomaly::SharedToken { intent: *intent, instances });
                }
            }
        }
    }

    /// Whether this cluster cannot have created it, although it carries the cluster's id.
    fn is_doubtful(&self, instance: &InstanceId) -> bool {
        self.plan.anomalies.iter().any(|condition| match condition {
            Anomaly::UnknownIntent { instance: it, .. } => it == instance,
            Anomaly::SharedToken { instances, .. } => instances.contains(instance),
            Anomaly::SecondOfName { .. } | Anomaly::TagsLost { .. } | Anomaly::OtherName { .. } => false,
        })
    }

    fn place_for(&self, seen: &Seen) -> Option<Slot> {
        match &self.group.spec.allocation {
            Allocation::LogicalIds(_) => {
                let slot = Slot::Logical(seen.logical_id()?);
                (self.group.wants(&slot) && !self.taken.contains(&slot)).then_some(slot)
            }
            Allocation::Size(size) => {
                if self.present >= *size as usize {
                    return None;
                }
                let own = seen.tag(tags::SLOT).and_then(|slot| slot.parse().ok()).map(Slot::Ordinal);
                own.filter(|slot| !self.taken.contains(slot))
                    .or_else(|| (0..).map(Slot::Ordinal).find(|slot| !self.taken.contains(slot)))
            }
        }
    }

    fn is_second_of_a_pet(&self, seen: &Seen) -> bool {
        let Some(logical_id) = seen.logical_id() else { return false };
        let slot = Slot::Logical(logical_id);
        // One that was created after a backup may be the only one that exists: the recorded one must be listed too,
        // and even then it is unknown which of the two is in use.
        let there = |it: &InstanceRef| self.observed.seen(it).is_some();
        let stays = |it: &Occupied| it.terminating.is_none() && there(&it.instance);
        let held = self.group.roster.get(&slot).and_then(Member::occupied).is_some_and(stays);
        seen.ours && self.group.wants(&slot) && held
    }

    /// Whether the slot of an intent from an earlier lineage was filled by an instance that is not recorded.
    pub(super) fn was_filled_since(&self, intent: &Intent, slot: &Slot) -> bool {
        let held = |plugin: &PluginName, id: &InstanceId| self.group.has(plugin, id);
        let fits = |seen: &Seen| match slot {
            Slot::Logical(id) => seen.logical_id().as_ref() == Some(id),
            Slot::Ordinal(_) => seen.tag(tags::SLOT) == Some(&slot.to_string()),
        };
        intent.id.index <= self.observed.bounds.since
            && self
                .observed
                .views
                .iter()
                .flat_map(|(plugin, view)| view.seen.iter().map(move |(id, seen)| (plugin, id, seen)))
                .any(|(plugin, id, seen)| seen.lost && fits(seen) && !held(plugin, id))
    }
}

/// The known template whose fingerprint an instance carries. Otherwise one of the same plugin that is not
/// the target's, so that it is drained and destroyed by that plugin and does not look up to date; 0 when
/// there is none.
pub(super) fn template_of(group: &GroupState, plugin: &PluginName, seen: &Seen) -> Revision {
    let hash = seen.tag(tags::CONFIG_HASH);
    let of_plugin = || group.templates.iter().filter(|(_, known)| known.template.instance.plugin == *plugin);
    let made_from = of_plugin().find(|(_, known)| hash == Some(known.hash.as_str()));
    let made_by = || of_plugin().map(|(at, _)| *at).find(|at| *at != group.target);
    made_from.map(|(at, _)| *at).or_else(made_by).unwrap_or_default()
}
