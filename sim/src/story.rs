//! One run: what is declared, what goes wrong and when, and what must be true after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::command::{Commit, Manager};
use model::sabotage::Protection;
use model::spec::{Opaque, Part, Template, Updating};
use model::state::Holder;
use model::{
    Actor, Allocation, Answer, Change, ClusterId, Command, GroupId, GroupSpec, RequestId, State, tags,
};
use tokio::time::Instant;

use crate::cloud::Cloud;
use crate::cluster::{CLUSTER, Cluster};

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
}

impl Default for Plan {
    fn default() -> Self {
        Self { managers: 3, size: 20, faults: 10, lasts: Duration::from_secs(240), loud: false, without: &[] }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub seed: u64,
    /// What went wrong, and how often.
    pub faults: BTreeMap<&'static str, usize>,
    /// Promises that were not kept; empty is good.
    pub violations: Vec<String>,
    /// From the last fault until everything was as declared.
    pub settled_in: Duration,
    pub made: usize,
    pub destroyed: usize,
    /// Writes and reads that a client made.
    pub operations: usize,
}

/// The longest that a group may take after the last fault: thirty seconds, and the time a foreign
/// plugin's lost call is waited for, which begins anew when a leader does.
const SETTLES_IN: Duration = Duration::from_secs(90);

/// Runs one seed, on this thread.
pub fn run(seed: u64, plan: &Plan) -> Run {
    raft::seed(seed);
    #[cfg(feature = "sabotage")]
    model::sabotage::leave_out(plan.without);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Without it, tokio's choice of whom to wake first differs from run to run.
    #[cfg(tokio_unstable)]
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    let run = runtime.block_on(Story::new(seed, *plan).run());
    runtime.shutdown_background();
    run
}

struct Group {
    name: &'static str,
    plugin: &'static str,
    pets: bool,
    size: u32,
    version: u32,
    /// The most members that were ever wanted, and how many destroys all that was asked for explains.
    most: u32,
    may_destroy: u32,
}

/// What a client saw of one register that one writer counts up.
#[derive(Default)]
struct Register {
    begun: u64,
    acked: u64,
    seen: u64,
    operations: usize,
    violations: Vec<String>,
}

struct Story {
    seed: u64,
    plan: Plan,
    groups: Vec<Group>,
    faults: BTreeMap<&'static str, usize>,
    violations: Vec<String>,
    began: Option<Instant>,
    register: Arc<Mutex<Register>>,
}

impl Story {
    fn new(seed: u64, plan: Plan) -> Self {
        let group = |name, plugin, pets| Group {
            name,
            plugin,
            pets,
            size: plan.size,
            version: 1,
            most: plan.size,
            may_destroy: 0,
        };
        Story {
            seed,
            plan,
            groups: vec![
                group("cattle", "ours/a", false),
                group("pets", "ours/b", true),
                group("foreign", "foreign/c", false),
            ],
            faults: BTreeMap::new(),
            violations: Vec::new(),
            began: None,
            register: Arc::default(),
        }
    }

    fn tell(&self, what: impl std::fmt::Display) {
        if self.plan.loud {
            self.say(Instant::now(), &what);
        }
    }

    #[allow(clippy::print_stdout)]
    fn say(&self, at: Instant, what: &dyn std::fmt::Display) {
        let at = self.began.map_or(0.0, |began| (at - began).as_secs_f64());
        println!("{at:9.3} s  {what}");
    }

    fn count(&mut self, fault: &'static str) {
        self.tell(fault);
        *self.faults.entry(fault).or_default() += 1;
    }

