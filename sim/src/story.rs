//! One run: what is declared, what goes wrong and when, and what must be true after it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::command::{Declaration, LEVEL, Manager, Program, Verb};
use model::failpoints::Protection;
use model::limits::NAMED_GONE;
use model::part::{Opaque, Part};
use model::spec::{Amount, Template, Updating};
use model::{
    Actor, Answer, Change, ClusterId, Command, GroupId, GroupSpec, ObjectKey, Refusal, RequestId, tags,
};
use tokio::time::Instant;

use crate::Moment;
use crate::cloud::Call;
use crate::cluster::{CLUSTER, Cluster};
use crate::damage::Damage;
use crate::judge::{self, Group};
use crate::operator::Operator;
use crate::panics;
use crate::register::{self, Register};

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub managers: usize,
    /// Members of each of the three groups.
    pub size: u32,
    pub faults: u32,
    /// The simulated time over which the faults come.
    pub lasts: Duration,
    /// Tell what happens, as it happens.
    pub loud: bool,
    /// Go without one protection, in a build that can.
    pub without: &'static [Protection],
    /// One group, rolled out again and again, instead of everything at once.
    pub rollouts: bool,
    /// A manager dies at this moment, beside everything else.
    pub dies_at: Option<Moment>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            managers: 3,
            size: 20,
            faults: 10,
            lasts: Duration::from_secs(240),
            loud: false,
            without: &[],
            rollouts: false,
            dies_at: None,
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    pub seed: u64,
    /// What went wrong, and how often.
    pub faults: BTreeMap<&'static str, usize>,
    /// Guarantees that were not kept; empty is good.
    pub violations: Vec<String>,
    /// From the last fault until everything was as declared.
    pub settled_in: Duration,
    pub made: usize,
    pub destroyed: usize,
    /// Writes and reads that a client made.
    pub operations: usize,
    /// Every moment at which a manager could have died before the last fault was mended.
    pub moments: Vec<Moment>,
    /// A digest of every call to the provider and its time: equal for equal runs.
    pub history: u64,
}

/// The longest that a group may take after the last fault: thirty seconds, and the time a foreign
/// plugin's lost call is waited for, which begins anew when a leader does.
const SETTLES_IN: Duration = Duration::from_secs(60);

/// What a rollout may take for one member: two calls of 1.5 s, two looks, health, and as much again.
const ONE_MEMBER: Duration = Duration::from_secs(10);

/// How long instances take to be healthy in a run, in milliseconds: at once, soon, or late.
const BOOTS: [(u64, u64); 3] = [(0, 0), (200, 4000), (1000, 12_000)];

/// Runs one seed, on this thread.
pub fn run(seed: u64, plan: &Plan) -> Run {
    raft::seed(seed);
    #[cfg(feature = "failpoints")]
    model::failpoints::leave_out(plan.without);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Without it, tokio's choice of whom to wake first differs from run to run.
    #[cfg(tokio_unstable)]
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    panics::watch();
    let story = Story::new(seed, *plan);
    let mut run = if plan.rollouts { runtime.block_on(story.roll()) } else { runtime.block_on(story.run()) };
    runtime.shutdown_background();
    run.violations.extend(panics::seen());
    run
}

/// Any way to update: a few above the size, a few away.
fn some_updating() -> Updating {
    let surge = raft::between(0, 3) as u32;
    let unavailable = raft::between(u64::from(surge == 0), 2) as u32;
    Updating {
        max_surge: Some(Amount::Members(surge)),
        max_unavailable: Some(Amount::Members(unavailable)),
        ..Updating::default()
    }
}

pub(crate) struct Story {
    seed: u64,
    pub(crate) plan: Plan,
    pub(crate) groups: Vec<Group>,
    faults: BTreeMap<&'static str, usize>,
    violations: Vec<String>,
    began: Option<Instant>,
    register: Arc<Mutex<Register>>,
    moments: Vec<Moment>,
}

