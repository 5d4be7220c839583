//! The world as a tabletop, for tests: every action comes true there, or fails as told; every call is kept.
//!
//! It is as unkind as providers are: it makes what it says it has not made, shows it late or without its tags,
//! and forgets to answer. Time is tokio's own, so a test that pauses it waits for nothing.

mod script;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::intent::{Reason, Task};
use model::plugin::{Guarantees, PluginClass};
use model::tags::{self, Tags};
use model::{
    Description, GroupId, GroupSpec, Health, InstanceId, InstanceState, Millis, Outcome, Part, PluginName,
    RunStatus, Slot,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Listed, Rejection, Told, Work, World};
use crate::lease::Lease;
use script::Script;
pub(crate) use script::{CallKind, Fate};

/// What a test waits for at most: longer than the longest pause after failures, and a lost call on top of it.
const DEADLINE: Duration = Duration::from_secs(300);
/// What a plugin's answer is waited for by whoever calls it.
const ANSWERED_IN: Duration = Duration::from_secs(15);

/// A handle on the table; clones are one table.
#[derive(Clone)]
pub(crate) struct Tabletop(Arc<watch::Sender<Table>>);

/// What lies there, and what has happened.
pub(crate) struct Table {
    pub(crate) instances: Vec<Instance>,
    /// The tags with which the flavor was asked about an instance.
    pub(crate) asked_with: Vec<Tags>,
    /// In the order in which they began.
    pub(crate) calls: Vec<Call>,
    /// How many there were, at every change of it.
    pub(crate) census: Vec<Census>,
    events: usize,
    script: Script,
}

/// One instance, as the provider knows it.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) plugin: PluginName,
    /// As they are listed.
    pub(crate) tags: Tags,
    /// The token it was made with.
    pub(crate) token: String,
    pub(crate) slot: Option<Slot>,
    /// From when it is listed, and from when anybody can say how it is.
    listed_from: Instant,
    booted: Instant,
    pub(crate) lives: bool,
    /// It has stopped, and is still there.
    pub(crate) stopped: bool,
}

/// One call, as it was made.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) kind: CallKind,
    pub(crate) group: Option<GroupId>,
    pub(crate) slot: Option<Slot>,
    pub(crate) instance: Option<InstanceId>,
    /// The name of the intent that it carries out; empty for a question.
    pub(crate) token: String,
}

/// How many instances there were at one moment, and how many of them would have been called healthy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Census {
    pub(crate) living: usize,
    pub(crate) well: usize,
}

impl Tabletop {
    /// A plugin of our own: it knows a token again, and lists at once what it makes.
    pub(crate) fn new() -> Self {
        let guarantees = Guarantees { class: PluginClass::A, lists_within: Some(Millis(0)) };
        let table = Table {
            instances: Vec::new(),
            asked_with: Vec::new(),
            calls: Vec::new(),
            census: Vec::new(),
            events: 0,
            script: Script::promising(guarantees),
        };
        Self(Arc::new(watch::Sender::new(table)))
    }

