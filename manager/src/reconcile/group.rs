//! Reconciles one group: observe, plan, claim, act, report, and again.

mod outcomes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::answer::Admission;
use model::failpoints::{Protection, is_left_out};
use model::intent::Task;
use model::limits::{HEALTH_AT_REST, HEALTH_EVERY, LARGEST_BATCH, LARGEST_ROUND};
use model::observed::{HealthSample, Observed, View};
use model::plan::Wait;
use model::report::{Fact, Report};
use model::state::{Lifecycle, TemplateRecord};
use model::tags::{self, Tags};
use model::{
    Actor, Answer, Change, Command, Generation, GroupId, GroupState, Health, InstanceRef, IntentId, Millis,
    Outcome, Phase, Plan, PluginName, RequestId, Slot, State, Timestamp, plan,
};
use raft::Published;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::caught::{DEFECT, caught};
use super::observer::Latest;
use super::shared::{Assessment, Shared};
use crate::world::{Notes, Rejection, Work, World};

/// The maximal number of health checks of one group under way at once.
const ASKED_AT_ONCE: usize = 64;
/// The first pause after a failure; it doubles with every further one, up to the last.
const FIRST_PAUSE: Millis = Millis(500);
const LAST_PAUSE: Millis = Millis::seconds(30);

/// One group's loop, in one term.
pub(super) struct Reconciler<W> {
    id: GroupId,
    shared: Arc<Shared<W>>,
    observed: Observed,
    listings: BTreeMap<PluginName, watch::Receiver<Latest>>,
    /// Outcomes that are not in the log yet.
    outcomes: Vec<(IntentId, Outcome)>,
    /// The tags that the flavor prepared, of members that no listing has shown yet.
    prepared: BTreeMap<InstanceRef, Tags>,
    /// What the events are to say beside them.
    remarks: Vec<Fact>,
    /// When an attempt for these intents ended here without a reply: until `LONGEST_CALL` is over and a
    /// listing after that lacks the instance, it may still take effect, whatever a later attempt returns.
    doubts: BTreeMap<IntentId, Timestamp>,
    /// Instances whose end is refused again and again.
    refused: BTreeMap<InstanceRef, Refused>,
    /// How often each instance without a slot failed in a row.
    strays: BTreeMap<InstanceRef, u32>,
    asked_at: BTreeMap<InstanceRef, Timestamp>,
    asking: BTreeSet<InstanceRef>,
    starting: BTreeSet<InstanceRef>,
    validated_at: Option<Timestamp>,
    tasks: JoinSet<()>,
    completion: mpsc::UnboundedSender<Completion>,
    inbox: mpsc::UnboundedReceiver<Completion>,
}

/// Since when, and when last.
struct Refused {
    since: Timestamp,
    last: Timestamp,
}

/// The result of a call. There are no more of them than calls, whose number is limited.
enum Completion {
    Performed(IntentId, Outcome, Arc<Notes>),
    Health(InstanceRef, Health, String),
    Started(InstanceRef, Result<(), String>),
    Validated(model::Revision, Vec<Rejection>),
}

impl<W: World> Reconciler<W> {
    pub(super) fn new(id: GroupId, shared: Arc<Shared<W>>) -> Self {
        let (completion, inbox) = mpsc::unbounded_channel();
        // Calls of earlier leaders, and of a reconciler that panicked, began before this.
        let leading_since = shared.clock.now();
        Self {
            id,
            shared,
            observed: Observed { leading_since, ..Observed::default() },
            listings: BTreeMap::new(),
            outcomes: Vec::new(),
            prepared: BTreeMap::new(),
            remarks: Vec::new(),
            doubts: BTreeMap::new(),
            refused: BTreeMap::new(),
            strays: BTreeMap::new(),
            asked_at: BTreeMap::new(),
            asking: BTreeSet::new(),
            starting: BTreeSet::new(),
            validated_at: None,
            tasks: JoinSet::new(),
            completion,
            inbox,
        }
    }

