//! Rollouts under leaders that die: a group changes its template, and never has fewer members ready than are
//! wanted and may be away, nor more than it may surge.

use std::collections::BTreeSet;
use std::time::Duration;

use model::spec::Disruption;
use model::tags;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::damage::Damage;
use crate::judge;
use crate::story::{Run, Story};

/// How many templates follow each other in one run.
const TEMPLATES: u64 = 4;

/// How long an instance takes to be healthy, in milliseconds.
pub(crate) const BOOTS: (u64, u64) = (200, 4000);

/// What one rollout of five members may take with a leader that dies in it: each is made, is healthy, and is looked
/// at for it; its predecessor is destroyed; and an election comes in between.
const ROLLED_IN: Duration = Duration::from_secs(120);

impl Story {
    /// Declares one group, changes its template again and again, and kills leaders meanwhile.
    pub(crate) async fn roll(mut self) -> Run {
        let mut cluster = self.found().await;
        cluster.cloud.lock().expect("the cloud").boots = BOOTS;
        self.groups.truncate(1);
        self.declare(&mut cluster, 0).await;
        let mut damage = Damage::none();
        self.until_declared(&mut cluster, &mut damage, false).await;
        let from = Instant::now();
        for _ in 0..TEMPLATES {
            self.groups[0].changes(true);
            self.groups[0].may_destroy += self.groups[0].size + self.groups[0].may().surge as u32;
            self.count("a new template");
            self.declare(&mut cluster, 0).await;
            if raft::between(0, 3) > 0 {
                self.until_declared(&mut cluster, &mut damage, true).await;
            } else {
                // Somebody changes their mind in the middle of it.
                let until = Instant::now() + Duration::from_millis(raft::between(0, 15_000));
                self.pass(&mut cluster, &mut damage, until).await;
            }
        }
        self.until_declared(&mut cluster, &mut damage, true).await;
        let settled_in = self.settle(&mut cluster).await;
        let (size, may) = (self.groups[0].size as usize, self.groups[0].may());
        let capacity = capacity(&cluster, from, size, may);
        let run = self.judge(&cluster);
        Run { settled_in, violations: run.violations.into_iter().chain(capacity).collect(), ..run }
    }

    /// Lets time pass until the group is as declared; its leaders are killed on the way, when they are to.
    async fn until_declared(&mut self, cluster: &mut Cluster, damage: &mut Damage, kills: bool) {
        let deadline = Instant::now() + ROLLED_IN;
        let mut left = if kills { raft::between(0, 3) } else { 0 };
        loop {
            let mut missing = judge::missing(cluster, &self.groups);
            if missing.is_empty() && rolls(cluster) {
                missing.push("not everybody is ready".into());
            }
            if missing.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                let missing = missing.join("; ");
                self.break_promise(format!("a rollout did not end within {ROLLED_IN:?}: {missing}"));
                return;
            }
            let pause = Instant::now() + Duration::from_millis(raft::between(100, 3000));
            self.pass(cluster, damage, pause).await;
            if left == 0 || raft::between(0, 1) == 0 {
                continue;
            }
            let Some(leader) = cluster.leader() else { continue };
            left -= 1;
            if raft::between(0, 1) == 0 {
                self.count("the leader killed");
                cluster.crash(leader);
                let back = Instant::now() + Duration::from_millis(raft::between(100, 8000));
                damage.dead.push((leader, back));
            } else {
                self.count("the leader is to die at a call");
                let after = raft::between(0, 1) == 0;
                cluster.cloud.lock().expect("the cloud").terminating = Some((leader, after));
            }
        }
    }
}

/// Whether a rollout is under way, as the leader has it.
fn rolls(cluster: &Cluster) -> bool {
    let Some(replica) = cluster.leader().and_then(|leader| cluster.replica(leader)) else { return true };
    let groups = replica.published().state.groups.clone();
    groups.values().any(|group| !group.phase.is_over())
}

/// How many were ready and how many were there, at each moment at which that changed.
fn capacity(cluster: &Cluster, from: Instant, size: usize, may: Disruption) -> Vec<String> {
    let cloud = cluster.cloud.lock().expect("the cloud");
    let group =
        |it: &&crate::cloud::Instance| it.tags.get(tags::GROUP).is_some_and(|group| group == "cattle");
    let all: Vec<_> = cloud.instances.iter().filter(group).collect();
    let moments: BTreeSet<Instant> =
        all.iter().flat_map(|it| [Some(it.born), it.gone]).flatten().filter(|at| *at >= from).collect();
    let there =
        |at: Instant| all.iter().filter(move |it| it.born <= at && it.gone.is_none_or(|gone| gone > at));
    let mut violations = Vec::new();
    for at in moments {
        let total = there(at).count();
        let ready = there(at).filter(|it| it.healthy_from <= at).count();
        let after = at - from;
        if ready + may.unavailable < size {
            violations.push(format!("after {after:?} only {ready} of {size} were ready"));
        }
        if total > size + may.surge {
            violations.push(format!("after {after:?} {total} were there where {size} are wanted"));
        }
    }
    violations
}