    /// What is there now.
    pub(crate) fn see<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.0.borrow())
    }

    fn touch<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut result = None;
        self.0.send_modify(|table| {
            result = Some(change(table));
            table.count();
        });
        result.expect("`send_modify` calls it")
    }

    /// Waits until it is so; a test that waits too long says for what, and what was called meanwhile.
    pub(crate) async fn until(&self, what: &str, holds: impl FnMut(&Table) -> bool) {
        let mut table = self.0.subscribe();
        let came = tokio::time::timeout(DEADLINE, table.wait_for(holds)).await.map(|it| it.map(drop));
        match came {
            Ok(came) => came.expect("this handle holds the sender"),
            Err(_) => panic!("waited {DEADLINE:?} without success until {what}\n{}", self.see(Table::story)),
        }
    }

    /// The instance of a slot dies by itself, and nobody says so.
    pub(crate) fn kill(&self, slot: &Slot) {
        self.touch(|table| {
            let victim = table.instances.iter_mut().find(|it| it.lives && it.slot.as_ref() == Some(slot));
            victim.expect("somebody lives in the slot").lives = false;
        });
    }

    /// The instance of a slot stops, and can be started.
    pub(crate) fn stop(&self, slot: &Slot) {
        self.touch(|table| {
            let it = table.instances.iter_mut().find(|it| it.lives && it.slot.as_ref() == Some(slot));
            it.expect("somebody lives in the slot").stopped = true;
        });
    }

    /// The plugin says that something has happened.
    pub(crate) fn says_an_event(&self) {
        self.touch(|table| table.events += 1);
    }

    async fn take_event(&self) {
        let mut table = self.0.subscribe();
        loop {
            let taken = self.0.send_if_modified(|table| {
                let is_there = table.events > 0;
                table.events -= usize::from(is_there);
                is_there
            });
            if taken {
                return;
            }
            table.changed().await.expect("this handle holds the sender");
        }
    }

    fn record(&self, call: Call) -> (Fate, Duration) {
        self.touch(|table| {
            let fate = table.script.fate(call.kind, call.slot.as_ref());
            table.calls.push(call);
            (fate, table.script.takes)
        })
    }

    /// Carries one call out as it is fated. `Done` says that it was done, and was answered.
    async fn carry_out(
        &self,
        (fate, takes): (Fate, Duration),
        effect: impl FnOnce(&mut Table) -> InstanceId + Send + 'static,
    ) -> Outcome {
        let unsure = || Outcome::Unsure { message: "told so: no answer".into() };
        // A provider goes on with what it was told, whatever becomes of whoever told it.
        let done_after = |delay: Duration| {
            let table = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                table.touch(effect)
            })
        };
        match fate {
            Fate::Done => match done_after(takes).await {
                Ok(id) => Outcome::Done(id),
                Err(_) => unsure(),
            },
            Fate::Refused => {
                tokio::time::sleep(takes).await;
                Outcome::Refused { message: "told so: refused".into(), retryable: true }
            }
            Fate::Lost => {
                tokio::time::sleep(takes).await;
                unsure()
            }
            Fate::HalfMade => {
                drop(done_after(takes));
                tokio::time::sleep(takes * 2).await;
                unsure()
            }
            Fate::Late(delay) => {
                drop(done_after(delay));
                tokio::time::sleep(takes).await;
                unsure()
            }
            Fate::Hangs => {
                tokio::time::sleep(ANSWERED_IN).await;
                unsure()
            }
            Fate::Panics => panic!("told so: the caller has a defect"),
        }
    }

    async fn destroy(&self, work: &Work, instance: &InstanceId, reason: Reason) -> Outcome {
        let skip_drain = reason == Reason::RollingUpdate && work.spec.updating.skip_drain;
        if work.seen.is_some() && !skip_drain {
            let fate = self.record(call_of(work, CallKind::Drain));
            let nothing = instance.clone();
            let drained = self.carry_out(fate, |_| nothing).await;
            if !matches!(drained, Outcome::Done(_)) && work.stays_undrained() {
                return Outcome::Refused { message: "told so: it is not drained".into(), retryable: true };
            }
        }
        let fate = self.record(call_of(work, CallKind::Destroy));
        let (plugin, instance) = (work.known.template.instance.plugin.clone(), instance.clone());
        self.carry_out(fate, move |table| {
            table.end(&plugin, &instance);
            instance
        })
        .await
    }
}

impl Table {
    pub(crate) fn calls(&self, kind: CallKind) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.kind == kind)
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|it| it.lives)
    }

    fn make(&mut self, work: &Work, slot: &Slot) -> InstanceId {
        let plugin = work.known.template.instance.plugin.clone();
        let twin = self.instances.iter().find(|it| it.plugin == plugin && it.token == work.token);
        if self.script.guarantees.class.dedupes()
            && let Some(twin) = twin
        {
            return twin.id.clone();
        }
        // Providers number their own.
        let before = self.instances.iter().filter(|it| self.has(&plugin, it)).count();
        let id = InstanceId::new(format!("i-{before}"));
        let born = Instant::now();
        self.instances.push(Instance {
            id: id.clone(),
            plugin,
            tags: if self.script.loses_tags { Tags::new() } else { work.tags.clone() },
            token: work.token.clone(),
            slot: Some(slot.clone()),
            listed_from: born + self.script.lists_after,
            booted: born + self.script.boots,
            lives: true,
            stopped: false,
        });
        id
    }

    /// Whether this plugin has that instance.
    fn has(&self, plugin: &PluginName, instance: &Instance) -> bool {
        instance.plugin == *plugin || self.script.share
    }

    fn end(&mut self, plugin: &PluginName, id: &InstanceId) {
        let at = self.instances.iter().position(|it| it.id == *id && self.has(plugin, it));
        if let Some(at) = at {
            self.instances[at].lives = false;
        }
    }

    fn health_of(&self, instance: &Instance) -> Health {
        match self.script.health.get(&instance.id) {
            Some(told) => *told,
            None if Instant::now() < instance.booted => Health::Unknown,
            None => Health::Healthy,
        }
    }

    fn count(&mut self) {
        let well = self.living().filter(|it| self.health_of(it) == Health::Healthy).count();
        let census = Census { living: self.living().count(), well };
        self.census.push(census);
    }

    fn listed(&self, plugin: &PluginName) -> Vec<Arc<Description>> {
        let now = Instant::now();
        let shown = |it: &&Instance| {
            it.listed_from <= now && !self.script.hidden.contains(&it.id) && self.has(plugin, it)
        };
        let describe = |it: &Instance| {
            Arc::new(Description {
                id: it.id.clone(),
                logical_id: None,
                tags: it.tags.clone(),
                properties: None,
                state: it.stopped.then(|| InstanceState {
                    status: RunStatus::Stopped,
                    ended: true,
                    exit_code: Some(0),
                    since: None,
                    message: String::new(),
                }),
            })
        };
        let shown = self.living().filter(shown);
        shown.take(self.script.lists_at_most).map(describe).collect()
    }

    /// What was called, for whoever waited too long; questions only counted.
    fn story(&self) -> String {
        let mut counts: BTreeMap<CallKind, usize> = BTreeMap::new();
        self.calls.iter().for_each(|call| *counts.entry(call.kind).or_default() += 1);
        let first = self.calls.first().map_or_else(Instant::now, |call| call.at);
        let deeds = self.calls.iter().filter(|call| call.kind.changes_something());
        let line = |call: &Call| {
            let slot = call.slot.as_ref().map(Slot::to_string).unwrap_or_default();
            format!("{:?} {:?} slot {slot} {}", call.at - first, call.kind, call.token)
        };
        let lines: Vec<String> = deeds.map(line).collect();
        format!("{counts:?}\n{}", lines.join("\n"))
    }
}

