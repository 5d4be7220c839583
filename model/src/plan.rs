//! Decides what to do next for one group.

mod adopt;
mod cattle;
mod pets;

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Adoption, Claim, Round};
use crate::ids::{GroupId, InstanceId, IntentId, PluginName, Revision, Slot, Term};
use crate::intent::{Intent, Outcome, Reason, Task};
use crate::observed::{Backoff, Health, Observed, Pulse, View};
use crate::rollout::Phase;
use crate::sabotage::{Protection, is_left_out};
use crate::spec::{Allocation, Gate};
use crate::state::{GroupState, Holder, Life, MOST_OPEN};
use crate::time::{Millis, Timestamp};

/// How long a call to a plugin may still take effect after it began: the deadline we give it
/// (15 s, InfraKit's own) and as much again for what the plugin started before it noticed.
pub const LONGEST_CALL: Millis = Millis::seconds(30);

/// How long a plugin must go on showing nothing, or less than half of what it should, before that is
/// believed.
pub const MANY_GONE: Millis = Millis::seconds(5);

/// How long to wait before health is asked again.
pub const PULSE_EVERY: Millis = Millis::seconds(1);

/// How many claims one round makes at most: one log entry of a few tens of kilobytes.
pub const LARGEST_BATCH: usize = 500;

/// The next steps for a group. Advice for one moment, never a program to be resumed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Open intents that a look has settled.
    pub outcomes: Vec<(IntentId, Outcome)>,
    /// Members that are no longer there.
    pub gone: Vec<(Slot, InstanceId)>,
    /// Members that are healthy for the first time.
    pub ready: Vec<(Slot, InstanceId)>,
    /// Instances of this group that take an empty slot.
    pub adopt: Vec<Adoption>,
    pub actions: Vec<Action>,
    /// Members whose health is to be asked now.
    pub ask: Vec<(Slot, InstanceId)>,
    /// Why it is not moving: the answer to the only question at three in the morning.
    pub waiting: Vec<Waiting>,
    /// Instances with this group's tag that hold no slot and are left alone.
    pub strays: Vec<InstanceId>,
    /// Every wanted member is ready at this template, for the first time.
    pub replaced: Option<Revision>,
    /// The group was being destroyed and nothing of it is left.
    pub finished: bool,
    /// When to look again though nothing has happened.
    pub wake_at: Option<Timestamp>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Provision {
        slot: Slot,
    },
    Destroy {
        instance: InstanceId,
        slot: Option<Slot>,
        template: Revision,
        reason: Reason,
    },
    /// Attempt an open intent again, under its token.
    Repeat {
        intent: IntentId,
    },
    /// Give a machine that was made by hand its group's fingerprint, so that it can be adopted.
    Label {
        plugin: PluginName,
        instance: InstanceId,
    },
}

/// Why a group does not move on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    ForValidation {
        because: String,
    },
    ForPlugin {
        plugin: PluginName,
        since: Timestamp,
        because: String,
    },
    ForListing {
        plugin: PluginName,
    },
    ForCalls {
        open: usize,
    },
    ForSettling {
        intent: IntentId,
        until: Timestamp,
        because: String,
    },
    ForBackoff {
        slot: Slot,
        until: Timestamp,
        because: String,
    },
    ForHealth {
        slot: Slot,
        instance: InstanceId,
        because: String,
    },
    ForLabel {
        instance: InstanceId,
        because: String,
    },
    /// Members that the latest look did not show: it is looked again before they are taken for gone.
    ForSight {
        plugin: PluginName,
        members: usize,
    },
}

