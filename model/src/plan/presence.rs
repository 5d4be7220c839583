//! Who is there and who is gone, as far as listings prove it.

use std::collections::{BTreeMap, BTreeSet};

use super::planner::{Planner, RunningMember};
use super::waiting::Wait;
use crate::failpoints::{Protection, is_left_out};
use crate::ids::{InstanceRef, IntentId, PluginName, Revision, Slot};
use crate::intent::{Reason, Task};
use crate::limits::MANY_GONE;
use crate::observed::View;
use crate::spec::Healing;
use crate::state::{Incarnation, Lifecycle};

/// Whether a member is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    /// The latest look did not show it, and that is not enough.
    Doubtful,
    Gone,
}

impl<'a> Planner<'a> {
    /// Who is there, who is gone, who has become ready.
    pub(super) fn check_members(&mut self) {
        let mut doubtful: BTreeMap<&PluginName, usize> = BTreeMap::new();
        let settled: BTreeSet<IntentId> = self.plan.outcomes.iter().map(|(id, _)| *id).collect();
        for (slot, member) in self.group.roster.iter() {
            let (mut taken, mut counts, mut replaced) = (false, false, false);
            let both = [(member.current.as_ref(), false), (member.incoming.as_deref(), true)];
            for (incarnation, incoming) in both.into_iter().filter_map(|(it, new)| Some((it?, new))) {
                let occupied = match incarnation {
                    Incarnation::Pending(_) => {
                        (taken, counts) = (true, true);
                        continue;
                    }
                    Incarnation::Occupied(it) => it,
                };
                if let Some(intent) = occupied.terminating {
                    let over = settled.contains(&intent);
                    taken |= !over;
                    // Its place is kept for whoever replaces it.
                    replaced |= !over && self.is_replaced_by(intent);
                    continue;
                }
                let presence = self.presence(slot, &occupied.instance, occupied.template);
                if presence == Presence::Gone {
                    self.plan.gone.push((slot.clone(), occupied.instance.clone()));
                    continue;
                }
                (taken, counts) = (true, true);
                if presence == Presence::Doubtful {
                    self.kept += 1;
                    *doubtful.entry(self.plugin_of(occupied.template)).or_default() += 1;
                    continue;
                }
                self.running.push(RunningMember {
                    slot,
                    instance: &occupied.instance,
                    template: occupied.template,
                    health: occupied.health,
                    incoming,
                });
            }
            self.present += usize::from(counts || replaced);
            self.replacing += usize::from(replaced && !counts);
            if taken {
                self.taken.insert(slot.clone());
            }
        }
        for (plugin, members) in doubtful {
            self.plan.waits.push(Wait::Missing { plugin: plugin.clone(), members });
        }
        for member in self.running.clone() {
            self.check_health(&member);
        }
        self.report_troubles();
    }

    /// Whether this intent destroys a member so that another takes its place.
    fn is_replaced_by(&self, intent: IntentId) -> bool {
        let task = self.group.intents.get(&intent).map(|open| &open.task);
        matches!(task, Some(Task::Destroy { reason: Reason::RollingUpdate, .. }))
            && self.group.lifecycle == Lifecycle::Managed
    }

    /// Whether an instance is there, as far as its plugin's listings prove it. None proves it by itself: a
    /// page may be cut short, and a provider that has lost its mind shows nothing at all.
    fn presence(&mut self, slot: &Slot, instance: &InstanceRef, template: Revision) -> Presence {
        let Some(view) = self.view_of(template) else { return Presence::There };
        let Some(absence) = self.observed.missing.get(instance) else { return Presence::There };
        let plugin = self.plugin_of(template);
        let many = self.suspicious.contains(plugin);
        let confirmed = if many { self.is_surely_gone(instance, view) } else { absence.listings_seen >= 2 };
        // The plugin's own word counts at once; mere absence lasts longer, of one with a name and where the group asks.
        let said = view.said_gone.contains(&instance.id) && (!many || self.observed.missing.len() == 1);
        // Nobody has to wait for one that is to go anyway.
        let stays = self.group.lifecycle == Lifecycle::Managed && self.group.wants(slot);
        let named = matches!(slot, Slot::Logical(_));
        let lasts =
            if stays { self.group.spec.healing.absence(named) } else { Healing::default().absence(named) };
        let late = view.taken_at.since(absence.first) < lasts;
        if late && !said {
            self.wake(absence.first + lasts);
        }
        let confirmed = said || confirmed && !late;
        if confirmed || is_left_out(Protection::ListingGuard) { Presence::Gone } else { Presence::Doubtful }
    }

    /// Whether looks over some time agree that it is not there, however many are missing.
    pub(super) fn is_surely_gone(&self, instance: &InstanceRef, view: &View) -> bool {
        let absence = self.observed.missing.get(instance);
        absence.is_some_and(|it| it.listings_seen >= 3 && view.taken_at.since(it.since) >= MANY_GONE)
    }
}