fn call_of(work: &Work, kind: CallKind) -> Call {
    let instance = match &work.intent.task {
        Task::Destroy { instance, .. } => Some(instance.id.clone()),
        Task::Label { instance, .. } => Some(instance.clone()),
        Task::Provision { .. } => None,
    };
    Call {
        at: Instant::now(),
        kind,
        group: Some(work.group.clone()),
        slot: work.intent.task.slot().cloned(),
        instance,
        token: work.token.clone(),
    }
}

fn question(kind: CallKind, instance: Option<&InstanceId>) -> Call {
    let (group, slot) = (None, None);
    let (at, instance) = (Instant::now(), instance.cloned());
    Call { at, kind, group, slot, instance, token: String::new() }
}

impl World for Tabletop {
    async fn list(&self, plugin: &PluginName, _: &Lease) -> Result<Listed, String> {
        let (fate, takes) = self.record(question(CallKind::List, None));
        // What a listing shows is what was there when it began; whatever happens meanwhile is missing.
        let (items, guarantees) = self.see(|table| (table.listed(plugin), table.script.guarantees));
        tokio::time::sleep(takes).await;
        match fate {
            Fate::Done => Ok(Listed { items, guarantees }),
            Fate::Panics => panic!("told so: the caller has a defect"),
            Fate::Refused | Fate::Lost | Fate::HalfMade | Fate::Late(_) | Fate::Hangs => {
                Err("told so: it cannot be looked at".into())
            }
        }
    }

    async fn next_event(&self, _: &PluginName) -> Result<Told, String> {
        self.take_event().await;
        Ok(Told::Changed)
    }

    async fn perform(&self, work: &Work) -> Outcome {
        work.lease.held().await;
        match &work.intent.task {
            Task::Provision { slot, .. } => {
                // A flavor has tags of its own.
                let prepared = work.tags.clone().into_iter().chain([("flavored".into(), "yes".into())]);
                let _ = work.notes.prepared.set(prepared.collect());
                let fate = self.record(call_of(work, CallKind::Provision));
                let (work, slot) = (work.clone(), slot.clone());
                self.carry_out(fate, move |table| table.make(&work, &slot)).await
            }
            Task::Destroy { instance, reason, .. } => self.destroy(work, &instance.id, *reason).await,
            Task::Label { instance, .. } => {
                let fate = self.record(call_of(work, CallKind::Label));
                let (work, instance) = (work.clone(), instance.clone());
                self.carry_out(fate, move |table| {
                    let plugin = &work.known.template.instance.plugin;
                    let at = table.instances.iter().position(|it| it.id == instance && table.has(plugin, it));
                    if let Some(at) = at {
                        table.instances[at].tags.extend(work.tags);
                    }
                    instance
                })
                .await
            }
        }
    }

    async fn start(&self, part: &Part, instance: &InstanceId, lease: &Lease) -> Result<(), String> {
        lease.held().await;
        let (fate, takes) = self.record(question(CallKind::Start, Some(instance)));
        tokio::time::sleep(takes).await;
        if fate != Fate::Done {
            return Err("told so: it cannot be started".into());
        }
        self.touch(|table| {
            let at = table.instances.iter().position(|it| it.id == *instance && table.has(&part.plugin, it));
            if let Some(at) = at {
                table.instances[at].stopped = false;
            }
        });
        Ok(())
    }

    async fn health(&self, _: &Part, instance: &Description) -> (Health, String) {
        let mut call = question(CallKind::Health, Some(&instance.id));
        call.group = instance.tags.get(tags::GROUP).map(GroupId::new);
        let (fate, takes) = self.record(call);
        tokio::time::sleep(takes).await;
        if fate == Fate::Panics {
            panic!("told so: the caller has a defect");
        }
        self.touch(|table| table.asked_with.push(instance.tags.clone()));
        self.touch(|table| match table.script.next_health(&instance.id) {
            Some(told) => (told, "told so".into()),
            None => match table.living().find(|it| it.id == instance.id) {
                Some(it) => (table.health_of(it), String::new()),
                None => (Health::Unknown, "it is not there".into()),
            },
        })
    }

    async fn validate(&self, spec: &GroupSpec) -> Vec<Rejection> {
        let mut call = question(CallKind::Validate, None);
        call.group = Some(spec.id.clone());
        let (_, takes) = self.record(call);
        tokio::time::sleep(takes).await;
        self.see(|table| table.script.rejections.clone())
    }
}
