//! Faults of real networks and machines: disks that go back in time, copies of managers, clocks that are days off, new
//! addresses, founders without their disks, and sizes that nobody can replicate. All but the last begin when all is
//! well.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use api::proto as pb;
use cluster_tests::{Cluster, Process, group, until};

use super::{Attack, GROUP, short};

/// Within this time a manager that must not stay is to end by itself.
const LEAVES_IN: Duration = Duration::from_secs(40);
/// Within this time a manager is a voter again when nothing is in its way any more.
const BACK_IN: Duration = Duration::from_secs(40);

/// As `cp -a` does: whole, and with its times.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success(), "{} is copied", from.display());
}

/// Waits until a process ends by itself; false if it does not in time.
async fn leaves(mut ended: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    until("it leaves, or its time is over", async || {
        (ended() || began.elapsed() > LEAVES_IN).then_some(began.elapsed() <= LEAVES_IN)
    })
    .await
}

impl Attack {
    /// Everybody votes and is reachable, as a leader says.
    async fn all_vote(&self) -> bool {
        let client = short(&self.cluster);
        let status = client.call(async |c| c.cluster().status(pb::StatusRequest::default()).await).await;
        let well = |node: &pb::Node| node.role != "Learner" && node.status == "Reachable";
        status.is_ok_and(|it| it.outage.is_none() && it.nodes.len() == 3 && it.nodes.iter().all(well))
    }

    /// The same, and nothing is broken still.
    async fn is_well(&mut self) -> bool {
        let broken = !self.dead.is_empty() || !self.frozen.is_empty() || self.mended.is_some();
        let away = self.removed.is_some() || self.demoted.is_some() || !self.off_by_days.is_empty();
        !broken && !away && self.all_vote().await
    }

    /// A copy of a manager's directory, taken while the manager is stopped for a moment.
    async fn copied(&mut self, i: usize) -> PathBuf {
        let to = self.cluster.path().join(format!("copy-of-m{}", i + 1));
        self.cluster.kill(i);
        copy(&self.cluster.data(i), &to);
        self.start(i);
        self.cluster.until_back(i).await;
        to
    }

    /// Waits until a manager has acknowledged what was written meanwhile.
    async fn has_all_of_it(&self, i: usize) {
        let name = format!("m{}", i + 1);
        until("it has what is written now", async || {
            self.cluster.set("now", "v").await.ok()?;
            let status = self.cluster.status().await?;
            let close = |lag: u64| lag < 20;
            status.nodes.iter().any(|it| it.name == name && it.lag.is_some_and(close)).then_some(())
        })
        .await;
    }

    /// Somebody else in the place of a manager whose disk is lost: as an operator would do it.
    async fn begin_again(&mut self, i: usize) {
        self.cluster.kill(i);
        until("the others remove it", async || {
            let removed = self.set_member_role(i, pb::MemberRole::Removed).await;
            // An answer may have been lost.
            let name = format!("m{}", i + 1);
            let is_member =
                async || Some(self.cluster.status().await?.nodes.iter().any(|it| it.name == name));
            (removed || is_member().await == Some(false)).then_some(())
        })
        .await;
        self.wipe(i);
        self.has_joined |= i == 0;
        self.start(i);
        self.cluster.until_voters(3).await;
    }

    /// The machine of a manager is set back to an earlier state of its disk: it has lost what it agreed to.
    pub(super) async fn set_a_disk_back(&mut self, i: usize) {
        if !self.is_well().await {
            return;
        }
        self.count("a disk set back to an earlier copy");
        let kept = self.copied(i).await;
        // The clients go on writing: it agrees to more than the copy has.
        let span = self.between(500, 2000);
        self.pass(Duration::from_millis(span)).await;
        self.has_all_of_it(i).await;
        self.cluster.kill(i);
        self.wipe(i);
        std::fs::rename(&kept, self.cluster.data(i)).expect("a copy");
        self.start(i);
        if !leaves(|| self.cluster.manager_mut(i).ended().is_some()).await {
            self.broken("a manager whose disk was set back goes on as if nothing had happened");
        }
        self.begin_again(i).await;
    }

    /// A second process runs on a copy of a manager's data, at another address.
    pub(super) async fn run_a_copy(&mut self, i: usize) {
        if !self.is_well().await {
            return;
        }
        self.count("a copy of a manager beside it");
        let data = self.copied(i).await;
        let mut second = self.cluster.start_copy(i, &data, (i + 1) % 3);
        if !leaves(|| second.ended().is_some()).await {
            self.broken("a copy of a manager runs beside it");
        }
        if self.cluster.manager_mut(i).ended().is_some() {
            self.broken("a manager ended because of a copy of it");
        }
    }

    /// The same while the original is cut off from the others, who may take the copy for it. When the lines are whole,
    /// one of the two must go.
    pub(super) async fn run_a_copy_behind_a_partition(&mut self, i: usize) {
        if !self.is_well().await {
            return;
        }
        self.count("a copy of a manager that is cut off");
        let data = self.copied(i).await;
        for other in (0..3).filter(|other| *other != i) {
            self.cut(i, other);
            self.cut(other, i);
        }
        let mut second = self.cluster.start_copy(i, &data, (i + 1) % 3);
        let span = self.between(500, 8000);
        self.pass(Duration::from_millis(span)).await;
        self.cluster.network().heal();
        let one_goes =
            leaves(|| second.ended().is_some() || self.cluster.manager_mut(i).ended().is_some()).await;
        if !one_goes {
            self.broken("a manager and a copy of it run beside each other");
        }
        self.keep_one_of(i, second).await;
    }

