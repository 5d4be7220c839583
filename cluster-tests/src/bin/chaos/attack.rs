//! One cluster under attack: what goes wrong, how it is mended, and what must be true after it.

mod faults;
mod networks;

pub(crate) use faults::fault_against;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use api::{Client, proto as pb};
use cluster_tests::{Cluster, Kind, Mood, Operation, Options, group, unexplained, until};
use futures_util::future::join_all;
use model::failpoints::VARIABLE;
use model::tags::{self, Tags};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use spi::Instances;

use crate::clients::{CLIENTS, PATIENCE, REGISTERS, Registers, read, use_registers};
use crate::outcome::Outcome;

/// After the last fault the cluster must take writes again within this time.
const WRITES_IN: Duration = Duration::from_secs(10);
/// After the last fault a group must be as declared again within this time.
const CONVERGES_IN: Duration = Duration::from_secs(30);
const GROUP: &str = "web";
/// As it is counted.
const DEMOTED: &str = "a manager that may not vote for a while";

/// One cluster under attack.
struct Attack {
    chance: SmallRng,
    cluster: Cluster,
    faults: BTreeMap<&'static str, usize>,
    /// Managers to start again, and when.
    dead: Vec<(usize, Instant)>,
    /// Managers to wake, and when.
    frozen: Vec<(usize, Instant)>,
    plugins_back: Option<Instant>,
    /// Who does not vote for a while, and until when.
    demoted: Option<(usize, Instant)>,
    /// Who was perhaps removed for good: it comes back with an empty disk, as somebody else.
    removed: Option<usize>,
    /// Whose disks failed, or were full: such a manager may end.
    bad_disks: [bool; 3],
    /// Whose clocks are days off.
    off_by_days: Vec<usize>,
    /// The first manager was replaced: it joins the others now.
    has_joined: bool,
    /// The directory of the simulator's instances.
    store: PathBuf,
    registers: Rc<Registers>,
    /// Promises that were seen broken as it happened.
    violations: Vec<String>,
    /// From the moment at which everything was mended until a write was taken.
    writes_after: Duration,
    /// When lines, disks and the provider are well again.
    mended: Option<Instant>,
    size: u64,
    /// How many instances may be destroyed by all that was asked for.
    surplus: u64,
}

/// What a schedule consists of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) faults: u32,
    /// Only faults of one kind, by its number.
    pub(crate) only: Option<u64>,
    /// The protection that the managers leave out.
    pub(crate) without: Option<&'static str>,
}

/// Runs one schedule.
pub(crate) async fn run(schedule: Schedule) -> Outcome {
    let Schedule { seed, faults, only, without } = schedule;
    let store = tempfile::tempdir().expect("a temporary directory");
    let dir = format!("dir={}", store.path().display());
    let options = Options {
        simulator: ["--set", "store=file", "--set", &dir].map(String::from).into(),
        disks: true,
        network: true,
        founder_knows_peers: true,
        environment: without.map(|name| (VARIABLE.to_owned(), name.to_owned())).into_iter().collect(),
        ..Options::default()
    };
    let cluster = Cluster::with(3, options).await;
    let size = 8;
    cluster.commit(&group(GROUP, size as u32, "v1")).await.expect("it is accepted");
    cluster.settles(GROUP, size).await;
    let registers = Rc::new(Registers::default());
    registers.addresses.replace(cluster.addresses());
    let began = Instant::now();
    let mut attack = Attack {
        chance: SmallRng::seed_from_u64(seed),
        cluster,
        faults: BTreeMap::new(),
        dead: Vec::new(),
        frozen: Vec::new(),
        plugins_back: None,
        demoted: None,
        removed: None,
        bad_disks: [false; 3],
        off_by_days: Vec::new(),
        has_joined: false,
        store: store.path().to_owned(),
        registers: registers.clone(),
        violations: Vec::new(),
        writes_after: Duration::ZERO,
        mended: None,
        size,
        surplus: 0,
    };
    let using = (0..CLIENTS).map(|at| {
        let chance = SmallRng::seed_from_u64(seed ^ (at + 1) << 40);
        use_registers(chance, at, &registers, began)
    });
    let attacking = async {
        for _ in 0..faults {
            attack.strike(only).await;
            let span = attack.between(500, 5000);
            attack.pass(Duration::from_millis(span)).await;
        }
        let settled = attack.settle().await;
        registers.stop.set(true);
        settled
    };
    let (_, converged) = tokio::join!(join_all(using), attacking);
    attack.judge(converged, &registers, began).await
}

