//! The metrics of a manager: every name, its unit and its sentence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::status::{GroupStatus, SlotState, status};
use model::{Outcome, PluginName, State, Timestamp};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use raft::{Replica, Role};

use crate::members::is_fresh;
use crate::reconcile::Assessments;

/// The labels of one series.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Counters since the start of the process.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// By plugin, method and result.
    pub(crate) calls: Family<Labels, Counter>,
    /// By plugin and result.
    pub(crate) provisions: Family<Labels, Histogram, fn() -> Histogram>,
    /// By plugin.
    pub(crate) throttled: Family<Labels, Counter>,
    /// By type.
    pub(crate) events: Family<Labels, Counter>,
    pub(crate) leader_changes: Counter,
    times: Arc<Times>,
}

/// Times in seconds since the Unix epoch; 0 if unset.
#[derive(Default)]
struct Times {
    certificate_ends: AtomicU64,
    backed_up: AtomicU64,
}

/// From 5 ms to 80 s: a container takes a tenth of a second, a machine a minute.
fn call_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 15))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            provisions: Family::new_with_constructor(call_seconds),
            throttled: Family::default(),
            events: Family::default(),
            leader_changes: Counter::default(),
            times: Arc::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn called(&self, plugin: &PluginName, method: &'static str, result: &'static str) {
        let labels = vec![
            ("plugin", plugin.to_string()),
            ("method", method.to_owned()),
            ("result", result.to_owned()),
        ];
        self.calls.get_or_create(&labels).inc();
    }

    pub(crate) fn provisioned(&self, plugin: &PluginName, outcome: &Outcome, took: Duration) {
        let labels = vec![("plugin", plugin.to_string()), ("result", result(outcome).to_owned())];
        self.provisions.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn was_throttled(&self, plugin: &PluginName) {
        self.throttled.get_or_create(&vec![("plugin", plugin.to_string())]).inc();
    }

    pub(crate) fn happened(&self, event: &model::event::Event) {
        self.events.get_or_create(&vec![("type", event.kind.as_str().to_owned())]).inc();
    }

    pub(crate) fn certificate_ends_in(&self, lasts: Duration) {
        self.times.certificate_ends.store(seconds() + lasts.as_secs(), Ordering::Relaxed);
    }

    pub(crate) fn backed_up(&self) {
        self.times.backed_up.store(seconds(), Ordering::Relaxed);
    }

    /// Sets the age of the latest backup.
    pub(crate) fn backed_up_before(&self, age: Duration) {
        self.times.backed_up.store(seconds().saturating_sub(age.as_secs()).max(1), Ordering::Relaxed);
    }

    /// Seconds until the certificate of this manager expires; negative if it has expired.
    pub(crate) fn certificate_left(&self) -> Option<i64> {
        let ends = self.times.certificate_ends.load(Ordering::Relaxed);
        (ends > 0).then(|| ends as i64 - seconds() as i64)
    }

    /// When the certificate of this manager expires, in seconds since the epoch.
    pub(crate) fn certificate_ends(&self) -> Option<u64> {
        Some(self.times.certificate_ends.load(Ordering::Relaxed)).filter(|ends| *ends > 0)
    }

    /// Seconds since the last backup of this manager.
    pub(crate) fn backup_age(&self) -> Option<u64> {
        let at = self.times.backed_up.load(Ordering::Relaxed);
        (at > 0).then(|| seconds().saturating_sub(at))
    }
}

/// The outcome of a call, as a label.
pub(crate) fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Refused { .. } => "refused",
        Outcome::Unsure { .. } => "unsure",
    }
}

/// What the metrics of a manager are read from.
pub(crate) struct Export<'a> {
    pub(crate) replica: &'a Replica,
    pub(crate) assessments: &'a Assessments,
    pub(crate) now: Timestamp,
    pub(crate) metrics: &'a Metrics,
    pub(crate) is_ready: bool,
}

