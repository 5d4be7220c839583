//! Who is there and who is gone, as far as listings prove it.

use std::collections::{BTreeMap, BTreeSet};

use super::planner::{Planner, RunningMember};
use super::waiting::Waiting;
use crate::failpoints::{Protection, is_left_out};
use crate::ids::{InstanceId, IntentId, PluginName, Revision};
use crate::limits::MANY_GONE;
use crate::observed::View;
use crate::state::Holder;

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
        let mut doubtful: BTreeMap<&PluginName, Vec<&InstanceId>> = BTreeMap::new();
        let settled: BTreeSet<IntentId> = self.plan.outcomes.iter().map(|(id, _)| *id).collect();
        for (slot, member) in &self.group.roster {
            match &member.holder {
                Holder::Empty => {}
                Holder::Pending(_) => {
                    self.taken.insert(slot.clone());
                    self.present += 1;
                }
                Holder::Occupied { terminating: Some(intent), .. } => {
                    if !settled.contains(intent) {
                        self.taken.insert(slot.clone());
                    }
                }
                Holder::Occupied { instance, template, ready, terminating: None, .. } => {
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
                    self.running.push(RunningMember { slot, instance, template: *template, ready: *ready });
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
        let Some(absence) = self.observed.missing.get(instance) else { return Presence::There };
        let plugin = self.plugin_of(template);
        let confirmed = if self.suspicious.contains(plugin) {
            self.is_surely_gone(instance, view)
        } else {
            absence.listings_seen >= 2
        };
        if confirmed || is_left_out(Protection::ListingGuard) { Presence::Gone } else { Presence::Doubtful }
    }

    /// Whether looks over some time agree that it is not there, however many are missing.
    pub(super) fn is_surely_gone(&self, instance: &InstanceId, view: &View) -> bool {
        let absence = self.observed.missing.get(instance);
        absence.is_some_and(|it| it.listings_seen >= 3 && view.taken_at.since(it.since) >= MANY_GONE)
    }
}
