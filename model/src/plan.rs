//! Decides what to do next for one group.

mod adopt;
mod cattle;
mod operator;
mod pets;
mod presence;
mod roll;
mod settle;

use std::collections::BTreeSet;

use crate::command::{Adoption, Claim, Round};
use crate::ids::{GroupId, InstanceId, IntentId, PluginName, Revision, Slot, Term};
use crate::intent::{Outcome, Reason};
use crate::observed::{Backoff, Health, Observed, PluginClass, View};
use crate::spec::Allocation;
use crate::state::{GroupState, Life, MOST_OPEN};
use crate::time::{Millis, Timestamp};

pub use operator::{Unasked, operators_word};

/// How long a call to a plugin may still take effect after it began: the deadline we give it
/// (15 s, InfraKit's own) and as much again for what the plugin started before it noticed.
pub const LONGEST_CALL: Millis = Millis::seconds(30);

/// How many members must be missing from one look for it to be doubted the more.
pub const MANY: usize = 3;

/// How long a plugin must go on showing nothing, or lacking [`MANY`] or most of the members it should
/// show, before that is believed.
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
    /// What should not be, and is left as it is.
    pub conditions: Vec<Condition>,
}

/// Something at the provider that this cluster cannot have done. Nothing is destroyed because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It carries this cluster's id, and a token that was never given out; empty when it has none.
    UnknownIntent { instance: InstanceId, token: String },
    /// Two instances carry one token, which was used once.
    SharedToken { intent: IntentId, instances: [InstanceId; 2] },
    /// A second instance of one logical id, made by an earlier lineage in what was lost of its log.
    SecondOfName { instance: InstanceId, name: String },
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
        until: Timestamp,
        because: String,
    },
    ForStray {
        instance: InstanceId,
        until: Timestamp,
        because: String,
    },
    /// Its plugin cannot show whether it was made: only a person can find out.
    ForOperator {
        intent: IntentId,
        slot: Slot,
        because: String,
    },
    /// So many intents of other groups are open that none may be added.
    ForOthers,
    /// The cluster has as many instances as it may have.
    ForCeiling,
    /// The group has made too many instances in a short time.
    ForRate {
        until: Timestamp,
    },
    /// A manager runs on the instance that is to go.
    ForManager {
        instance: InstanceId,
        manager: String,
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
    desk.report_strangers();
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
    let complete = desk.present == group.wanted() && group.outdated().next().is_none();
    if observed.bounds.open == 0 && !complete {
        // Whoever makes room does not say so here.
        desk.wake(now + PULSE_EVERY);
        desk.plan.waiting.push(Waiting::ForOthers);
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
                Action::Label { instance } => round.claims.push(Claim::Label { instance: instance.clone() }),
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
    /// How many more instances the group's rate allows, and the cluster's ceiling.
    rate: usize,
    ceiling: usize,
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
            suspicious: presence::suspicious(group, observed),
            open: group.intents.len(),
            room: MOST_OPEN.saturating_sub(group.intents.len()).min(LARGEST_BATCH).min(observed.bounds.open),
            rate: group.may_make(now),
            ceiling: observed.bounds.instances,
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

    fn report_troubles(&mut self) {
        for (plugin, trouble) in &self.observed.troubles {
            self.plan.waiting.push(Waiting::ForPlugin {
                plugin: plugin.clone(),
                since: trouble.since,
                because: trouble.because.clone(),
            });
        }
    }

    fn await_health(&mut self, slot: &Slot, instance: &InstanceId, template: Revision) {
        // Who was never listed by a plugin that proves nothing is not believed to be there, whatever its
        // flavor says; and which plugin that is, a look tells.
        let unseen = self.view_of(template).is_none_or(|view| {
            view.promises.class == PluginClass::Blind && !view.seen.contains_key(instance)
        });
        let healthy = self.health_of(instance) == Health::Healthy;
        if healthy && !unseen {
            self.plan.ready.push((slot.clone(), instance.clone()));
            return;
        }
        let pulse = self.observed.pulses.get(instance).map_or("", |pulse| &pulse.because);
        let because = if unseen { "its plugin has not listed it yet" } else { pulse }.to_owned();
        self.plan.waiting.push(Waiting::ForHealth {
            slot: slot.clone(),
            instance: instance.clone(),
            because,
        });
        self.plan.ask.push((slot.clone(), instance.clone()));
    }

    /// Fills an empty slot, unless it failed a moment ago or too many are there or were made.
    fn provision(&mut self, slot: Slot) {
        if !self.is_held_back(&slot) && self.rate_allows() && self.ceiling_allows() {
            self.rate -= 1;
            self.ceiling -= 1;
            self.plan.actions.push(Action::Provision { slot });
        }
    }

    /// Whether the cluster may have one more instance; if not, says so.
    fn ceiling_allows(&mut self) -> bool {
        if self.ceiling > 0 {
            return true;
        }
        // Whoever goes elsewhere makes room, and does not say so here.
        self.wake(self.now + PULSE_EVERY);
        self.wait_once(Waiting::ForCeiling);
        false
    }

    /// Whether the place of whoever goes now may be filled again; if not, says so.
    fn may_be_refilled(&mut self) -> bool {
        if self.observed.bounds.overfull {
            self.wake(self.now + PULSE_EVERY);
            self.wait_once(Waiting::ForCeiling);
        }
        !self.observed.bounds.overfull
    }

    /// Whether the group has not made too many in a short time; if it has, says until when it waits.
    fn rate_allows(&mut self) -> bool {
        if self.rate > 0 {
            return true;
        }
        let until = self.group.may_make_from(self.now);
        self.wake(until);
        self.wait_once(Waiting::ForRate { until });
        false
    }

    fn wait_once(&mut self, waiting: Waiting) {
        if !self.plan.waiting.contains(&waiting) {
            self.plan.waiting.push(waiting);
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
        if self.hosts_a_manager(living.instance) {
            return;
        }
        self.plan.actions.push(Action::Destroy {
            instance: living.instance.clone(),
            slot: Some(living.slot.clone()),
            template: living.template,
            reason,
        });
    }

    /// Whether a manager runs on it; if so, says that it stays.
    fn hosts_a_manager(&mut self, instance: &InstanceId) -> bool {
        let Some(manager) = self.observed.bounds.hosts.get(instance).cloned() else { return false };
        self.plan.waiting.push(Waiting::ForManager { instance: instance.clone(), manager });
        true
    }

    /// The order in which members are given up: the machines of managers last, the sick first, for they
    /// cost no availability, then older templates, then by instance id (InfraKit's order).
    fn by_worth(&self, mut members: Vec<Living<'a>>) -> Vec<Living<'a>> {
        members.sort_by_cached_key(|living| {
            (
                self.observed.bounds.hosts.contains_key(living.instance),
                self.health_of(living.instance) != Health::Unhealthy,
                living.template == self.group.target,
                living.instance.clone(),
            )
        });
        members
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
