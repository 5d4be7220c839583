//! Who is there and who is gone, as far as listings prove it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desk, Living, MANY, MANY_GONE, Waiting};
use crate::ids::{InstanceId, IntentId, PluginName, Revision};
use crate::observed::{Observed, View};
use crate::sabotage::{Protection, is_left_out};
use crate::state::{GroupState, Holder, Recorded};

/// Whether a member is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    /// The latest look did not show it, and that is not enough.
    Doubtful,
    Gone,
}

/// The plugins whose latest look shows nothing at all, or lacks many of the members it should show:
/// instances seldom die together, and listings are cut short.
pub(super) fn suspicious<'a>(group: &'a GroupState, observed: &'a Observed) -> BTreeSet<&'a PluginName> {
    if observed.absent.is_empty() {
        return BTreeSet::new();
    }
    let mut counts: BTreeMap<&PluginName, (usize, usize)> = BTreeMap::new();
    for Recorded { instance, template, .. } in group.recorded() {
        let plugin = &group.template_of(template).template.instance.plugin;
        let absent = observed.absent.contains_key(instance);
        let seen = observed.views.get(plugin).is_some_and(|view| view.seen.contains_key(instance));
        let (shown, missing) = counts.entry(plugin).or_default();
        // Whom a listing need not show yet says nothing about it.
        *shown += usize::from(seen || absent);
        *missing += usize::from(absent);
    }
    let view = |plugin| observed.views.get(plugin);
    let shows_nothing = |plugin| view(plugin).is_some_and(|view| view.total == 0);
    // Groups share a listing: what is cut short takes a few from each.
    let lacks_many = |plugin| view(plugin).is_some_and(|view| view.fewer >= MANY);
    counts
        .into_iter()
        .filter(|(plugin, (members, absent))| {
            *absent > 0
                && (shows_nothing(*plugin)
                    || lacks_many(*plugin)
                    || *absent >= MANY
                    || *absent > 1 && absent * 2 > *members)
        })
        .map(|(plugin, _)| plugin)
        .collect()
}

impl<'a> Desk<'a> {
    /// Who is there, who is gone, who has become ready.
    pub(super) fn check_members(&mut self) {
        let mut doubtful: BTreeMap<&PluginName, Vec<&InstanceId>> = BTreeMap::new();
        let settled: BTreeSet<IntentId> = self.plan.outcomes.iter().map(|(id, _)| *id).collect();
        for (slot, member) in &self.group.roster {
            match &member.holder {
                Holder::Nobody => {}
                Holder::Pending(_) => {
                    self.taken.insert(slot.clone());
                    self.present += 1;
                }
                Holder::Living { doomed: Some(intent), .. } => {
                    if !settled.contains(intent) {
                        self.taken.insert(slot.clone());
                    }
                }
                Holder::Living { instance, template, ready, doomed: None, .. } => {
                    let presence = self.presence(instance, *template);
                    if presence == Presence::Gone {
                        self.plan.gone.push((slot.clone(), instance.clone()));
                        continue;
                    }
                    self.taken.insert(slot.clone());
                    self.present += 1;
                    if presence == Presence::Doubtful {
                        self.kept += 1;
                        doubtful.entry(self.plugin_of(*template)).or_default().push(instance);
                        continue;
                    }
                    if !ready {
                        self.await_health(slot, instance, *template);
                    }
                    self.living.push(Living { slot, instance, template: *template, ready: *ready });
                }
            }
        }
        for (plugin, members) in doubtful {
            self.plan.waiting.push(Waiting::ForSight { plugin: plugin.clone(), members: members.len() });
        }
        self.report_troubles();
    }

    /// Whether an instance is there, as far as its plugin's listings prove it. None proves it by itself: a
    /// page may be cut short, and a provider that has lost its mind shows nothing at all.
    fn presence(&self, instance: &InstanceId, template: Revision) -> Presence {
        let Some(view) = self.view_of(template) else { return Presence::There };
        let Some(absence) = self.observed.absent.get(instance) else { return Presence::There };
        let plugin = self.plugin_of(template);
        let confirmed = if self.suspicious.contains(plugin) {
            self.is_surely_gone(instance, view)
        } else {
            absence.looks >= 2
        };
        if confirmed || is_left_out(Protection::ListingGuard) { Presence::Gone } else { Presence::Doubtful }
    }

    /// Whether looks over some time agree that it is not there, however many are missing.
    pub(super) fn is_surely_gone(&self, instance: &InstanceId, view: &View) -> bool {
        let absence = self.observed.absent.get(instance);
        absence.is_some_and(|it| it.looks >= 3 && view.taken_at.since(it.since) >= MANY_GONE)
    }
}