    async fn run(mut self) -> Run {
        self.began = Some(Instant::now());
        let mut cluster = Cluster::of(self.plan.managers).await;
        let manager = Manager { name: "m0".into(), address: "m0:1".into(), storage: "disk-0".into() };
        let found = Change::Found { cluster: ClusterId::new(CLUSTER), lineage: 1, manager };
        self.propose(&mut cluster, found).await;
        for at in 0..self.groups.len() {
            self.declare(&mut cluster, at).await;
        }
        let pause = self.plan.lasts / (self.plan.faults + 1);
        let mut dead: Vec<(usize, Instant)> = Vec::new();
        let mut healed_at = Instant::now();
        for _ in 0..self.plan.faults {
            let wait = Duration::from_millis(raft::between(100, 2 * pause.as_millis() as u64));
            self.pass(&mut cluster, &mut dead, Instant::now() + wait, &mut healed_at).await;
            self.strike(&mut cluster, &mut dead, &mut healed_at).await;
        }
        self.pass(&mut cluster, &mut dead, Instant::now() + Duration::from_secs(5), &mut healed_at).await;
        let settled_in = self.settle(&mut cluster).await;
        Run { settled_in, ..self.judge(&cluster) }
    }

    /// Lets time pass; the dead come back, and what was cut or slow is mended, when it is due.
    async fn pass(
        &mut self,
        cluster: &mut Cluster,
        dead: &mut Vec<(usize, Instant)>,
        until: Instant,
        healed_at: &mut Instant,
    ) {
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.client(cluster);
            let mut died = std::mem::take(&mut cluster.cloud.lock().expect("the cloud").died);
            died.extend(cluster.net.died());
            for node in died {
                self.tell(format!("m{node} dies in the middle of it"));
                cluster.crash(node);
                dead.push((node, Instant::now() + Duration::from_millis(raft::between(200, 8000))));
            }
            let now = Instant::now();
            let due: Vec<usize> = dead.iter().filter(|(_, at)| *at <= now).map(|(node, _)| *node).collect();
            dead.retain(|(_, at)| *at > now);
            for node in due {
                self.tell(format!("m{node} starts again"));
                cluster.start(node).await;
            }
            if *healed_at <= now {
                cluster.net.heal();
                let mut cloud = cluster.cloud.lock().expect("the cloud");
                cloud.trouble = 0;
                cloud.frozen.clear();
            }
        }
    }