impl Story {
    fn new(seed: u64, plan: Plan) -> Self {
        let group = |name, plugin, pets| Group {
            name,
            plugin,
            other: None,
            pets,
            updating: Updating::default(),
            usual: plan.size,
            size: plan.size,
            version: 1,
            most: plan.size,
            may_destroy: 0,
            declared: Vec::new(),
        };
        let few = plan.size.div_ceil(4);
        Story {
            seed,
            plan,
            groups: vec![
                Group {
                    other: Some("ours/e"),
                    updating: some_updating(),
                    ..group("cattle", "ours/a", false)
                },
                group("pets", "ours/b", true),
                group("foreign", "foreign/c", false),
                // Not one of the three: few, for an operator has to look after each.
                Group { usual: few, size: few, most: few, ..group("blind", "blind/d", true) },
            ],
            faults: BTreeMap::new(),
            violations: Vec::new(),
            began: None,
            register: Arc::default(),
            moments: Vec::new(),
        }
    }

    pub(crate) fn tell(&self, what: impl std::fmt::Display) {
        if self.plan.loud {
            self.say(Instant::now(), &what);
        }
    }

    #[allow(clippy::print_stdout)]
    fn say(&self, at: Instant, what: &dyn std::fmt::Display) {
        let at = self.began.map_or(0.0, |began| (at - began).as_secs_f64());
        println!("{at:9.3} s  {what}");
    }

    pub(crate) fn count(&mut self, fault: &'static str) {
        self.tell(fault);
        *self.faults.entry(fault).or_default() += 1;
    }

    /// The managers, and the first entry of their log.
    pub(crate) async fn found(&mut self) -> Cluster {
        self.began = Some(Instant::now());
        let mut cluster = Cluster::of(self.plan.managers, self.plan.dies_at).await;
        let found = Change::Bootstrap {
            cluster: ClusterId::new(CLUSTER),
            lineage: 1,
            manager: founder(if self.begins_old() { LEVEL - 1 } else { LEVEL }),
            authority: None,
        };
        self.propose(&mut cluster, found).await;
        cluster
    }

    /// Some clusters begin with managers of an older program, and are upgraded on the way.
    pub(crate) fn begins_old(&self) -> bool {
        self.seed.is_multiple_of(4) && !self.plan.rollouts
    }

    pub(crate) fn break_promise(&mut self, what: String) {
        self.violations.push(what);
    }

    async fn run(mut self) -> Run {
        let mut cluster = self.found().await;
        cluster.cloud.lock().expect("the cloud").boots =
            BOOTS[raft::between(0, BOOTS.len() as u64 - 1) as usize];
        for at in 0..self.groups.len() {
            self.declare(&mut cluster, at).await;
        }
        let pause = self.plan.lasts / (self.plan.faults + 1);
        let mut damage = Damage::none();
        for fault in 0..self.plan.faults {
            if self.begins_old() && fault == self.plan.faults / 2 {
                self.tell("every manager runs the newer program");
                self.propose(&mut cluster, Change::Join { manager: founder(LEVEL), token: None }).await;
            }
            let wait = Duration::from_millis(raft::between(100, 2 * pause.as_millis() as u64));
            self.pass(&mut cluster, &mut damage, Instant::now() + wait).await;
            self.strike(&mut cluster, &mut damage).await;
        }
        self.pass(&mut cluster, &mut damage, Instant::now() + Duration::from_secs(5)).await;
        self.moments = cluster.moments();
        let settled_in = self.settle(&mut cluster).await;
        self.stop_one(&mut cluster).await;
        Run { settled_in, ..self.judge(&cluster) }
    }