/// The next steps for a group, in order. Empty means the group is as desired.
///
/// Called again after every step, with whatever is then observed.
pub fn plan(group: &GroupState, observed: &Observed, now: Timestamp) -> Plan {
    let mut desk = Desk::open(group, observed, now);
    desk.settle_intents();
    desk.check_members();
    match group.life {
        Life::PendingValidation => {
            desk.plan.waiting.push(Waiting::ForValidation { because: observed.unaccepted.clone() });
        }
        Life::Managed => {
            desk.take_in();
            match &group.spec.allocation {
                Allocation::Size(size) => desk.size(*size as usize),
                Allocation::LogicalIds(ids) => desk.names(ids),
            }
            desk.roll();
        }
        Life::Destroying => desk.clear_out(),
    }
    // Only new work is bounded: a repeat opens no intent, and must be possible however many are open.
    let repeats = desk.plan.actions.iter().take_while(|it| matches!(it, Action::Repeat { .. })).count();
    let most = if repeats >= LARGEST_BATCH { LARGEST_BATCH } else { repeats + desk.room };
    desk.plan.actions.truncate(most);
    desk.plan
}

impl Plan {
    /// What this plan writes to the log.
    pub fn round(&self, group: GroupId, revision: Revision, term: Term) -> Round {
        let mut round = Round {
            outcomes: self.outcomes.clone(),
            gone: self.gone.clone(),
            ready: self.ready.clone(),
            adopt: self.adopt.clone(),
            replaced: self.replaced,
            finished: self.finished,
            ..Round::new(group, revision, term)
        };
        for action in &self.actions {
            match action {
                Action::Provision { slot } => round.claims.push(Claim::Provision { slot: slot.clone() }),
                Action::Destroy { instance, slot, template, reason } => round.claims.push(Claim::Destroy {
                    instance: instance.clone(),
                    slot: slot.clone(),
                    template: *template,
                    reason: *reason,
                }),
                Action::Repeat { intent } => round.repeats.push(*intent),
                Action::Label { .. } => {}
            }
        }
        round
    }

    /// Nothing is under way, and nothing is to be done.
    pub fn is_at_rest(&self) -> bool {
        self.actions.is_empty()
            && self.outcomes.is_empty()
            && self.gone.is_empty()
            && self.adopt.is_empty()
            && self.ask.is_empty()
            && self.waiting.is_empty()
    }
}

/// A member that is there, as the planner sees it.
#[derive(Clone)]
struct Living<'a> {
    slot: &'a Slot,
    instance: &'a InstanceId,
    template: Revision,
    ready: bool,
}

/// Whether a member is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    /// The latest look did not show it, and that is not enough.
    Doubtful,
    Gone,
}

/// The plugins whose latest look shows nothing at all, or lacks most of the members it should show.
fn suspicious<'a>(group: &'a GroupState, observed: &'a Observed) -> BTreeSet<&'a PluginName> {
    if observed.absent.is_empty() {
        return BTreeSet::new();
    }
    let mut counts: BTreeMap<&PluginName, (usize, usize)> = BTreeMap::new();
    for (instance, template, ..) in group.recorded_members() {
        let plugin = &group.template_of(template).template.instance.plugin;
        let (members, absent) = counts.entry(plugin).or_default();
        *members += 1;
        *absent += usize::from(observed.absent.contains_key(instance));
    }
    let shows_nothing = |plugin| observed.views.get(plugin).is_some_and(|view| view.total == 0);
    counts
        .into_iter()
        .filter(|(plugin, (members, absent))| {
            *absent > 0 && (shows_nothing(*plugin) || *absent > 1 && absent * 2 > *members)
        })
        .map(|(plugin, _)| plugin)
        .collect()
}

/// Everything at hand while one plan is made.
struct Desk<'a> {
    group: &'a GroupState,
    observed: &'a Observed,
    now: Timestamp,
    plan: Plan,
    /// Members that are living, not doomed, and not found gone.
    living: Vec<Living<'a>>,
    /// Slots that are taken by a living, pending or doomed instance, after this plan's verdicts.
    taken: BTreeSet<Slot>,
    /// How many of them count toward the wanted number.
    present: usize,
    /// How many of them are no members yet: instances that a look has still to decide about.
    kept: usize,
    /// Plugins whose latest look lacks more than can be believed at once.
    suspicious: BTreeSet<&'a PluginName>,
    /// How many intents are still open after this plan's outcomes.
    open: usize,
    /// How many more actions fit.
    room: usize,
}

