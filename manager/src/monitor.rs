//! Health and metrics over plain HTTP, read-only and without secrets: `/metrics`, `/healthz`, `/readyz`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use model::State;
use model::status::{GroupStatus, SlotState, status};
use prometheus_client::encoding::text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use raft::{Replica, Role};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::members::is_fresh;
use crate::metrics::{Labels, Metrics};
use crate::reconcile::Assessments;

/// Limit of open connections: some scrapers, and manual requests.
const CONNECTIONS: usize = 64;
/// Timeout for the headers of a request.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
/// A follower without a heartbeat for this long is not ready: several heartbeats of the slowest profile.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// A manager with more unapplied entries than this is not ready.
const BEHIND: u64 = 1000;

/// The health and the metrics of a manager.
#[derive(Clone)]
pub struct Probe {
    replica: Replica,
    assessments: Assessments,
    clock: Clock,
    metrics: Metrics,
}

impl Probe {
    pub(crate) fn new(replica: Replica, assessments: Assessments, clock: Clock, metrics: Metrics) -> Self {
        Self { replica, assessments, clock, metrics }
    }

    /// Its state in one sentence; or why it is not ready.
    pub fn ready(&self) -> Result<String, String> {
        let published = self.replica.published();
        let state = &published.state;
        if state.cluster.is_none() {
            return Err("no state yet".into());
        }
        let metrics = self.replica.metrics();
        if metrics.last.saturating_sub(published.index.0) > BEHIND {
            return Err(format!("{} of {} entries applied", published.index, metrics.last));
        }
        match metrics.role {
            Role::Leader { term } if self.replica.holds_lease(term) => Ok(format!(
                "leader in term {term}, {}/{} voters, {} groups",
                metrics.reached,
                metrics.voters,
                state.groups.len()
            )),
            Role::Leader { .. } => Err("leader without confirmation by a majority".into()),
            Role::Other { leader: None, .. } => Err("no leader".into()),
            Role::Other { term, leader: Some(leader) } => {
                if self.replica.heard_leader().is_none_or(|age| age > HEARD_WITHIN) {
                    return Err("no heartbeat from the leader".into());
                }
                let name =
                    state.managers.get(&leader).map_or_else(|| leader.to_string(), |it| it.name.clone());
                Ok(format!("follower of {name} in term {term}, {} groups", state.groups.len()))
            }
        }
    }

    /// All metrics, in the text format of OpenMetrics.
    pub fn metrics(&self) -> String {
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
        let ready = if self.ready().is_ok() { 1.0 } else { 0.0 };
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
        let now = self.clock.now().max(state.time);
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
            let status: GroupStatus = status(id, group, seen);
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

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, probe: Probe) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Probably too many open files: some will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let probe = probe.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let answer = answer(&probe, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = http1::Builder::new();
            let server = server.timer(TokioTimer::new()).header_read_timeout(ASKED_WITHIN);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a monitoring connection failed");
            }
        });
    }
}

fn answer(probe: &Probe, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, OPEN_METRICS, probe.metrics()),
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => match probe.ready() {
            Ok(what) => (StatusCode::OK, PLAIN, format!("{what}\n")),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
        },
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, PLAIN, "not found; try /metrics, /healthz or /readyz\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "method not allowed\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