    /// One of the first group stops, though its flavor calls it healthy: it must not be called ready for long, and be
    /// ready again when it runs again.
    async fn stop_one(&mut self, cluster: &mut Cluster) {
        let group = GroupId::new(self.groups[0].name);
        let held = |cluster: &Cluster| {
            let replica = cluster.leader().and_then(|leader| cluster.replica(leader))?;
            let state = replica.published().state;
            (state.level >= 2).then(|| state.group(&group).cloned()).flatten()
        };
        let Some(stopped) = held(cluster).and_then(|group| group.members().next().cloned()) else { return };
        for (runs, within) in [(false, 40), (true, 60)] {
            let is_stopped = (!runs).then(|| stopped.clone());
            cluster.cloud.lock().expect("the cloud").stopped = is_stopped;
            let began = Instant::now();
            let as_it_is = |cluster: &Cluster| {
                let group = held(cluster)?;
                Some(group.occupied(&stopped).is_some_and(|it| it.is_ready() == runs))
            };
            while as_it_is(cluster) != Some(true) {
                if began.elapsed() > Duration::from_secs(within) {
                    let verb = if runs {
                        "runs again, and is not ready"
                    } else {
                        "has stopped, and is called ready"
                    };
                    self.violations.push(format!("{stopped} {verb} after {within} s"));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Lets time pass; the dead come back, and what was cut or slow is mended, when it is due.
    pub(crate) async fn pass(&mut self, cluster: &mut Cluster, damage: &mut Damage, until: Instant) {
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if raft::between(0, 9) == 0 {
                let node = raft::between(0, cluster.size() as u64 - 1) as usize;
                if let Some(replica) = cluster.replica(node) {
                    register::use_once(&self.register, replica.clone(), cluster.now());
                }
            }
            let in_a_call = std::mem::take(&mut cluster.cloud.lock().expect("the cloud").died);
            let in_a_vote = cluster.net.died();
            let in_a_write = cluster.failed_disks();
            for (died, longest) in [(in_a_call, 8000), (in_a_vote, 400), (in_a_write, 8000)] {
                for node in died {
                    self.tell(format!("m{node} dies in the middle of it"));
                    cluster.crash(node);
                    let back = Instant::now() + Duration::from_millis(raft::between(100, longest));
                    damage.dead.push((node, back));
                }
            }
            cluster.stop_who_went_back().iter().for_each(|it| self.tell(it));
            if raft::between(0, 99) == 0 {
                cluster.copy_disk(raft::between(0, cluster.size() as u64 - 1) as usize);
            }
            let now = Instant::now();
            for node in damage.back(now) {
                self.tell(format!("m{node} starts again"));
                cluster.start(node).await;
            }
            if damage.healed_at <= now {
                cluster.net.heal();
                cluster.cloud.lock().expect("the cloud").be_well();
            }
        }
    }

    fn spec(&self, at: usize) -> GroupSpec {
        let group = &self.groups[at];
        let part = |plugin: &str, properties: String| Part {
            plugin: plugin.into(),
            properties: Opaque::from_json(properties),
        };
        GroupSpec {
            id: GroupId::new(group.name),
            allocation: group.allocation(),
            template: Template {
                instance: part(group.plugin, format!("{{\"version\":{}}}", group.version)),
                flavor: part("flavor", format!("\"{}\"", group.plugin)),
            },
            updating: group.updating,
            healing: Default::default(),
        }
    }

    pub(crate) async fn declare(&mut self, cluster: &mut Cluster, at: usize) {
        let item = Declaration { spec: self.spec(at).into(), if_revision: None, unvalidated: false };
        self.propose(cluster, Change::Declare { items: vec![item] }).await;
        let applied = (0..cluster.size()).filter_map(|node| Some(cluster.replica(node)?.published().index));
        if let Some(index) = applied.max() {
            let size = self.groups[at].size;
            self.groups[at].declared.push((index, size));
        }
    }

    pub(crate) async fn free(&mut self, cluster: &mut Cluster, group: &GroupId) {
        self.propose(cluster, Change::Object { key: ObjectKey::group(group), verb: Verb::Release }).await;
    }

    /// Proposes until it is answered, always under one request id. The dead come back meanwhile.
    async fn propose(&mut self, cluster: &mut Cluster, change: Change) {
        let command =
            Command { id: RequestId(raft::unique()), by: Actor("sim".into()), at: cluster.now(), change };
        let began = Instant::now();
        loop {
            if let Some(replica) = cluster.leader().and_then(|leader| cluster.replica(leader)).cloned() {
                let asked = tokio::time::timeout(Duration::from_secs(2), replica.propose(&command, None));
                if let Ok(Ok(answer)) = asked.await {
                    // An operator's word may come too late, and then changes nothing.
                    let late = matches!(&answer, Answer::Refused(Refusal::NotInDoubt { .. }));
                    assert!(late || !matches!(answer, Answer::Refused(_)), "{answer:?}");
                    return;
                }
            }
            if began.elapsed() > Duration::from_secs(120) {
                self.violations.push("nobody could agree on anything for two minutes".into());
                return;
            }
            if began.elapsed() > Duration::from_secs(20) {
                // Whoever keeps a majority from agreeing is mended first.
                cluster.mend().await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Everything is mended; waits until every group is as declared, in the state and at the provider.
    pub(crate) async fn settle(&mut self, cluster: &mut Cluster) -> Duration {
        // One with a name is missed for a while before it is replaced.
        let named = Duration::from_millis(NAMED_GONE.0);
        let boots = Duration::from_millis(cluster.cloud.lock().expect("the cloud").boots.1);
        let each = ONE_MEMBER + boots;
        let limit = named + SETTLES_IN + each * judge::outdated(cluster) + judge::slow_to_show(cluster);
        let mut operator = Operator::default();
        cluster.mend().await;
        {
            let mut cloud = cluster.cloud.lock().expect("the cloud");
            cloud.be_well();
            let now = Instant::now();
            cloud.hidden.values_mut().for_each(|until| *until = now.min(*until));
            (cloud.terminating, cloud.dies_at) = (None, None);
            cloud.died.clear();
        }
        for node in 0..cluster.size() {
            // Whoever was to die at a call stands still there: it dies now.
            if cluster.leader() == Some(node) {
                cluster.crash(node);
            }
            cluster.start(node).await;
        }
        self.tell("everything is mended");
        let began = Instant::now();
        loop {
            for settle in operator.listings_seen(cluster) {
                self.tell(format!("an operator settles {settle:?}"));
                self.propose(cluster, Change::Settle(settle)).await;
            }
            let missing = judge::missing(cluster, &self.groups);
            if missing.is_empty() {
                self.tell("everything is as declared");
                return began.elapsed();
            }
            if began.elapsed() > limit {
                self.violations.push(format!("after {limit:?}: {}", missing.join("; ")));
                return began.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn judge(&mut self, cluster: &Cluster) -> Run {
        let mut violations = std::mem::take(&mut self.violations);
        violations.extend(judge::violations(cluster, &self.groups));
        let cloud = cluster.cloud.lock().expect("the cloud");
        let register = self.register.lock().expect("nobody panics");
        violations.extend(register.violations.iter().cloned());
        let mut faults = std::mem::take(&mut self.faults);
        for (fault, count) in &cloud.faults {
            *faults.entry(fault).or_default() += count;
        }
        if self.plan.loud {
            for it in &cloud.instances {
                let tag = |name: &str| it.tags.get(name).map_or("", String::as_str);
                let end = match (it.gone, &it.ended_by) {
                    (None, _) => "lives".to_owned(),
                    (Some(at), None) => format!("died after {:.3?}", at - it.born),
                    (Some(at), Some(token)) => format!("destroyed by {token} after {:.3?}", at - it.born),
                };
                let (group, slot, token) = (tag(tags::GROUP), tag(tags::SLOT), tag(tags::INTENT));
                self.say(
                    it.born,
                    &format!("{} of {} is there: {group}/{slot} by {token}, {end}", it.at, it.at.plugin),
                );
            }
            for call in &cloud.calls {
                self.say(call.at, &format!("m{} asks: {call}", call.node));
            }
        }
        Run {
            seed: self.seed,
            faults,
            violations,
            settled_in: Duration::ZERO,
            made: cloud.instances.len(),
            destroyed: cloud.instances.iter().filter(|it| it.ended_by.is_some()).count(),
            operations: register.operations,
            moments: std::mem::take(&mut self.moments),
            history: digest(&cloud.calls, self.began),
        }
    }
}

/// The manager that founds the cluster, with a program of this feature level.
fn founder(level: u32) -> Manager {
    Manager {
        name: "m0".into(),
        address: "m0:1".into(),
        storage: "disk-0".into(),
        instance: None,
        program: Program { version: String::new(), level },
    }
}

fn digest(calls: &[Call], began: Option<Instant>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for call in calls {
        (began.map(|began| call.at - began), call.node, call.term, call.to_string()).hash(&mut hasher);
    }
    hasher.finish()
}