impl<'a> Desk<'a> {
    fn open(group: &'a GroupState, observed: &'a Observed, now: Timestamp) -> Self {
        Desk {
            group,
            observed,
            now,
            plan: Plan::default(),
            living: Vec::new(),
            taken: BTreeSet::new(),
            present: 0,
            kept: 0,
            suspicious: suspicious(group, observed),
            open: group.intents.len(),
            room: MOST_OPEN.saturating_sub(group.intents.len()).min(LARGEST_BATCH),
        }
    }

    /// The plugin that made, or makes, members of this template.
    fn plugin_of(&self, template: Revision) -> &'a PluginName {
        &self.group.template_of(template).template.instance.plugin
    }

    /// The latest view of a template's plugin.
    fn view_of(&self, template: Revision) -> Option<&'a View> {
        self.observed.views.get(self.plugin_of(template)).map(|view| &**view)
    }

    fn health_of(&self, instance: &InstanceId) -> Health {
        self.observed.pulses.get(instance).map_or(Health::Unknown, |pulse| pulse.health)
    }

    fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Open intents that nobody here is calling for: after a new leader, or an unsure answer.
    fn settle_intents(&mut self) {
        let mut under_way = 0;
        for intent in self.group.intents.values() {
            if self.observed.in_flight.contains(&intent.id) {
                under_way += 1;
                continue;
            }
            match self.settle(intent) {
                Some(outcome) => {
                    self.open -= 1;
                    self.plan.outcomes.push((intent.id, outcome));
                }
                None => under_way += 1,
            }
        }
        if under_way > 0 {
            self.plan.waiting.push(Waiting::ForCalls { open: under_way });
        }
    }

    /// What a look says about an open intent; without an answer, perhaps a repeat.
    ///
    /// A repeat never makes a second intent: it has the same name, and waits until the first call
    /// can no longer take effect unless the plugin knows the token again.
    fn settle(&mut self, intent: &Intent) -> Option<Outcome> {
        let template = intent.task.template();
        let unsure = self.observed.unsure.get(&intent.id);
        if is_left_out(Protection::Settling) && matches!(intent.task, Task::Provision { .. }) {
            return Some(Outcome::Refused { because: "nobody looked".into(), retryable: true });
        }
        let because = unsure.map_or_else(
            || "an earlier leader began it, and its outcome is not known".to_owned(),
            |unsure| unsure.because.clone(),
        );
        let Some(view) = self.view_of(template) else {
            self.plan.waiting.push(Waiting::ForListing { plugin: self.plugin_of(template).clone() });
            return None;
        };
        match &intent.task {
            Task::Provision { .. } => {
                if let Some(instance) = view.by_intent.get(&intent.id) {
                    return Some(Outcome::Done(instance.clone()));
                }
                let ended_at = unsure.map_or(self.observed.leading_since, |unsure| unsure.ended_at);
                // What it promises to list within a time may come as late after the call.
                let lag = view.promises.lists_within.unwrap_or_default();
                let over = ended_at + LONGEST_CALL + lag;
                let retry_at = unsure.map_or(Timestamp(0), |unsure| unsure.retry_at);
                let proven = view.promises.knows_tokens && view.after >= intent.admitted;
                if !proven && view.taken_at < over {
                    self.plan.waiting.push(Waiting::ForSettling { intent: intent.id, until: over, because });
                    self.wake(over);
                } else if self.now < retry_at {
                    self.plan.waiting.push(Waiting::ForSettling {
                        intent: intent.id,
                        until: retry_at,
                        because,
                    });
                    self.wake(retry_at);
                } else {
                    self.plan.actions.push(Action::Repeat { intent: intent.id });
                }
                None
            }
            Task::Destroy { instance, .. } => {
                if view.after >= intent.admitted && !view.seen.contains_key(instance) {
                    return Some(Outcome::Done(instance.clone()));
                }
                // Destroying by id is harmless however often it is done.
                let retry_at = unsure.map_or(Timestamp(0), |unsure| unsure.retry_at);
                if self.now < retry_at {
                    self.plan.waiting.push(Waiting::ForSettling {
                        intent: intent.id,
                        until: retry_at,
                        because,
                    });
                    self.wake(retry_at);
                } else {
                    self.plan.actions.push(Action::Repeat { intent: intent.id });
                }
                None
            }
        }
    }

    /// Who is there, who is gone, who has become ready.
    fn check_members(&mut self) {
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
                        self.await_health(slot, instance);
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

    /// Whether a member is there, as far as its plugin's listings prove it. None proves it by itself: a
    /// page may be cut short, and a provider that has lost its mind shows nothing at all.
    fn presence(&self, instance: &InstanceId, template: Revision) -> Presence {
        let Some(view) = self.view_of(template) else { return Presence::There };
        let Some(absence) = self.observed.absent.get(instance) else { return Presence::There };
        let plugin = self.plugin_of(template);
        let confirmed = if self.suspicious.contains(plugin) {
            absence.looks >= 3 && view.taken_at.since(absence.since) >= MANY_GONE
        } else {
            absence.looks >= 2
        };
        if confirmed || is_left_out(Protection::ListingGuard) { Presence::Gone } else { Presence::Doubtful }
    }

    fn report_troubles(&mut self) {
        for (plugin, trouble) in &self.observed.troubles {
            self.plan.waiting.push(Waiting::ForPlugin {
                plugin: plugin.clone(),
                since: trouble.since,
                because: trouble.because.clone(),
            });
        }
    }

    fn await_health(&mut self, slot: &Slot, instance: &InstanceId) {
        if self.health_of(instance) == Health::Healthy {
            self.plan.ready.push((slot.clone(), instance.clone()));
            return;
        }
        let because =
            self.observed.pulses.get(instance).map_or_else(String::new, |pulse| pulse.because.clone());
        self.plan.waiting.push(Waiting::ForHealth {
            slot: slot.clone(),
            instance: instance.clone(),
            because,
        });
        self.plan.ask.push((slot.clone(), instance.clone()));
    }

    /// Fills an empty slot, unless it failed a moment ago.
    fn provision(&mut self, slot: Slot) {
        if !self.is_held_back(&slot) {
            self.plan.actions.push(Action::Provision { slot });
        }
    }

    /// Whether the last attempt at this slot failed a moment ago; if so, says why it waits.
    fn is_held_back(&mut self, slot: &Slot) -> bool {
        let backoff = self.observed.backoff.get(slot).filter(|backoff| self.now < backoff.until);
        let Some(Backoff { until, because }) = backoff.cloned() else { return false };
        self.wake(until);
        self.plan.waiting.push(Waiting::ForBackoff { slot: slot.clone(), until, because });
        true
    }

    /// Whether the plugin that new members are made with was looked at since the group was created
    /// or got its template: without that, an instance that is there already might be made again.
    fn can_provision(&mut self) -> bool {
        let plugin = self.plugin_of(self.group.target);
        if self.view_of(self.group.target).is_some_and(|view| view.after >= self.group.look_from) {
            return true;
        }
        if !self.observed.troubles.contains_key(plugin) {
            self.plan.waiting.push(Waiting::ForListing { plugin: plugin.clone() });
        }
        false
    }

    fn destroy(&mut self, living: &Living<'_>, reason: Reason) {
        if self.is_held_back(living.slot) {
            return;
        }
        self.plan.actions.push(Action::Destroy {
            instance: living.instance.clone(),
            slot: Some(living.slot.clone()),
            template: living.template,
            reason,
        });
    }

    /// The order in which members are given up: the sick first, for they cost no availability,
    /// then older templates, then by instance id (InfraKit's order).
    fn by_worth(&self, mut members: Vec<Living<'a>>) -> Vec<Living<'a>> {
        members.sort_by_cached_key(|living| {
            (
                self.health_of(living.instance) != Health::Unhealthy,
                living.template == self.group.target,
                living.instance.clone(),
            )
        });
        members
    }

    /// Replaces members of older templates, one at a time, when all others are well.
    fn roll(&mut self) {
        let Phase::Running { to } = self.group.phase else { return };
        let outdated: Vec<Living<'a>> =
            self.living.iter().filter(|living| living.template != to).cloned().collect();
        // A label changes nothing about who is there; whoever is about to be taken in does.
        let acts = |action: &Action| !matches!(action, Action::Label { .. });
        let quiet = self.open == 0
            && self.kept == 0
            && !self.plan.actions.iter().any(acts)
            && self.plan.gone.is_empty()
            && self.plan.adopt.is_empty();
        let complete = self.present == self.group.wanted();
        let all_ready = self.living.iter().all(|living| living.ready || living.template != to);
        if outdated.is_empty() {
            if quiet && complete && all_ready {
                self.plan.replaced = Some(to);
            }
            return;
        }
        let well = self.gate(to);
        // The health of the old is asked too, so that the sick among them go first. The shell limits
        // how often it really asks; the planner only says what it wants to know.
        self.wake(self.now + PULSE_EVERY);
        self.plan.ask.extend(outdated.iter().map(|old| (old.slot.clone(), old.instance.clone())));
        if quiet && complete && all_ready && well {
            let first = self.by_worth(outdated).remove(0);
            self.destroy(&first, Reason::RollingUpdate);
        }
    }

    /// Whether every member of the new template has been well for as long as was asked.
    fn gate(&mut self, to: Revision) -> bool {
        let gate = self.group.spec.updating.gate;
        let current: Vec<Living<'a>> =
            self.living.iter().filter(|living| living.template == to).cloned().collect();
        let mut all_well = true;
        for living in current.iter().filter(|living| living.ready) {
            self.wake(self.now + PULSE_EVERY);
            self.plan.ask.push((living.slot.clone(), living.instance.clone()));
            let pulse = self.observed.pulses.get(living.instance);
            let healthy = pulse.filter(|pulse| pulse.health == Health::Healthy);
            let well = match gate {
                // A member that was ready under an earlier leader is asked once more here.
                Gate::Once => healthy.is_some(),
                Gate::Count(count) => healthy.is_some_and(|pulse| pulse.streak >= count),
                Gate::Duration(span) => healthy.is_some_and(|pulse| self.now.since(pulse.since) >= span),
            };
            if !well {
                all_well = false;
                let because = match (pulse, gate) {
                    (Some(Pulse { health: Health::Healthy, streak, .. }), Gate::Count(count)) => {
                        format!("healthy {streak} of {count} times in a row")
                    }
                    (Some(Pulse { health: Health::Healthy, since, .. }), Gate::Duration(span)) => {
                        format!("healthy for {} of {span}", self.now.since(*since))
                    }
                    (Some(pulse), _) => pulse.because.clone(),
                    (None, _) => String::new(),
                };
                self.plan.waiting.push(Waiting::ForHealth {
                    slot: living.slot.clone(),
                    instance: living.instance.clone(),
                    because,
                });
            }
        }
        all_well
    }

    /// All members go; the group itself when nothing is left.
    fn clear_out(&mut self) {
        for living in self.living.clone() {
            self.destroy(&living, Reason::Terminate);
        }
        // A plugin that was never reached may still hold an instance of an open intent, so the
        // intents must be settled before the group is forgotten.
        self.plan.finished = self.living.is_empty()
            && self.open == 0
            && self.plan.outcomes.is_empty()
            && self.plan.gone.is_empty()
            && self.group.is_empty();
    }
}

#[cfg(test)]
mod tests;
