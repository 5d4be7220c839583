//! Instances that carry this group's tag and hold no slot: taken in, told apart, or left alone.

use std::collections::BTreeSet;

use crate::command::Adoption;
use crate::ids::{InstanceId, PluginName, Revision, Slot};
use crate::intent::{Reason, Task};
use crate::observed::{Seen, View};
use crate::spec::Allocation;
use crate::state::{Holder, LISTINGS_LAG};
use crate::tags;

use super::{Action, Desk, Waiting};

impl<'a> Desk<'a> {
    /// Fills empty slots with instances that are there already. A member without a roster entry is
    /// otherwise a stray, and a stray is never destroyed by itself (decision 16): only a second
    /// instance of one logical id goes, and only when it is ours.
    pub(super) fn take_in(&mut self) {
        let held: BTreeSet<&InstanceId> = self
            .group
            .roster
            .values()
            .filter_map(|member| match &member.holder {
                Holder::Living { instance, .. } => Some(instance),
                Holder::Nobody | Holder::Pending(_) => None,
            })
            .chain(self.group.intents.values().filter_map(|intent| match &intent.task {
                Task::Destroy { instance, .. } => Some(instance),
                Task::Provision { .. } => None,
            }))
            .collect();
        let views: Vec<(&'a PluginName, &'a View)> =
            self.observed.views.iter().map(|(plugin, view)| (plugin, &**view)).collect();
        for (plugin, view) in views {
            if view.seen.len() == held.len() && self.all_held(view, &held) {
                continue;
            }
            let awaited: BTreeSet<&InstanceId> = view
                .by_intent
                .iter()
                .filter(|(intent, _)| self.group.intents.contains_key(*intent))
                .map(|(_, instance)| instance)
                .collect();
            for (instance, seen) in &view.seen {
                let known = held.contains(instance)
                    || awaited.contains(instance)
                    || self.has_just_been_destroyed(instance);
                if known {
                    continue;
                }
                // A look that began before the last change says too little to act on.
                if view.after >= self.group.changed {
                    self.newcomer(plugin, instance, seen);
                } else {
                    self.keep_place(plugin, seen);
                }
            }
        }
    }

    /// Whether it was destroyed so short a time ago that a listing may still show it.
    fn has_just_been_destroyed(&self, instance: &InstanceId) -> bool {
        let at = self.group.destroyed.get(instance);
        at.is_some_and(|at| self.observed.age(*at, self.now) <= LISTINGS_LAG)
    }

    /// What may belong here keeps its place until a fresh look decides; nothing is made in it.
    fn keep_place(&mut self, plugin: &PluginName, seen: &Seen) {
        if seen.is_another_clusters() {
            return;
        }
        // A plugin that cannot be looked at, and makes nothing new, must not hold up those that are
        // made alike; a second instance of a name would be worse.
        let elsewhere = *plugin != *self.plugin_of(self.group.target);
        let cattle = matches!(self.group.spec.allocation, Allocation::Size(_));
        if elsewhere && cattle && self.observed.troubles.contains_key(plugin) {
            return;
        }
        let Some(slot) = self.place_for(seen) else { return };
        self.taken.insert(slot);
        self.present += 1;
        self.kept += 1;
        let waiting = Waiting::ForListing { plugin: plugin.clone() };
        if !self.plan.waiting.contains(&waiting) {
            self.plan.waiting.push(waiting);
        }
    }

    fn all_held(&self, view: &View, held: &BTreeSet<&InstanceId>) -> bool {
        view.seen.keys().all(|instance| held.contains(instance))
    }

    fn newcomer(&mut self, plugin: &PluginName, instance: &InstanceId, seen: &Seen) {
        if seen.is_another_clusters() {
            self.plan.strays.push(instance.clone());
            return;
        }
        let template = self.template_from(plugin, seen);
        if template == Revision(0) && *self.plugin_of(template) != *plugin {
            // Members of unknown origin belong to another plugin still, by which they are destroyed:
            // this one can be taken in when they are gone.
            self.keep_place(plugin, seen);
            return;
        }
        match self.place_for(seen) {
            // Its place is kept while it gets its fingerprint; the next look adopts it.
            Some(slot) if seen.bootstrap => {
                self.taken.insert(slot);
                self.present += 1;
                if let Some(because) = self.observed.unlabelled.get(instance).cloned() {
                    self.plan.waiting.push(Waiting::ForLabel { instance: instance.clone(), because });
                }
                self.plan.actions.push(Action::Label { plugin: plugin.clone(), instance: instance.clone() });
            }
            Some(slot) => {
                self.taken.insert(slot.clone());
                self.present += 1;
                self.plan.adopt.push(Adoption { slot, instance: instance.clone(), template });
            }
            None if self.is_second_of_a_pet(seen) => self.plan.actions.push(Action::Destroy {
                instance: instance.clone(),
                slot: None,
                template,
                reason: Reason::Terminate,
            }),
            None => self.plan.strays.push(instance.clone()),
        }
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
        let held = self
            .group
            .roster
            .get(&slot)
            .is_some_and(|member| matches!(&member.holder, Holder::Living { doomed: None, .. }));
        seen.ours && self.group.wants(&slot) && held
    }

    /// The known template whose fingerprint the instance carries. Otherwise one of the same plugin,
    /// so that it is drained and destroyed where it lives; 0 when that would make it look current.
    fn template_from(&self, plugin: &PluginName, seen: &Seen) -> Revision {
        let hash = seen.tag(tags::CONFIG_HASH);
        let templates = &self.group.templates;
        let made_from = templates.iter().find(|(_, known)| hash == Some(known.hash.as_str()));
        let made_by = || {
            let same_plugin = templates.iter().filter(|(_, known)| known.template.instance.plugin == *plugin);
            same_plugin.map(|(at, _)| *at).find(|at| *at != self.group.target)
        };
        made_from.map(|(at, _)| *at).or_else(made_by).unwrap_or_default()
    }
}