    /// Runs until the group is gone.
    pub(super) async fn run(mut self) {
        let mut states = self.shared.replica.watch_declared();
        loop {
            states.mark_unchanged();
            let published = self.shared.replica.published();
            let Some(group) = published.state.group(&self.id).cloned() else { break };
            self.take_completions(&group);
            let now = self.shared.clock.now();
            self.refresh(&published, &group, now);
            let plan = plan(&group, &self.observed, now);
            self.start_side_work(&plan, &group, now);
            // As many as an entry may carry; the others come next.
            let outcomes: Vec<_> = self.outcomes.drain(..self.outcomes.len().min(LARGEST_BATCH)).collect();
            let remarks = self.remarks.drain(..self.remarks.len().min(LARGEST_BATCH));
            let mut report =
                plan.report(&self.id, (group.revision, group.target), self.shared.term, outcomes);
            report.facts.splice(0..0, remarks);
            let wake_at = plan.wake_at;
            self.tell_observers(&group, &plan);
            self.shared.assessments.put(&self.id, Assessment { observed: self.observed.clone(), plan });
            if report.is_empty() {
                self.wait(&mut states, &group, wake_at, now).await;
            } else if !self.write(report, &group, now).await {
                // Without a majority nothing is written; proposing again at once would not help.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        for plugin in self.listings.keys() {
            self.shared.observers.moving(plugin, &self.id, false);
        }
    }

    /// The views that are newer than those at hand, for every plugin the group has members with.
    fn refresh(&mut self, published: &Published, group: &GroupState, now: Timestamp) {
        let mut needed: BTreeSet<PluginName> =
            group.templates.values().map(|known| known.template.instance.plugin.clone()).collect();
        needed.extend(group.terminating_strays.iter().map(|it| it.plugin.clone()));
        self.listings.retain(|plugin, _| needed.contains(plugin));
        self.observed.views.retain(|plugin, _| needed.contains(plugin));
        self.observed.troubles.retain(|plugin, _| needed.contains(plugin));
        self.observed.bounds = published.state.bounds(published.index, &self.id);
        // What failed in a slot that is no longer wanted says nothing of the next one with its number.
        let is_full = group.roster.present() >= group.desired();
        self.observed.backoff.retain(|slot, _| {
            let is_held = group.roster.get(slot).is_some_and(|member| !member.is_free());
            is_held || !is_full && group.wants(slot)
        });
        self.observed.held_off.retain(|_, backoff| now < backoff.until + LAST_PAUSE);
        self.strays.retain(|instance, _| self.observed.held_off.contains_key(instance));
        self.refused.retain(|_, refused| now < refused.last + LAST_PAUSE + LAST_PAUSE);
        let State { cluster: Some(cluster), lineages, .. } = &*published.state else { return };
        for plugin in needed {
            let fresh = !self.listings.contains_key(&plugin);
            let listing =
                self.listings.entry(plugin.clone()).or_insert_with(|| self.shared.observers.watch(&plugin));
            if !fresh && !listing.has_changed().unwrap_or(false) {
                continue;
            }
            let latest = listing.borrow_and_update().clone();
            match latest.trouble {
                Some(trouble) => drop(self.observed.troubles.insert(plugin.clone(), trouble)),
                None => drop(self.observed.troubles.remove(&plugin)),
            }
            if let Some(listing) = latest.listing {
                let known = self.observed.views.get(&plugin);
                if known.is_none_or(|view| (view.taken_at, view.after) != (listing.taken_at, listing.after)) {
                    let mut view =
                        View::of(&listing, &self.id, cluster, lineages, |id| group.has(&plugin, id));
                    view.guarantees = published.state.guarantees(&plugin, view.guarantees);
                    model::plan::see(&mut self.observed, &plugin, Arc::new(view), group);
                }
            }
        }
        // No samples are kept of healthy members at rest, so that a large group costs little, and none of members
        // of unknown health, so that they are checked again in turn. Whatever a rollout may still ask for is kept.
        let rolls = !matches!(group.phase, Phase::Succeeded { .. } | Phase::RolledBack { .. })
            && group.lifecycle == Lifecycle::Managed;
        let worth_keeping = |id: &InstanceRef, sample: &HealthSample| {
            group.occupied(id).is_some_and(|it| rolls || !it.is_ready() || sample.health == Health::Unhealthy)
        };
        self.observed.health.retain(|id, sample| worth_keeping(id, sample));
        self.asked_at.retain(|id, _| self.observed.health.contains_key(id) || self.asking.contains(id));
        self.forget_prepared(group);
        self.observed.unsure.retain(|id, _| group.intents.contains_key(id));
        self.doubts.retain(|id, _| group.intents.contains_key(id));
        let unreported: BTreeSet<IntentId> = self.outcomes.iter().map(|(id, _)| *id).collect();
        self.observed.in_flight.retain(|id| group.intents.contains_key(id) || unreported.contains(id));
    }

    /// Health checks, validations and starts: they make and destroy nothing at a provider.
    fn start_side_work(&mut self, plan: &Plan, group: &GroupState, now: Timestamp) {
        // Finished tasks are forgotten as they end.
        while self.tasks.try_join_next().is_some() {}
        if let Some((slot, _)) = plan.patrol.last() {
            // Groups that were declared together are not asked together for ever.
            let jitter = Millis(raft::between(0, HEALTH_AT_REST.0 / 10));
            self.observed.patrolled = Some(slot.clone());
            self.observed.patrolled_at = if plan.patrol.len() < LARGEST_ROUND { now - jitter } else { now };
        }
        for (slot, instance) in plan.ask.iter().chain(&plan.patrol) {
            let due = self.asked_at.get(instance).is_none_or(|at| now.since(*at) >= HEALTH_EVERY);
            if !due || self.asking.contains(instance) || self.asking.len() >= ASKED_AT_ONCE {
                continue;
            }
            self.asked_at.insert(instance.clone(), now);
            self.asking.insert(instance.clone());
            let template = group.occupied(instance).map_or(group.target, |it| it.template);
            let known = group.template_of(template).clone();
            let description = self.described(group, &known, slot, instance);
            let (world, completion, instance) =
                (self.shared.world.clone(), self.completion.clone(), instance.clone());
            self.tasks.spawn(async move {
                let asked = caught(world.health(&known.template.flavor, &description)).await;
                let (health, message) = asked.unwrap_or_else(|| (Health::Unknown, DEFECT.into()));
                let _ = completion.send(Completion::Health(instance, health, message));
            });
        }
        for instance in &plan.start {
            if self.starting.len() >= ASKED_AT_ONCE || !self.starting.insert(instance.clone()) {
                continue;
            }
            let template = group.occupied(instance).map_or(group.target, |it| it.template);
            let (known, instance) = (group.template_of(template).clone(), instance.clone());
            let (world, completion) = (self.shared.world.clone(), self.completion.clone());
            let (lease, gate) = (self.shared.lease.clone(), self.shared.gate.clone());
            let (replica, id) = (self.shared.replica.clone(), self.id.clone());
            self.tasks.spawn(async move {
                let _passage = gate.enter().await;
                // It may have been paused while this waited.
                let paused = replica.published().state.group(&id).is_none_or(|group| group.paused.is_some());
                let ended = if paused {
                    Some(Err("the group was paused".to_owned()))
                } else {
                    caught(world.start(&known.template.instance, &instance.id, &lease)).await
                };
                let _ = completion
                    .send(Completion::Started(instance, ended.unwrap_or_else(|| Err(DEFECT.into()))));
            });
        }
        let due = self.validated_at.is_none_or(|at| now.since(at) >= Millis::seconds(1));
        if group.lifecycle == Lifecycle::PendingValidation && group.paused.is_none() && due {
            self.validated_at = Some(now);
            let (world, completion, spec, revision) =
                (self.shared.world.clone(), self.completion.clone(), group.spec.clone(), group.revision);
            self.tasks.spawn(async move {
                let rejections = world.validate(&spec).await;
                let _ = completion.send(Completion::Validated(revision, rejections));
            });
        }
    }

    fn tell_observers(&self, group: &GroupState, plan: &Plan) {
        let wants_look = plan.waits.iter().any(|wait| {
            use Wait::{Listing, Missing, Settling};
            matches!(wait, Listing { .. } | Settling { .. } | Missing { .. })
        });
        for plugin in self.listings.keys() {
            self.shared.observers.moving(plugin, &self.id, !plan.is_at_rest() || !group.intents.is_empty());
            if wants_look {
                self.shared.observers.poke(plugin);
            }
        }
    }

    /// A member as its flavor is asked about it: as it is listed, or with what we gave it until it is.
    fn described(
        &self,
        group: &GroupState,
        known: &TemplateRecord,
        slot: &Slot,
        instance: &InstanceRef,
    ) -> Arc<model::Description> {
        if let Some(seen) = self.seen(instance) {
            return seen;
        }
        let generation = group.occupied(instance).map_or(Generation(0), |it| it.generation);
        let mut tags = tags::of_slot(slot, generation);
        tags.insert(tags::GROUP.to_owned(), self.id.to_string());
        tags.insert(tags::CONFIG_HASH.to_owned(), known.hash.clone());
        tags.extend(self.prepared.get(instance).cloned().unwrap_or_default());
        let logical_id = slot.logical_id().cloned();
        Arc::new(model::Description {
            id: instance.id.clone(),
            logical_id,
            tags,
            properties: None,
            state: None,
        })
    }

    fn seen(&self, instance: &InstanceRef) -> Option<Arc<model::Description>> {
        self.observed.seen(instance).map(|seen| seen.description.clone())
    }

    fn command(&self, change: Change, at: Timestamp) -> Command {
        Command { id: RequestId(raft::unique()), by: Actor("leader".into()), at, change }
    }

    /// Writes the report and starts what was admitted. False when it could not be written.
    async fn write(&mut self, report: Report, before: &GroupState, now: Timestamp) -> bool {
        let reported: Vec<(IntentId, Outcome)> =
            report.outcomes().map(|(id, outcome)| (id, outcome.clone())).collect();
        let (repeats, claims) = (report.repeats.clone(), report.claims.clone());
        let is_remark = |fact: &&Fact| matches!(fact, Fact::NotDrained { .. } | Fact::Started { .. });
        let remarks: Vec<Fact> = report.facts.iter().filter(is_remark).cloned().collect();
        let command = self.command(Change::Report(report), now);
        match self.shared.replica.propose(&command, Some(self.shared.term)).await {
            Ok(Answer::Admitted(admissions)) => {
                for (id, _) in &reported {
                    self.observed.in_flight.remove(id);
                    self.observed.unsure.remove(id);
                }
                let published = self.shared.replica.published();
                let Some(group) = published.state.group(&self.id).cloned() else { return true };
                for (claim, admission) in claims.iter().zip(admissions) {
                    match admission {
                        Admission::Granted(id) => self.perform(&published, &group, id),
                        Admission::Denied(why) => self.on_denial(&group, claim, why, now),
                    }
                }
                // If the group was paused meanwhile, no attempt is repeated.
                let attempt =
                    |group: &GroupState, id: IntentId| group.intents.get(&id).map(|open| open.attempt);
                for id in repeats {
                    if attempt(&group, id) > attempt(before, id) {
                        self.perform(&published, &group, id);
                    }
                }
                true
            }
            Ok(other) => {
                tracing::error!(group = %self.id, ?other, "unexpected response to a report (a bug)");
                false
            }
            Err(error) => {
                if let raft::Error::TooLarge { .. } = error {
                    tracing::error!(group = %self.id, %error, "a report was not written (a bug)");
                }
                tracing::debug!(group = %self.id, %error, "a report was not written; its outcomes are sent again");
                // Nobody minds to read twice that it was destroyed without its drain, or started.
                self.remarks.extend(remarks);
                // It may have been written all the same. Reporting an outcome twice is harmless: an intent
                // that is closed already is left as it is.
                self.outcomes.extend(reported);
                false
            }
        }
    }

    fn perform(&mut self, published: &Published, group: &Arc<GroupState>, id: IntentId) {
        let now = self.shared.clock.now();
        let (Some(intent), Some(cluster)) = (group.intents.get(&id), &published.state.cluster) else {
            return;
        };
        self.observed.in_flight.insert(id);
        self.observed.unsure.remove(&id);
        let mut known = group.template_of(intent.task.template()).clone();
        if let Task::Destroy { instance, .. } = &intent.task
            && known.template.instance.plugin != instance.plugin
        {
            // Of programs that recorded no template for it: at least it is not another's instance of this id.
            Arc::make_mut(&mut known).template.instance.plugin = instance.plugin.clone();
        }
        let mut token = tags::token(cluster, &published.state.lineages, id);
        if is_left_out(Protection::Token) {
            token = format!("{token}-{}", intent.attempt);
        }
        let mut own = Tags::from([
            (tags::GROUP.to_owned(), self.id.to_string()),
            (tags::CONFIG_HASH.to_owned(), known.hash.clone()),
            (tags::OWNER.to_owned(), cluster.to_string()),
            (tags::INTENT.to_owned(), token.clone()),
        ]);
        let mut seen = None;
        match &intent.task {
            Task::Provision { slot, generation, .. } => {
                own.extend(tags::of_slot(slot, *generation));
            }
            Task::Destroy { instance, slot, .. } => {
                seen = self.seen(instance);
                let generation = group.occupied(instance).map_or(Generation(0), |it| it.generation);
                own.extend(slot.iter().flat_map(|slot| tags::of_slot(slot, generation)));
                // Its own token was another.
                own.remove(tags::INTENT);
            }
            // The owner and intent tags of an instance that was created by hand are not changed.
            Task::Label { .. } => own.retain(|tag, _| tag == tags::GROUP || tag == tags::CONFIG_HASH),
        }
        let work = Work {
            group: self.id.clone(),
            spec: group.spec.clone(),
            revision: group.revision,
            intent: intent.clone(),
            known,
            token,
            tags: own,
            seen,
            refused_for: self.refused_for(&intent.task, now),
            notes: Arc::default(),
            lease: self.shared.lease.clone(),
        };
        let (world, completion, gate) =
            (self.shared.world.clone(), self.completion.clone(), self.shared.gate.clone());
        self.tasks.spawn(async move {
            let _passage = gate.enter().await;
            let ended = caught(world.perform(&work)).await;
            // How far a call came that panicked is unknown.
            let outcome = ended.unwrap_or_else(|| Outcome::Unsure { message: DEFECT.into() });
            let _ = completion.send(Completion::Performed(work.intent.id, outcome, work.notes));
        });
    }

    /// Waits for anything that may change the plan.
    async fn wait(
        &mut self,
        states: &mut watch::Receiver<Published>,
        group: &Arc<GroupState>,
        wake_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        // A pending group is asked about every second; otherwise the observers wake us.
        let pending = (group.lifecycle == Lifecycle::PendingValidation).then_some(now + Millis::seconds(1));
        let due = wake_at.into_iter().chain(pending).min();
        let alarm = async {
            match due {
                Some(at) => tokio::time::sleep(Duration::from_millis(at.since(now).0.max(1))).await,
                None => std::future::pending().await,
            }
        };
        let id = self.id.clone();
        let changed = async {
            // Log entries of other groups are ignored.
            while states.changed().await.is_ok() {
                let same = states
                    .borrow_and_update()
                    .state
                    .group(&id)
                    .is_some_and(|latest| Arc::ptr_eq(latest, group));
                if !same {
                    return;
                }
            }
        };
        let listings_seen: Vec<_> =
            self.listings.values().cloned().map(|listing| Box::pin(next(listing))).collect();
        let looked = async {
            if listings_seen.is_empty() {
                std::future::pending::<()>().await;
            }
            futures_util::future::select_all(listings_seen).await;
        };
        let completion = tokio::select! {
            biased;
            () = changed => None,
            () = looked => None,
            () = alarm => None,
            completion = self.inbox.recv() => completion,
        };
        if let Some(completion) = completion {
            self.on_completion(completion, group);
        }
    }
}

/// Waits for the next listing; for ever when there will be none.
async fn next(mut listing: watch::Receiver<Latest>) {
    if listing.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