fn short(cluster: &Cluster) -> Client {
    cluster.client().with_deadline(PATIENCE)
}

impl Attack {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.chance.random_range(low..=high)
    }

    fn soon(&mut self, low: u64, high: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.between(low, high))
    }

    /// Lets time pass; what is due comes back.
    async fn pass(&mut self, span: Duration) {
        let end = Instant::now() + span;
        until("the next fault is due", async || {
            self.bring_back(false);
            (Instant::now() >= end).then_some(())
        })
        .await;
    }

    /// Mends what is due, or everything.
    fn bring_back(&mut self, everything: bool) {
        let now = Instant::now();
        let due = |at: &Instant| everything || *at <= now;
        if self.mended.is_some_and(|at| due(&at)) {
            self.mended = None;
            self.remove_what_is_too_large();
            self.cluster.network().heal();
            for i in 0..3 {
                self.cluster.disk(i).be(Mood::Well);
            }
            for call in ["provision", "destroy", "describe"] {
                // It was used up, or never there.
                let _ = std::fs::remove_file(self.cluster.path().join("lab/faults").join(call));
            }
        }
        if self.plugins_back.is_some_and(|at| due(&at)) {
            self.plugins_back = None;
            self.cluster.start_plugins();
        }
        for (i, _) in self.frozen.extract_if(.., |(_, at)| due(at)).collect::<Vec<_>>() {
            if self.cluster.is_running(i) {
                self.cluster.manager(i).signal(Signal::CONT);
            }
        }
        for (i, _) in self.dead.extract_if(.., |(_, at)| due(at)).collect::<Vec<_>>() {
            if !self.cluster.is_running(i) {
                self.start(i);
            }
        }
        // Whose disk failed has stopped by itself, and is started again when the disk is well.
        for i in 0..3 {
            if self.mended.is_none()
                && self.cluster.is_running(i)
                && self.cluster.manager_mut(i).ended().is_some()
            {
                self.cluster.kill(i);
                let expected = self.removed == Some(i)
                    || self.off_by_days.contains(&i)
                    || std::mem::take(&mut self.bad_disks[i]);
                if !expected {
                    let log = self.cluster.manager(i).log();
                    let last: Vec<&str> = log.lines().rev().take(3).collect();
                    self.violations.push(format!("m{} ended by itself: {}", i + 1, last.join("; ")));
                }
                if self.removed == Some(i) {
                    self.removed = None;
                    self.wipe(i);
                    self.has_joined |= i == 0;
                }
                self.start(i);
            }
        }
    }

    /// Who leads, as far as anybody says so at once.
    async fn leader(&mut self) -> usize {
        for i in 0..3 {
            let client =
                Cluster::client_of(&self.cluster.address(i)).with_deadline(Duration::from_millis(500));
            let Ok(status) =
                client.call(async |c| c.cluster().status(pb::StatusRequest::default()).await).await
            else {
                continue;
            };
            let leads = |node: &&pb::Node| node.id == status.leader;
            if let Some(leader) = status.nodes.iter().find(leads)
                && let Some(at) = (0..3).find(|at| self.cluster.address(*at) == leader.address)
            {
                return at;
            }
        }
        self.between(0, 2) as usize
    }

    fn die(&mut self, i: usize, longest: u64) {
        if !self.cluster.is_running(i) {
            return;
        }
        self.frozen.retain(|(frozen, _)| *frozen != i);
        self.cluster.kill(i);
        let at = self.soon(100, longest);
        self.dead.push((i, at));
    }

    /// A new disk for the next start.
    fn wipe(&self, i: usize) {
        let removed = std::fs::remove_dir_all(self.cluster.data(i));
        let never_there = removed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        assert!(removed.is_ok() || never_there, "nobody uses it: {removed:?}");
    }

    fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Whether it is heard that a manager is to be so.
    async fn set_member_role(&self, i: usize, role: pb::MemberRole) -> bool {
        let name = format!("m{}", i + 1);
        let names = [name.as_str()];
        let asked = self.cluster.set_member_role(&names, role, true);
        matches!(tokio::time::timeout(Duration::from_secs(4), asked).await, Ok(Ok(_)))
    }

    /// Mends everything, and waits until the group is as declared; gives the time it took.
    async fn settle(&mut self) -> Duration {
        for i in 0..3 {
            self.cluster.set_clock(i, None);
        }
        self.mended = Some(Instant::now());
        let began = Instant::now();
        self.set_clocks_right();
        self.takes_writes_in(began).await;
        until("the group is as declared", async || {
            self.bring_back(true);
            // An answer that was lost may have taken the vote all the same.
            for i in 0..3 {
                if self.faults.contains_key(DEMOTED) && !self.set_member_role(i, pb::MemberRole::Voter).await
                {
                    return None;
                }
            }
            let request = pb::GroupRequest { group: GROUP.into(), ..Default::default() };
            let client = short(&self.cluster);
            let group = client.call(async |c| c.groups().describe(request.clone()).await).await.ok()?;
            let seen = group.converged && group.ready == self.size && group.observed_at_ms.is_some();
            (seen && self.strangers(&group).await?.is_empty()).then_some(())
        })
        .await;
        began.elapsed()
    }

    /// The instances that only the provider knows, or only the managers; none when it cannot be asked.
    async fn strangers(&self, group: &pb::Group) -> Option<Vec<String>> {
        let held: BTreeSet<String> = group.slots.iter().map(|slot| slot.instance.clone()).collect();
        let listed = self.cluster.simulator().describe(&Tags::new(), false).await.ok()?;
        let ours = |tags: &Tags| tags.get(tags::GROUP).is_some_and(|group| group == GROUP);
        let there: BTreeSet<String> =
            listed.iter().filter(|it| ours(&it.tags)).map(|it| it.id.to_string()).collect();
        Some(held.symmetric_difference(&there).cloned().collect())
    }

    async fn judge(mut self, converged: Duration, registers: &Registers, began: Instant) -> Outcome {
        let mut violations = std::mem::take(&mut self.violations);
        if self.writes_after > WRITES_IN {
            violations.push(format!("it took {:.1?} until a write was taken again", self.writes_after));
        }
        if converged > CONVERGES_IN {
            violations.push(format!("it took {converged:.1?} until the group was as declared"));
        }
        self.cluster.until_voters(3).await;
        // The last word about every register is read once more.
        let client = short(&self.cluster);
        for register in 0..REGISTERS {
            let asked = began.elapsed().as_nanos() as u64;
            if let Some(value) = read(&client, register).await {
                let answered = Some(began.elapsed().as_nanos() as u64);
                let last = Operation { kind: Kind::Read(value), asked, answered };
                registers.histories.borrow_mut().entry(register).or_default().push(last);
            }
        }
        let histories = registers.histories.take();
        for register in unexplained(&histories) {
            violations.push(format!("no order explains what clients saw of register r{register}"));
        }
        let record = self.cluster.history();
        violations.extend(record.twice());
        let destroyed = record.destroyed(GROUP, "terminate");
        if destroyed as u64 > self.surplus {
            let due = self.surplus;
            violations.push(format!("{destroyed} instances were destroyed where at most {due} were to go"));
        }
        let group = self.cluster.describe(GROUP).await.expect("the group is there");
        for instance in self.strangers(&group).await.expect("a listing") {
            violations.push(format!("{instance} lives and nobody knows it, or is known and does not live"));
        }
        let operations = || histories.values().flatten();
        Outcome {
            faults: std::mem::take(&mut self.faults),
            operations: operations().count(),
            unanswered: operations().filter(|it| it.answered.is_none()).count(),
            made: record.made(GROUP),
            destroyed,
            converged_in: converged,
            writes_after: self.writes_after,
            violations,
        }
    }
}
