//! The working state of one call of `plan`, and the rules that all its parts share.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::evidence;
use super::steps::{Action, Plan};
use super::waiting::Wait;
use crate::ids::{InstanceRef, PluginName, Revision, Slot};
use crate::intent::Reason;
use crate::limits::{HEALTH_EVERY, LARGEST_BATCH, MANY_GONE, MOST_OPEN};
use crate::observed::{Backoff, FirstLook, Health, InstanceState, Observed, View};
use crate::state::{GroupState, Paused, Verdict};
use crate::time::Timestamp;

/// A member that exists, as the planner sees it.
#[derive(Clone)]
pub(super) struct RunningMember<'a> {
    pub(super) slot: &'a Slot,
    pub(super) instance: &'a InstanceRef,
    pub(super) template: Revision,
    pub(super) health: Verdict,
    /// It replaces the current holder of its slot.
    pub(super) incoming: bool,
}

impl RunningMember<'_> {
    pub(super) fn is_ready(&self) -> bool {
        self.health == Verdict::Ready
    }
}

/// The working state of one call of `plan`.
pub(super) struct Planner<'a> {
    pub(super) group: &'a GroupState,
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    pub(super) plan: Plan,
    /// Members that exist, and are neither terminating nor found gone.
    pub(super) running: Vec<RunningMember<'a>>,
    /// Slots that are taken by a running, pending or terminating instance, after this plan's verdicts.
    pub(super) taken: BTreeSet<Slot>,
    /// How many of them count toward the desired number.
    pub(super) present: usize,
    /// How many of them are only reserved for the replacement of a terminating instance.
    pub(super) replacing: usize,
    /// How many of them are only reserved for instances that a newer listing has to decide about.
    pub(super) kept: usize,
    /// Something is listed whose tags are still to tell which member it is.
    pub(super) unplaced: bool,
    /// Newcomers that are there, and recorded only later: they are judged, or labelled, first.
    pub(super) unrecorded: usize,
    /// No instance says that it does not run.
    pub(super) all_run: bool,
    /// Plugins whose latest listing lacks more members than can have gone at once.
    pub(super) suspicious: BTreeSet<&'a PluginName>,
    /// How many intents are still open after this plan's outcomes.
    pub(super) open: usize,
    /// How many more actions fit.
    pub(super) room: usize,
    /// How many more instances the group's rate allows, and the cluster's ceiling.
    pub(super) rate: usize,
    pub(super) ceiling: usize,
}

impl<'a> Planner<'a> {
    pub(super) fn open(group: &'a GroupState, observed: &'a Observed, now: Timestamp) -> Self {
        Planner {
            group,
            observed,
            now,
            plan: Plan::default(),
            running: Vec::new(),
            taken: BTreeSet::new(),
            present: 0,
            replacing: 0,
            kept: 0,
            unplaced: false,
            unrecorded: 0,
            all_run: observed.views.values().all(|view| view.not_running.is_empty()),
            suspicious: evidence::suspicious(group, observed),
            open: group.intents.len(),
            room: MOST_OPEN
                .saturating_sub(group.intents.len())
                .min(LARGEST_BATCH)
                .min(observed.bounds.open_for(group.intents.len())),
            rate: group.may_make(now),
            ceiling: observed.bounds.instances,
        }
    }