impl Export<'_> {
    /// All metrics, in the text format of OpenMetrics.
    pub(crate) fn text(&self) -> String {
        let mut registry = Registry::with_prefix("infrakit");
        self.counted(&mut registry);
        let published = self.replica.published();
        self.raft(&mut registry, published.index.0);
        if let Role::Leader { .. } = self.replica.metrics().role {
            // Followers know the specs, and not the observed state.
            self.groups(&mut registry, &published.state);
        }
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("a string takes everything");
        text
    }

    fn counted(&self, registry: &mut Registry) {
        let Metrics { calls, provisions, throttled, events, leader_changes, .. } = self.metrics.clone();
        registry.register("provider_calls", "Calls to plugins", calls);
        registry.register("provision_seconds", "Duration of Provision calls", provisions);
        registry.register("provider_throttled", "Calls that a plugin refused for throttling", throttled);
        registry.register("events", "Events that this manager applied, by type", events);
        registry.register("raft_leader_changes", "Leader changes seen by this manager", leader_changes);
        registry.register("raft_fsync_seconds", "Duration of syncs of the log", self.replica.sync_seconds());
        let build = Gauges::default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        build.get_or_create(&vec![("version", version)]).set(1.0);
        registry.register("build_info", "Version of this manager", build);
        if let Some(left) = self.metrics.certificate_left() {
            set(
                registry,
                "cert_expiry_seconds",
                "Seconds until the certificate of this manager expires",
                left as f64,
            );
        }
        if let Some(age) = self.metrics.backup_age() {
            set(registry, "backup_age_seconds", "Seconds since the last backup of this manager", age as f64);
        }
    }

    fn raft(&self, registry: &mut Registry, applied: u64) {
        let metrics = self.replica.metrics();
        let (leads, term) = match metrics.role {
            Role::Leader { term } => (1.0, term),
            Role::Other { term, .. } => (0.0, term),
        };
        let ready = if self.is_ready { 1.0 } else { 0.0 };
        set(registry, "ready", "Whether this manager is ready", ready);
        set(registry, "raft_is_leader", "Whether this manager is the leader", leads);
        set(registry, "raft_term", "Latest known term", term.0 as f64);
        set(registry, "raft_applied_index", "Index of the last applied entry", applied as f64);
        let lag = metrics.last.saturating_sub(applied) as f64;
        set(registry, "raft_commit_lag", "Entries of the log that are not applied", lag);
        set(
            registry,
            "raft_snapshot_index",
            "Index of the last entry in the snapshot",
            metrics.snapshot as f64,
        );
        set(registry, "raft_voters", "Number of voters", metrics.voters as f64);
        set(registry, "raft_learners", "Number of learners", metrics.learners as f64);
        if leads > 0.0 {
            self.clocks(registry);
            set(
                registry,
                "raft_voters_reached",
                "Voters that are reachable from the leader",
                metrics.reached as f64,
            );
        }
    }

    /// How far the clocks of the others are off.
    fn clocks(&self, registry: &mut Registry) {
        let ahead = Gauges::default();
        let state = self.replica.published().state;
        for member in self.replica.members() {
            let name = state.managers.get(&member.node).map(|it| it.name.clone());
            if let (Some(name), Some(ms)) = (name, member.clock_ahead_ms.filter(|_| is_fresh(&member))) {
                ahead.get_or_create(&vec![("manager", name)]).set(ms as f64 / 1000.0);
            }
        }
        let help = "By how many seconds the clock of a manager is ahead of the leader's";
        registry.register("manager_clock_ahead_seconds", help, ahead);
    }

    fn groups(&self, registry: &mut Registry, state: &State) {
        let now = self.now.max(state.time);
        let of = |name: &'static str, help: &'static str, registry: &mut Registry| {
            let family = Gauges::default();
            registry.register(name, help, family.clone());
            family
        };
        let desired = of("group_desired", "Desired number of members of a group", registry);
        let instances = of("group_instances", "Slots of a group, by state", registry);
        let converged = of("group_converged", "Whether a group has converged", registry);
        let revision = of("group_revision", "Revision of a group", registry);
        let progress =
            of("rollout_progress_ratio", "Share of the members with the latest template", registry);
        let orphans = of("orphans", "Instances with the tag of a group and without a slot", registry);
        let open = of("group_intents_open", "Open intents of a group", registry);
        let conditions = of(
            "group_conditions",
            "Number of unexpected conditions of a group; see `group describe`",
            registry,
        );
        let ages = of("provider_listing_age_seconds", "Seconds since the last listing of a plugin", registry);
        let up = of("plugin_up", "Whether a plugin answers", registry);
        for (id, group) in &state.groups {
            let assessment = self.assessments.of(id);
            let seen = assessment.as_ref().map(|it| (&it.observed, &it.plan));
            let status: GroupStatus = status(id, group, seen, self.now);
            let labels = vec![("group", id.to_string())];
            desired.get_or_create(&labels).set(status.desired as f64);
            converged.get_or_create(&labels).set(if status.converged { 1.0 } else { 0.0 });
            revision.get_or_create(&labels).set(status.revision.0 as f64);
            let ratio = if status.desired == 0 { 1.0 } else { status.updated as f64 / status.desired as f64 };
            progress.get_or_create(&labels).set(ratio);
            orphans.get_or_create(&labels).set(status.strays.len() as f64);
            open.get_or_create(&labels).set(group.intents.len() as f64);
            for state in SlotState::ALL {
                let labels = vec![("group", id.to_string()), ("state", state.as_str().to_owned())];
                instances.get_or_create(&labels).set(0.0);
            }
            for slot in &status.slots {
                let labels = vec![("group", id.to_string()), ("state", slot.state.as_str().to_owned())];
                instances.get_or_create(&labels).inc();
            }
            conditions
                .get_or_create(&labels)
                .set(status.conditions.iter().filter(|it| it.is_trouble()).count() as f64);
            let Some(assessment) = assessment else { continue };
            for (plugin, view) in &assessment.observed.views {
                let age = now.since(view.taken_at).0 as f64 / 1000.0;
                ages.get_or_create(&vec![("plugin", plugin.to_string())]).set(age);
                up.get_or_create(&vec![("plugin", plugin.to_string())]).set(1.0);
            }
            for plugin in assessment.observed.troubles.keys() {
                up.get_or_create(&vec![("plugin", plugin.to_string())]).set(0.0);
            }
        }
    }
}

type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

fn set(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// Counts events and leader changes, as long as the replica runs.
pub(crate) async fn count(replica: Replica, metrics: Metrics) {
    let (_, mut events) = replica.events();
    let mut roles = replica.watch_role();
    let mut led_by = None;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => metrics.happened(&event),
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            },
            changed = roles.changed() => {
                if changed.is_err() {
                    return;
                }
                let leader = match *roles.borrow_and_update() {
                    Role::Leader { term } => Some((term, replica.identity().node)),
                    Role::Other { term, leader } => leader.map(|leader| (term, leader)),
                };
                if leader.is_some() && std::mem::replace(&mut led_by, leader) != leader {
                    metrics.leader_changes.inc();
                }
            }
        }
    }
}