    /// Ends the copy; if it was taken for the manager, somebody else comes in its place.
    async fn keep_one_of(&mut self, i: usize, copy: Process) {
        drop(copy);
        // It finds back by itself, or it is told that the copy went on without it.
        let began = Instant::now();
        let back = until("it is a voter again, or has ended, or its time is over", async || {
            let ended = self.cluster.manager_mut(i).ended().is_some();
            let back = !ended && self.all_vote().await;
            (ended || back || began.elapsed() > BACK_IN).then_some(back)
        })
        .await;
        if !back && self.cluster.manager_mut(i).ended().is_none() {
            self.broken("a manager does not come back after a copy of it was at work");
        }
        if !back {
            self.begin_again(i).await;
        }
    }

    /// A clock that is days off from the next start on: whoever has it is out until it is right.
    pub(super) async fn set_a_clock_days_off(&mut self, i: usize) {
        if !self.is_well().await {
            return;
        }
        self.count("a clock that is days off");
        let clock = self.one_of(&["+3d", "-3d", "+90d", "-90d"]);
        self.cluster.set_clock(i, Some(clock));
        self.off_by_days.push(i);
        self.die(i, 1000);
    }

    /// Whoever has a clock that is days off starts again with one that is right.
    pub(super) fn set_clocks_right(&mut self) {
        for i in std::mem::take(&mut self.off_by_days) {
            self.cluster.set_clock(i, None);
            self.cluster.kill(i);
            self.start(i);
        }
    }

    /// The power goes, and everybody comes back at another address.
    pub(super) async fn move_everybody(&mut self) {
        if !self.is_well().await {
            return;
        }
        self.count("everybody at a new address");
        (0..3).for_each(|i| self.cluster.kill(i));
        (0..3).for_each(|i| self.cluster.move_elsewhere(i));
        (0..3).for_each(|i| self.start(i));
        self.registers.addresses.replace(self.cluster.addresses());
        let began = Instant::now();
        let there = until("they agree at their new addresses, or their time is over", async || {
            let agreed = self.cluster.set("moved", "v").await.is_ok();
            (agreed || began.elapsed() > LEAVES_IN).then_some(agreed)
        })
        .await;
        if !there {
            self.broken("managers at new addresses do not find each other");
        }
    }

    /// The first manager loses its disk, and is started as it was first: to found a cluster.
    pub(super) async fn wipe_the_founder(&mut self) {
        if !self.is_well().await {
            return;
        }
        self.count("the founder without its disk");
        self.cluster.kill(0);
        self.wipe(0);
        // The instances of the cluster would keep it from founding another one, too.
        self.cluster.set_manager_arguments(&["--adopt", "none"]);
        self.cluster.start(0);
        self.cluster.set_manager_arguments(&[]);
        if !leaves(|| self.cluster.manager_mut(0).ended().is_some()).await {
            self.broken("a founder that lost its disk founds another cluster");
        }
        self.begin_again(0).await;
    }

    /// What nobody could replicate is asked for, and listed.
    pub(super) async fn ask_too_much(&mut self) {
        self.count("hostile sizes");
        let client = short(&self.cluster);
        let large = "x".repeat(500 << 10);
        let text: Vec<String> =
            (0..30).map(|n| group(&format!("g{n}"), 1, "v1").replace("echo hi", &large)).collect();
        let asked = Cluster::commit_all_by(&client, &text).await;
        if asked.is_ok() {
            self.broken("fifteen megabytes were taken into the log");
        }
        let store = self.store.clone();
        let spec = |n: usize| {
            let tags = serde_json::json!({ "note": "y".repeat(n << 20) });
            serde_json::json!({ "Properties": {}, "Tags": tags, "Init": "", "Attachments": [] }).to_string()
        };
        for n in 1..4 {
            std::fs::write(store.join(format!("foreign-{n}.json")), spec(2 * n)).expect("a file");
        }
        self.kill_plugins();
        self.mended = Some(self.soon(1000, 8000));
    }

    /// What was listed for a while is gone again.
    pub(super) fn remove_what_is_too_large(&mut self) {
        let files = (1..4).map(|n| self.store.join(format!("foreign-{n}.json")));
        if files.filter(|path| std::fs::remove_file(path).is_ok()).count() > 0 {
            self.cluster.kill_plugins();
            self.cluster.start_plugins();
        }
    }

    /// Starts a manager as its operator would.
    pub(super) fn start(&mut self, i: usize) {
        if i == 0 && self.has_joined {
            let others = [self.cluster.address(1), self.cluster.address(2)].join(",");
            self.cluster.start_joining(0, &others);
        } else {
            self.cluster.start(i);
        }
    }

    fn broken(&mut self, what: &str) {
        self.violations.push(what.to_owned());
    }

    /// How long the cluster takes until it takes a write again, at most as long as one may wait for it.
    pub(super) async fn takes_writes_in(&mut self, began: Instant) {
        until("it takes writes again", async || {
            self.bring_back(true);
            short(&self.cluster)
                .call(async |c| {
                    let request =
                        pb::SetVariableRequest { key: GROUP.into(), value: "v".into(), ..Default::default() };
                    c.variables().set(request).await
                })
                .await
                .ok()
        })
        .await;
        self.writes_after = began.elapsed();
    }
}