    /// The plugin that creates members of this template.
    pub(super) fn plugin_of(&self, template: Revision) -> &'a PluginName {
        &self.group.template_of(template).template.instance.plugin
    }

    /// The latest view of a template's plugin.
    pub(super) fn view_of(&self, template: Revision) -> Option<&'a View> {
        self.observed.views.get(self.plugin_of(template)).map(|view| &**view)
    }

    /// Its state as its plugin lists it, when it is not running.
    pub(super) fn not_running(&self, member: &RunningMember<'_>) -> Option<&'a InstanceState> {
        // Asked for each of a large group, in every plan: nearly always all of them run.
        if self.all_run {
            return None;
        }
        let view = self.view_of(member.template)?;
        let id = view.not_running.get(&member.instance.id)?;
        view.seen.get(id)?.not_running()
    }

    pub(super) fn health_of(&self, instance: &InstanceRef) -> Health {
        self.observed.health.get(instance).map_or(Health::Unknown, |sample| sample.health)
    }

    /// Whether its latest health sample is unhealthy, or its verdict if there is none.
    pub(super) fn is_sick(&self, member: &RunningMember<'_>) -> bool {
        if self.not_running(member).is_some() {
            return true;
        }
        let verdict = matches!(member.health, Verdict::Unhealthy { .. });
        match self.health_of(member.instance) {
            Health::Unhealthy => true,
            Health::Healthy => false,
            Health::Unknown => verdict,
        }
    }

    pub(super) fn wake(&mut self, at: Timestamp) {
        // What was due waits for a listing: that is no reason to plan again at once.
        let at = if at > self.now { at } else { self.now + HEALTH_EVERY };
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn report_troubles(&mut self) {
        for (plugin, trouble) in &self.observed.troubles {
            self.plan.waits.push(Wait::Plugin {
                plugin: plugin.clone(),
                since: trouble.since,
                message: trouble.message.clone(),
            });
        }
    }

    /// Fills an empty slot, unless it failed a moment ago, or too many instances exist or were created.
    pub(super) fn provision(&mut self, slot: Slot) {
        if !self.is_held_back(&slot) && self.rate_allows() && self.ceiling_allows() {
            self.rate -= 1;
            self.ceiling -= 1;
            self.plan.actions.push(Action::Provision { slot });
        }
    }

    /// Whether the cluster may have one more instance; if not, the plan says so.
    pub(super) fn ceiling_allows(&mut self) -> bool {
        if self.ceiling > 0 {
            return true;
        }
        // When an instance of another group goes, there is room again, and this group is not told.
        self.wake(self.now + HEALTH_EVERY);
        self.wait_once(Wait::Ceiling);
        false
    }

    /// Whether a member that is destroyed now may be replaced; if not, the plan says so.
    pub(super) fn may_be_refilled(&mut self) -> bool {
        if self.observed.bounds.overfull {
            self.wake(self.now + HEALTH_EVERY);
            self.wait_once(Wait::Ceiling);
        }
        !self.observed.bounds.overfull
    }

    /// Whether the group may create another instance by its rate; if not, the plan says until when it waits.
    pub(super) fn rate_allows(&mut self) -> bool {
        if self.rate > 0 {
            return true;
        }
        let until = self.group.may_make_from(self.now);
        self.wake(until);
        self.wait_once(Wait::Rate { until });
        false
    }

    pub(super) fn wait_once(&mut self, waiting: Wait) {
        if !self.plan.waits.contains(&waiting) {
            self.plan.waits.push(waiting);
        }
    }

    /// Whether the last attempt for this slot failed a moment ago; if so, the plan says why it waits. What a template
    /// failed at says nothing about the one that replaced it, such as that of before.
    pub(super) fn is_held_back(&mut self, slot: &Slot) -> bool {
        let holds = |it: &&Backoff| self.now < it.until && it.template == self.group.target;
        let backoff = self.observed.backoff.get(slot).filter(holds);
        let Some(Backoff { until, message, .. }) = backoff.cloned() else { return false };
        self.wake(until);
        self.plan.waits.push(Wait::Backoff { slot: slot.clone(), until, message });
        true
    }

    /// Whether the plugin that creates new members was listed since the group was created or got its template, and all
    /// that it had before is known: without that, a member that exists already might be created again.
    pub(super) fn can_provision(&mut self) -> bool {
        let plugin = self.plugin_of(self.group.target);
        let listed = self.view_of(self.group.target).is_some_and(|view| view.after >= self.group.list_from);
        if listed && !self.unplaced && self.group.declared_again.is_none() {
            return true;
        }
        if self.observed.troubles.contains_key(plugin) {
            return false;
        }
        match self.members_of_before().filter(|until| listed && !self.unplaced && self.now < *until) {
            Some(until) => self.wait_once(Wait::Known { plugin: plugin.clone(), until }),
            None => self.wait_once(Wait::Listing { plugin: plugin.clone() }),
        }
        false
    }

    /// Until when listings may lack what a group of this name had before it was declared again: like the absence of
    /// members it is confirmed, for listings may be cut short. None when there was none.
    fn members_of_before(&mut self) -> Option<Timestamp> {
        let view = self.view_of(self.group.target)?;
        let from = evidence::shows_all_from(self.observed, view, self.group)?;
        let until = self.observed.first_look.map_or(from, |first| first.at + MANY_GONE);
        self.wake(until);
        Some(until)
    }

    /// Whether two listings, apart from each other, have shown all of it, and all of it is recorded: the next listing may
    /// be cut short.
    pub(super) fn knows_its_members(&self) -> bool {
        let Some(view) = self.view_of(self.group.target) else { return false };
        let confirmed = |first: FirstLook| view.taken_at >= first.at + MANY_GONE;
        self.group.declared_again.is_some()
            && !self.unplaced
            && self.unrecorded == 0
            && self.plan.adopt.is_empty()
            && self.observed.first_look.is_some_and(confirmed)
    }

    pub(super) fn destroy(&mut self, running: &RunningMember<'_>, reason: Reason) {
        if self.is_held_back(running.slot) {
            return;
        }
        if self.hosts_a_manager(running.instance) {
            return;
        }
        self.plan.actions.push(Action::Destroy {
            instance: running.instance.id.clone(),
            slot: Some(running.slot.clone()),
            template: running.template,
            reason,
        });
    }

    /// Whether a manager runs on it; if so, the plan says that it stays.
    pub(super) fn hosts_a_manager(&mut self, instance: &InstanceRef) -> bool {
        let Some(manager) = self.observed.bounds.hosts.manager_on(instance) else { return false };
        let manager = manager.to_owned();
        self.plan.waits.push(Wait::Manager { instance: instance.id.clone(), manager });
        true
    }

    /// The order in which members are destroyed: the machines of managers last, the unhealthy first, because
    /// they cost no availability, then those that are not ready, then older templates, then the highest slots.
    pub(super) fn by_worth(&self, mut members: Vec<RunningMember<'a>>) -> Vec<RunningMember<'a>> {
        members.sort_by_cached_key(|running| {
            (
                self.observed.bounds.hosts.has(running.instance),
                !self.is_sick(running),
                running.is_ready(),
                running.template == self.group.target,
                // A member that stays keeps its slot, so the highest go first (decision 46).
                Reverse(running.slot),
            )
        });
        members
    }

    /// The plan of a paused group: it reports what is known, and has no actions.
    pub(super) fn at_rest(mut self, paused: &Paused) -> Plan {
        self.plan.actions.clear();
        self.plan.adopt.clear();
        self.patrol();
        let (since, by) = (paused.since, paused.by.to_string());
        self.plan.waits.insert(0, Wait::Paused { since, by });
        self.plan
    }

    /// Destroys all members, and removes the group when nothing is left.
    pub(super) fn clear_out(&mut self) {
        for running in self.running.clone() {
            self.destroy(&running, Reason::Terminate);
        }
        // A plugin that was never reached may still hold an instance of an open intent, so the
        // intents must be settled before the group is forgotten.
        self.plan.finished = self.running.is_empty()
            && self.open == 0
            && self.plan.outcomes.is_empty()
            && self.plan.gone.is_empty()
            && self.group.is_empty();
    }
}