    async fn strike(
        &mut self,
        cluster: &mut Cluster,
        dead: &mut Vec<(usize, Instant)>,
        healed_at: &mut Instant,
    ) {
        let n = cluster.size();
        let any = raft::between(0, n as u64 - 1) as usize;
        let leader = cluster.leader().unwrap_or(any);
        let back = Instant::now() + Duration::from_millis(raft::between(200, 10_000));
        let heal = Instant::now() + Duration::from_millis(raft::between(1000, 20_000));
        match raft::between(0, 13) {
            0 => {
                self.count("a manager killed");
                cluster.crash(any);
                dead.push((any, back));
            }
            1 => {
                self.count("the leader killed");
                cluster.crash(leader);
                dead.push((leader, back));
            }
            2 => {
                let after = raft::between(0, 1) == 1;
                self.tell(format!(
                    "m{leader} is to die {} its next call",
                    if after { "after" } else { "before" }
                ));
                cluster.cloud.lock().expect("the cloud").doomed = Some((leader, after));
                cluster.cloud.lock().expect("the cloud").lose_one();
            }
            3 => {
                self.count("the leader cut off");
                for other in (0..n).filter(|it| *it != leader) {
                    cluster.net.cut(leader, other);
                    cluster.net.cut(other, leader);
                }
                *healed_at = heal;
            }
            4 => {
                self.count("a one-way cut");
                let other = (any + 1) % n;
                cluster.net.cut(any, other);
                *healed_at = heal;
            }
            5 => {
                self.count("the leader hears and is not heard");
                for other in (0..n).filter(|it| *it != leader) {
                    cluster.net.cut(leader, other);
                }
                *healed_at = heal;
            }
            6 => {
                self.count("the leader frozen");
                for other in (0..n).filter(|it| *it != leader) {
                    cluster.net.cut(leader, other);
                    cluster.net.cut(other, leader);
                }
                cluster.cloud.lock().expect("the cloud").frozen.push(leader);
                *healed_at = heal;
            }
            7 => {
                self.count("a slow network");
                cluster.net.slow(raft::between(20, 300));
                *healed_at = heal;
            }
            8 => {
                self.count("provider trouble");
                cluster.cloud.lock().expect("the cloud").trouble = raft::between(10, 60);
                for _ in 0..raft::between(1, 8) {
                    cluster.cloud.lock().expect("the cloud").lose_one();
                }
                *healed_at = heal;
            }
            9 => {
                for _ in 0..raft::between(1, 5) {
                    cluster.cloud.lock().expect("the cloud").lose_one();
                }
            }
            10 => {
                let at = raft::between(0, self.groups.len() as u64 - 1) as usize;
                let size =
                    raft::between(u64::from(self.plan.size) / 2, u64::from(self.plan.size) * 3 / 2) as u32;
                let group = &mut self.groups[at];
                group.may_destroy += group.size.saturating_sub(size);
                group.size = size;
                group.most = group.most.max(size);
                let (name, size) = (group.name, group.size);
                self.tell(format!("{name} is to have {size} members"));
                self.count("a group scaled");
                self.declare(cluster, at).await;
            }
            11 => {
                self.count("a voter dies as it votes");
                // Two who cannot hear each other, and a voter between them that forgets.
                let (a, b) = (leader, (leader + 1) % n);
                cluster.net.cut(a, b);
                cluster.net.cut(b, a);
                cluster.net.doom_a_voter();
                cluster.crash(leader);
                dead.push((leader, Instant::now() + Duration::from_millis(raft::between(50, 400))));
                *healed_at = heal;
            }
            12 => {
                // What was planned before somebody changed their mind must not be done after it.
                self.count("a change of mind");
                let at = raft::between(0, self.groups.len() as u64 - 1) as usize;
                let before = self.groups[at].size;
                let more = before + self.plan.size / 2;
                self.groups[at].size = more;
                self.groups[at].most = self.groups[at].most.max(more);
                self.declare(cluster, at).await;
                tokio::time::sleep(Duration::from_millis(raft::between(0, 60))).await;
                self.groups[at].size = before;
                self.groups[at].may_destroy += more - before;
                self.declare(cluster, at).await;
            }
            _ => {
                self.count("everybody killed");
                for node in 0..n {
                    cluster.crash(node);
                    dead.push((node, Instant::now() + Duration::from_millis(raft::between(100, 3000))));
                }
            }
        }
    }

    fn spec(&self, at: usize) -> GroupSpec {
        let group = &self.groups[at];
        let part = |plugin: &str, properties: String| Part {
            plugin: plugin.into(),
            properties: Opaque::from_json(properties),
        };
        let allocation = if group.pets {
            Allocation::LogicalIds((0..group.size).map(|n| format!("pet-{n:03}").as_str().into()).collect())
        } else {
            Allocation::Size(group.size)
        };
        GroupSpec {
            id: GroupId::new(group.name),
            allocation,
            template: Template {
                instance: part(group.plugin, format!("{{\"version\":{}}}", group.version)),
                flavor: part("flavor", "null".into()),
            },
            updating: Updating::default(),
        }
    }

