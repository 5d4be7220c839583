//! What a group will do if everything is done that it asks for: the planner itself, again and again on a copy of
//! the state, until it rests.
//!
//! The plugins of this copy do what they are told, at once; nothing else changes: whoever is sick stays sick, and a
//! plugin that does not answer goes on not answering.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::answer::{Admission, Answer};
use crate::command::{Actor, Change, Command};
use crate::ids::{
    GroupId, InstanceId, InstanceRef, IntentId, LogId, LogIndex, ObjectKey, PluginName, RequestId, Slot, Term,
};
use crate::intent::{Intent, Outcome, Reason, Task};
use crate::limits::MOST_FORETOLD;
use crate::observed::{Description, Health, HealthSample, Observed, Seen, View};
use crate::plan::{Action, Plan, plan, see};
use crate::report::{Fact, Report};
use crate::state::{GroupState, Lifecycle, Member, State};
use crate::tags::{self, Tags};
use crate::time::{Millis, Timestamp};

/// What a group will do, in the order in which it begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    pub steps: Vec<Step>,
    /// Instances with the group's tag that will hold no slot and be left alone.
    pub strays: Vec<InstanceRef>,
    /// The group is too large to be looked ahead to its end: more is done than these steps.
    pub truncated: bool,
}

/// One thing that will be done, with the slot and the instance that it is done to, where it has them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub verb: Verb,
    pub slot: Option<Slot>,
    pub instance: Option<InstanceRef>,
}

/// What is done to an instance or a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Adopt,
    Create,
    /// An instance makes room for one that is made from the group's template.
    Replace,
    Destroy,
    /// An open call is attempted again.
    Repeat,
    Label,
    Start,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Adopt => "adopt",
            Verb::Create => "create",
            Verb::Replace => "replace",
            Verb::Destroy => "destroy",
            Verb::Repeat => "repeat",
            Verb::Label => "label",
            Verb::Start => "start",
        }
    }
}

/// How often in a row nothing may happen before it counts as rest: some evidence takes several listings.
const IDLE_TURNS: usize = 6;
/// Between two turns.
const TURN: Millis = Millis::seconds(1);

/// What the group `id` of `state` will do from `now` on, when the latest entry of the log is `index`.
///
/// Members of an older template are foretold to be replaced even when that is further away than a forecast looks,
/// or waits for something: it is what the group will do as soon as it can.
pub fn forecast(
    state: &State,
    id: &GroupId,
    observed: &Observed,
    index: LogIndex,
    now: Timestamp,
) -> Forecast {
    let mut rehearsal = Rehearsal {
        state: state.clone(),
        id,
        observed: observed.clone(),
        index,
        now: now.max(state.time),
        steps: Vec::new(),
        told: BTreeSet::new(),
        replaced: BTreeSet::new(),
        made: BTreeSet::new(),
    };
    rehearsal.begin();
    let (strays, truncated) = rehearsal.run();
    Forecast { steps: rehearsal.steps, strays, truncated }
}

/// The term of the leader that this plays.
const TERM: Term = Term(u64::MAX);

struct Rehearsal<'a> {
    state: State,
    id: &'a GroupId,
    observed: Observed,
    index: LogIndex,
    now: Timestamp,
    steps: Vec<Step>,
    told: BTreeSet<Step>,
    /// Slots whose instance is foretold to be replaced.
    replaced: BTreeSet<Slot>,
    /// Instances that only this copy has.
    made: BTreeSet<InstanceId>,
}

impl Rehearsal<'_> {
    /// A group that is paused, or waits for its plugins to accept it, will do the same as soon as it may.
    fn begin(&mut self) {
        if let Some(group) = self.state.groups.get_mut(self.id) {
            let group = Arc::make_mut(group);
            group.paused = None;
            // What is known now is what it is foretold with.
            group.declared_again = None;
            if group.lifecycle == Lifecycle::PendingValidation {
                group.lifecycle = Lifecycle::Managed;
            }
        }
    }

    /// The strays at the end, and whether that is further away than this looks.
    fn run(&mut self) -> (Vec<InstanceRef>, bool) {
        let under_way: Vec<IntentId> = self.observed.in_flight.iter().copied().collect();
        self.perform(&under_way);
        let (mut strays, mut idle, mut looked_at, mut truncated) = (Vec::new(), 0, 0, false);
        while let Some(group) = self.state.group(self.id).cloned() {
            self.look(&group);
            let plan = plan(&group, &self.observed, self.now);
            strays.clone_from(&plan.strays);
            if looked_at > MOST_FORETOLD {
                truncated = !plan.is_at_rest();
                break;
            }
            looked_at += group.roster.len().max(group.desired()) + 1;
            idle = if self.take(&group, &plan) { 0 } else { idle + 1 };
            if idle > 0 && plan.is_at_rest() || idle > IDLE_TURNS {
                break;
            }
            let due = plan.wake_at.filter(|_| idle > 0).unwrap_or(self.now);
            self.now = due.max(self.now + TURN);
        }
        if let Some(group) = self.state.group(self.id).cloned() {
            for (slot, instance) in group.outdated() {
                self.replace(slot, instance);
            }
        }
        (strays, truncated)
    }

    /// Every plugin that could be listed is listed again.
    fn look(&mut self, group: &GroupState) {
        self.observed.bounds = self.state.bounds(self.index, self.id);
        for (plugin, mut view) in std::mem::take(&mut self.observed.views) {
            if self.observed.troubles.contains_key(&plugin) {
                // It goes on not answering: what it showed last proves nothing new.
                self.observed.views.insert(plugin, view);
                continue;
            }
            let fresh = Arc::make_mut(&mut view);
            (fresh.taken_at, fresh.after) = (self.now, self.index);
            see(&mut self.observed, &plugin, view, group);
        }
        for known in group.recorded() {
            let sample = self.observed.health.get(known.instance);
            if !known.ready && sample.is_none_or(|it| it.health == Health::Unknown) {
                let sample = HealthSample {
                    health: Health::Healthy,
                    since: Timestamp(0),
                    streak: u32::MAX,
                    message: String::new(),
                };
                self.observed.health.insert(known.instance.clone(), sample);
            }
        }
    }

    /// Does what the plan says; false when it says nothing.
    fn take(&mut self, group: &GroupState, plan: &Plan) -> bool {
        for it in &plan.adopt {
            let instance = InstanceRef::new(group.plugin_of(it.template), &it.instance);
            self.foretell(Verb::Adopt, Some(&it.slot), Some(instance));
        }
        for action in &plan.actions {
            self.foretell_action(group, action);
        }
        for instance in &plan.start {
            self.foretell(Verb::Start, None, Some(instance.clone()));
            self.change(instance, |view, id| {
                view.not_running.remove(id);
                let Some(seen) = view.seen.get_mut(id) else { return };
                Arc::make_mut(&mut seen.description).state = None;
            });
        }
        let report = plan.report(self.id, (group.revision, group.target), TERM, []);
        if report.is_empty() {
            return !plan.start.is_empty();
        }
        let repeats = report.repeats.clone();
        let Answer::Admitted(admissions) = self.apply(Change::Report(report)) else { return false };
        let granted = admissions.into_iter().filter_map(|it| match it {
            Admission::Granted(id) => Some(id),
            Admission::Denied(_) => None,
        });
        let intents: Vec<IntentId> = granted.chain(repeats).collect();
        self.perform(&intents);
        true
    }

    fn foretell_action(&mut self, group: &GroupState, action: &Action) {
        match action {
            Action::Provision { slot } if self.replaced.contains(slot) => {}
            Action::Provision { slot } => self.foretell(Verb::Create, Some(slot), None),
            Action::Replace { slot } => {
                let holder = group.roster.get(slot).and_then(Member::occupied);
                if let Some(holder) = holder {
                    self.replace(slot, &holder.instance);
                }
            }
            Action::Destroy { instance, slot, template, reason } => {
                let instance = InstanceRef::new(group.plugin_of(*template), instance);
                match (reason, slot) {
                    (Reason::RollingUpdate, Some(slot)) => self.replace(slot, &instance),
                    _ => self.foretell(Verb::Destroy, slot.as_ref(), Some(instance)),
                }
            }
            Action::Repeat { intent } => {
                let Some(Intent { task, .. }) = group.intents.get(intent) else { return };
                let instance = match task {
                    Task::Destroy { instance, .. } => Some(instance.clone()),
                    Task::Provision { .. } | Task::Label { .. } => None,
                };
                self.foretell(Verb::Repeat, task.slot(), instance);
            }
            Action::Label { instance } => {
                let instance = InstanceRef::new(group.plugin_of(group.target), instance);
                self.foretell(Verb::Label, None, Some(instance));
            }
        }
    }

    /// Once for each slot, whichever of its two instances comes first.
    fn replace(&mut self, slot: &Slot, instance: &InstanceRef) {
        if self.replaced.insert(slot.clone()) {
            self.foretell(Verb::Replace, Some(slot), Some(instance.clone()));
        }
    }

    fn foretell(&mut self, verb: Verb, slot: Option<&Slot>, instance: Option<InstanceRef>) {
        // What this copy made has no name that anybody could know.
        let instance = instance.filter(|it| !self.made.contains(&it.id));
        let step = Step { verb, slot: slot.cloned(), instance };
        if self.told.insert(step.clone()) {
            self.steps.push(step);
        }
    }

    /// The plugins do what these intents are for.
    fn perform(&mut self, intents: &[IntentId]) {
        let Some(group) = self.state.group(self.id).cloned() else { return };
        for id in intents {
            let Some(intent) = group.intents.get(id) else { continue };
            let known = group.template_of(intent.task.template());
            let plugin = &known.template.instance.plugin;
            let outcome = match &intent.task {
                Task::Provision { slot, generation, .. } => {
                    let mut tags = tags::of_slot(slot, *generation);
                    tags.insert(tags::GROUP.to_owned(), self.id.to_string());
                    tags.insert(tags::CONFIG_HASH.to_owned(), known.hash.clone());
                    self.make(plugin, *id, slot, tags)
                }
                Task::Destroy { instance, .. } => {
                    self.change(instance, |view, id| {
                        view.total -= usize::from(view.seen.remove(id).is_some());
                        view.by_intent.retain(|_, it| it != id);
                        view.duplicates.retain(|(_, it)| it != id);
                        view.not_running.remove(id);
                    });
                    instance.id.clone()
                }
                Task::Label { instance, .. } => {
                    let hash = known.hash.clone();
                    self.change(&InstanceRef::new(plugin, instance), |view, id| {
                        let Some(seen) = view.seen.get_mut(id) else { return };
                        let description = Arc::make_mut(&mut seen.description);
                        description.tags.insert(tags::CONFIG_HASH.to_owned(), hash);
                        seen.bootstrap = false;
                    });
                    instance.clone()
                }
            };
            let mut report = Report::new(ObjectKey::group(self.id), group.revision, TERM);
            report.facts.push(Fact::Outcome(*id, Outcome::Done(outcome)));
            self.apply(Change::Report(report));
        }
    }

    /// An instance for this intent, unless one is listed already.
    fn make(&mut self, plugin: &PluginName, intent: IntentId, slot: &Slot, mut tags: Tags) -> InstanceId {
        let view = self.observed.views.entry(plugin.clone()).or_default();
        if let Some(known) = view.by_intent.get(&intent) {
            return known.clone();
        }
        let id = InstanceId::new(format!("made by {intent}"));
        tags.extend(self.state.cluster.iter().map(|it| (tags::OWNER.to_owned(), it.to_string())));
        let logical_id = slot.logical_id().cloned();
        let description =
            Arc::new(Description { id: id.clone(), logical_id, tags, properties: None, state: None });
        let seen = Seen { description, ours: true, intent: Some(intent), bootstrap: false, lost: false };
        let view = Arc::make_mut(view);
        view.seen.insert(id.clone(), seen);
        view.by_intent.insert(intent, id.clone());
        view.total += 1;
        self.made.insert(id.clone());
        id
    }

    /// Something of it changes in what its plugin lists.
    fn change(&mut self, instance: &InstanceRef, how: impl FnOnce(&mut View, &InstanceId)) {
        if let Some(view) = self.observed.views.get_mut(&instance.plugin) {
            how(Arc::make_mut(view), &instance.id);
        }
    }

    fn apply(&mut self, change: Change) -> Answer {
        self.index = LogIndex(self.index.0 + 1);
        let command = Command {
            id: RequestId(u128::from(self.index.0)),
            by: Actor("plan".into()),
            at: self.now,
            change,
        };
        self.state.apply(LogId { term: TERM, index: self.index }, &command).answer
    }
}