    async fn declare(&mut self, cluster: &mut Cluster, at: usize) {
        let item = Commit { spec: self.spec(at), if_revision: None, unvalidated: false };
        self.propose(cluster, Change::Commit { items: vec![item] }).await;
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
                    assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
                    return;
                }
            }
            if began.elapsed() > Duration::from_secs(120) {
                self.violations.push("nobody could agree on anything for two minutes".into());
                return;
            }
            if began.elapsed() > Duration::from_secs(20) {
                // Whoever keeps a majority from agreeing is mended first.
                cluster.net.heal();
                for node in 0..cluster.size() {
                    cluster.start(node).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Now and then a client counts up, or reads. One writer, which goes on only when it was answered, so
    /// a read must see at least what was answered before it began, at most what was begun before it ended,
    /// and never less than a read before it.
    fn client(&mut self, cluster: &Cluster) {
        if raft::between(0, 9) > 0 {
            return;
        }
        let node = raft::between(0, cluster.size() as u64 - 1) as usize;
        let Some(replica) = cluster.replica(node).cloned() else { return };
        let register = self.register.clone();
        let held = |register: &Arc<Mutex<Register>>| register.lock().expect("nobody panics").begun;
        if raft::between(0, 1) == 0 {
            let next = {
                let mut register = register.lock().expect("nobody panics");
                if register.begun > register.acked && raft::between(0, 1) == 0 {
                    return;
                }
                register.begun = register.acked + 1;
                register.begun
            };
            let command = Command {
                id: RequestId(u128::from(next)),
                by: Actor("client".into()),
                at: cluster.now(),
                change: Change::SetVariable { key: "n".into(), value: next.to_string() },
            };
            tokio::spawn(async move {
                let asked = tokio::time::timeout(Duration::from_secs(10), replica.propose(&command, None));
                if let Ok(Ok(_)) = asked.await {
                    let mut register = register.lock().expect("nobody panics");
                    register.acked = register.acked.max(next);
                    register.operations += 1;
                }
            });
        } else {
            let (acked, seen) = {
                let register = register.lock().expect("nobody panics");
                (register.acked, register.seen)
            };
            tokio::spawn(async move {
                let asked = tokio::time::timeout(Duration::from_secs(10), replica.read());
                if let Ok(Ok(published)) = asked.await {
                    let value = published.state.variables.get("n");
                    let value = value.map_or(0, |it| it.value.parse::<u64>().unwrap_or(0));
                    let begun = held(&register);
                    let mut register = register.lock().expect("nobody panics");
                    register.operations += 1;
                    if value < acked || value < seen || value > begun {
                        register.violations.push(format!(
                            "a read gave {value} where {acked} was answered, {seen} was seen and {begun} was begun"
                        ));
                    }
                    register.seen = register.seen.max(value);
                }
            });
        }
    }

    /// Everything is mended; waits until every group is as declared, in the state and at the provider.
    async fn settle(&mut self, cluster: &mut Cluster) -> Duration {
        cluster.net.heal();
        {
            let mut cloud = cluster.cloud.lock().expect("the cloud");
            cloud.trouble = 0;
            cloud.doomed = None;
            cloud.frozen.clear();
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
            let missing = self.missing(cluster);
            if missing.is_empty() {
                self.tell("everything is as declared");
                return began.elapsed();
            }
            if began.elapsed() > SETTLES_IN {
                self.violations.push(format!("after {SETTLES_IN:?}: {}", missing.join("; ")));
                return began.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What keeps the cluster from being as declared.
    fn missing(&self, cluster: &Cluster) -> Vec<String> {
        let Some(replica) = cluster.leader().and_then(|leader| cluster.replica(leader)) else {
            return vec!["nobody leads".into()];
        };
        let published = replica.published();
        let cloud = cluster.cloud.lock().expect("the cloud");
        let mut missing = Vec::new();
        for group in &self.groups {
            let Some(state) = published.state.group(&GroupId::new(group.name)) else {
                missing.push(format!("{} is not there", group.name));
                continue;
            };
            let there = members(&published.state, group.name)
                .into_iter()
                .filter(|id| cloud.living().any(|it| it.id.as_str() == id))
                .count();
            if !state.intents.is_empty() || state.living() != group.size as usize || there != state.living() {
                missing.push(format!(
                    "{} has {} members of {}, {there} of them there, and {} open intents",
                    group.name,
                    state.living(),
                    group.size,
                    state.intents.len()
                ));
            }
        }
        missing
    }

    fn judge(&mut self, cluster: &Cluster) -> Run {
        let cloud = cluster.cloud.lock().expect("the cloud");
        let mut violations = std::mem::take(&mut self.violations);
        if let Some(replica) = cluster.leader().and_then(|leader| cluster.replica(leader)) {
            let state = replica.published().state;
            for group in &self.groups {
                violations.extend(judge_group(&cloud, &state, group));
            }
        }
        violations.extend(diverged(cluster));
        violations.extend(deposed(&cloud));
        let register = self.register.lock().expect("nobody panics");
        violations.extend(register.violations.iter().cloned());
        let mut faults = std::mem::take(&mut self.faults);
        for (fault, count) in &cloud.faults {
            *faults.entry(fault).or_default() += count;
        }
        if self.plan.loud {
            for call in &cloud.calls {
                self.say(call.at, &format!("m{} asks: {}", call.node, call.what));
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
        }
    }
}

fn members(state: &State, group: &str) -> Vec<String> {
    let Some(group) = state.group(&GroupId::new(group)) else { return Vec::new() };
    let holds = |holder: &Holder| match holder {
        Holder::Living { instance, .. } => Some(instance.to_string()),
        Holder::Nobody | Holder::Pending(_) => None,
    };
    group.roster.values().filter_map(|member| holds(&member.holder)).collect()
}

/// The provider's own record of one group, held against the promises.
fn judge_group(cloud: &Cloud, state: &State, group: &Group) -> Vec<String> {
    let mut violations = Vec::new();
    let of_group =
        |it: &&crate::cloud::Instance| it.tags.get(tags::GROUP).map(String::as_str) == Some(group.name);
    let mut by_slot: BTreeMap<&str, Vec<&crate::cloud::Instance>> = BTreeMap::new();
    for instance in cloud.instances.iter().filter(of_group) {
        by_slot.entry(instance.tags.get(tags::SLOT).map_or("", String::as_str)).or_default().push(instance);
    }
    for (slot, instances) in &by_slot {
        for pair in instances.windows(2) {
            if pair[0].gone.is_none_or(|gone| gone > pair[1].born) {
                violations.push(format!(
                    "{} slot {slot}: {} was made while {} lived",
                    group.name, pair[1].id, pair[0].id
                ));
            }
        }
    }
    let mut changes: Vec<(Instant, i64)> = Vec::new();
    for instance in cloud.instances.iter().filter(of_group) {
        changes.push((instance.born, 1));
        changes.extend(instance.gone.map(|gone| (gone, -1)));
    }
    changes.sort();
    let mut living = 0;
    let mut most = 0;
    for (_, change) in changes {
        living += change;
        most = most.max(living);
    }
    if most > i64::from(group.most) {
        violations
            .push(format!("{} had {most} instances where at most {} were wanted", group.name, group.most));
    }
    let held = members(state, group.name);
    for instance in cloud.living().filter(of_group) {
        if !held.iter().any(|id| id == instance.id.as_str()) {
            violations.push(format!("{}: {} lives and nobody knows it", group.name, instance.id));
        }
    }
    let destroyed = cloud.instances.iter().filter(of_group).filter(|it| it.ended_by.is_some()).count();
    if destroyed > group.may_destroy as usize {
        violations.push(format!(
            "{}: {destroyed} instances were destroyed where {} were to go",
            group.name, group.may_destroy
        ));
    }
    violations
}

/// Once a leader has made a call, none of an earlier term makes another: the lease keeps it.
fn deposed(cloud: &Cloud) -> Vec<String> {
    let mut newest = 0;
    let mut violations = Vec::new();
    for call in &cloud.calls {
        if call.term < newest {
            let at = format!("m{} of term {} calls: {}", call.node, call.term, call.what);
            violations.push(format!("{at}, after a leader of term {newest} did"));
        }
        newest = newest.max(call.term);
    }
    violations
}

/// Replicas that applied the same entries have the same state.
fn diverged(cluster: &Cluster) -> Vec<String> {
    let all: Vec<_> =
        (0..cluster.size()).filter_map(|node| Some((node, cluster.replica(node)?.published()))).collect();
    let mut violations = Vec::new();
    for (a, first) in &all {
        for (b, second) in all.iter().filter(|(b, _)| b > a) {
            if first.index == second.index && first.state != second.state {
                violations.push(format!("m{a} and m{b} differ at log index {}", first.index));
            }
        }
    }
    violations
}
