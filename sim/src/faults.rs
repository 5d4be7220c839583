//! What goes wrong.

use std::sync::MutexGuard;
use std::time::Duration;

use model::{GroupId, NodeId};
use tokio::time::Instant;

use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::damage::Damage;
use crate::judge::Group;
use crate::story::Story;

/// How long after a group was declared again its members may not be known yet, for their plugin shows them late.
const FORGOTTEN: Duration = Duration::from_secs(60);

impl Story {
    /// One fault, as chance has it.
    pub(crate) async fn strike(&mut self, cluster: &mut Cluster, damage: &mut Damage) {
        let n = cluster.size();
        let any = raft::between(0, n as u64 - 1) as usize;
        let leader = cluster.leader().unwrap_or(any);
        let back = soon(200, 10_000);
        let heal = soon(1000, 20_000);
        let mut fault = Fault { story: self, cluster, damage, back, heal };
        match raft::between(0, 22) {
            0 => fault.kill("a manager killed", any),
            1 => fault.kill("the leader killed", leader),
            2 => fault.doom_a_call(leader),
            3 => fault.cut_off(leader),
            4 => fault.cut_one_way(any, (any + 1) % n),
            5 => fault.cut_voice(leader),
            6 => fault.freeze(leader),
            7 => fault.slow_network(),
            8 => fault.trouble_provider(),
            9 => fault.lose_instances(5),
            10 => fault.scale().await,
            11 => fault.doom_a_vote(leader, (leader + 1) % n),
            12 => fault.change_a_mind().await,
            13 => fault.change_template().await,
            14 => fault.doom_a_write(leader, any),
            15 => fault.give_lead_away(leader, (leader + 1) % n),
            16 => fault.lose_tags(),
            17 => fault.hide_a_pet(),
            18 => fault.set_a_disk_back(leader, (leader + 1) % n).await,
            19 => fault.refuse_drains(),
            20 => fault.confuse_names(),
            21 => fault.free_a_group().await,
            _ => fault.kill_everybody(),
        }
    }
}

/// A moment between so many milliseconds from now.
fn soon(low: u64, high: u64) -> Instant {
    Instant::now() + Duration::from_millis(raft::between(low, high))
}

/// Draws one of the first `n` groups.
fn any_group(n: usize) -> usize {
    raft::between(0, n as u64 - 1) as usize
}

/// What one fault may hit.
struct Fault<'a> {
    story: &'a mut Story,
    cluster: &'a mut Cluster,
    damage: &'a mut Damage,
    /// When a manager that is killed starts again.
    back: Instant,
    /// When whatever else is broken is well again.
    heal: Instant,
}

impl Fault<'_> {
    fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.cluster.cloud.lock().expect("the cloud")
    }

    fn kill(&mut self, name: &'static str, node: usize) {
        self.story.count(name);
        self.cluster.crash(node);
        self.damage.dead.push((node, self.back));
    }

    fn kill_everybody(&mut self) {
        self.story.count("everybody killed");
        for node in 0..self.cluster.size() {
            self.cluster.crash(node);
            self.damage.dead.push((node, soon(100, 3000)));
        }
    }

    /// An older copy of a follower's disk is put in its place, while the others know what it agreed to. It must find out
    /// and take no part.
    async fn set_a_disk_back(&mut self, leader: usize, follower: usize) {
        let calm = self.damage.is_over() && self.cluster.is_whole() && self.cloud().terminating.is_none();
        if !calm || self.cluster.leader() != Some(leader) || !self.cluster.set_back(follower).await {
            return;
        }
        self.story.count("a disk set back");
        self.story.tell(format!("the disk of m{follower} is set back"));
        let until = Instant::now() + Duration::from_secs(10);
        while !self.cluster.is_out(follower) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.cluster.stop_who_went_back().iter().for_each(|it| self.story.tell(it));
        }
    }

    fn doom_a_call(&mut self, leader: usize) {
        let after = raft::between(0, 1) == 1;
        let moment = if after { "after" } else { "before" };
        self.story.tell(format!("m{leader} is to die {moment} its next call"));
        self.cloud().terminating = Some((leader, after));
        self.cloud().lose_one();
    }

    /// Two who cannot hear each other, and a voter between them that forgets.
    fn doom_a_vote(&mut self, leader: usize, other: usize) {
        self.story.count("a voter dies as it votes");
        self.cluster.net.cut(leader, other);
        self.cluster.net.cut(other, leader);
        self.cluster.net.doom_a_voter();
        self.cluster.crash(leader);
        self.damage.dead.push((leader, soon(50, 1200)));
        self.damage.healed_at = self.heal;
    }

    /// The leader writes most, and then tells the others.
    fn doom_a_write(&mut self, leader: usize, any: usize) {
        self.story.count("a power cut in the middle of a write");
        self.cluster.doom_a_write(if raft::between(0, 1) == 0 { leader } else { any });
    }

    fn cut_off(&mut self, leader: usize) {
        self.story.count("the leader cut off");
        self.isolate(leader);
        self.damage.healed_at = self.heal;
    }

    fn cut_one_way(&mut self, from: usize, to: usize) {
        self.story.count("a one-way cut");
        self.cluster.net.cut(from, to);
        self.damage.healed_at = self.heal;
    }

    fn cut_voice(&mut self, leader: usize) {
        self.story.count("the leader hears and is not heard");
        for other in self.others(leader) {
            self.cluster.net.cut(leader, other);
        }
        self.damage.healed_at = self.heal;
    }

    fn freeze(&mut self, leader: usize) {
        self.story.count("the leader frozen");
        self.isolate(leader);
        self.cloud().frozen.push(leader);
        self.damage.healed_at = self.heal;
    }

    fn isolate(&self, node: usize) {
        for other in self.others(node) {
            self.cluster.net.cut(node, other);
            self.cluster.net.cut(other, node);
        }
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.cluster.size()).filter(move |it| *it != node)
    }

    fn slow_network(&mut self) {
        self.story.count("a slow network");
        self.cluster.net.slow(raft::between(20, 300));
        self.damage.healed_at = self.heal;
    }

    fn trouble_provider(&mut self) {
        self.story.count("provider trouble");
        self.cloud().trouble = raft::between(10, 60);
        self.lose_instances(8);
        self.damage.healed_at = self.heal;
    }

    /// The tag service of the provider is out: every instance is listed, and none with its tags.
    fn lose_tags(&mut self) {
        if self.is_forgotten() {
            return;
        }
        self.story.count("tags lost");
        self.cloud().tags_lost = true;
        self.damage.healed_at = self.heal;
    }

    /// Whoever is to go stays until its flavor lets it go, or an operator has waited for it.
    fn refuse_drains(&mut self) {
        self.story.count("drains refused");
        self.cloud().drains_refused = true;
        self.damage.healed_at = soon(5000, 90_000);
    }

    /// A plugin lists all that it has under one name, whatever they are tagged with.
    fn confuse_names(&mut self) {
        self.story.count("all listed under one name");
        self.cloud().one_name = Some("pet-000".into());
        self.damage.healed_at = soon(1000, 40_000);
    }

    /// Nobody manages a group for a while: its instances stay, and are its members again when it is declared. Some were
    /// made right before, and their plugin may show them all under one name.
    async fn free_a_group(&mut self) {
        let at = any_group(2);
        // Nobody remembers its members then: only their tags tell whose they are.
        let shown =
            !self.cloud().tags_lost && self.cloud().hidden.values().all(|until| *until < Instant::now());
        if !shown || !self.rests(at) {
            return;
        }
        if raft::between(0, 1) == 0 {
            let more = self.story.groups[at].size + raft::between(1, 4) as u32;
            resize(&mut self.story.groups[at], more);
            self.story.declare(self.cluster, at).await;
            let until = soon(10_000, 10_000);
            while !self.rests(at) {
                if Instant::now() > until {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.story.count("a group freed, and declared again");
        self.story.free(self.cluster, &GroupId::new(self.story.groups[at].name)).await;
        tokio::time::sleep(Duration::from_millis(raft::between(0, 5000))).await;
        if raft::between(0, 1) == 0 {
            self.confuse_names();
        }
        self.story.declare(self.cluster, at).await;
        self.cloud().freed = Some(Instant::now());
    }

    /// Whether the members of a group that was declared again may not be known yet. What it does not want any more then,
    /// stays.
    fn is_forgotten(&self) -> bool {
        let waits = |state: &model::State| state.groups.values().any(|it| it.declared_again.is_some());
        let leader = self.cluster.leader().and_then(|leader| self.cluster.replica(leader));
        self.cloud().freed.is_some_and(|at| at.elapsed() < FORGOTTEN)
            || leader.is_some_and(|it| waits(&it.published().state))
    }

    /// Whether the leader has nothing to do for a group. One of the level before does not know whether a group was
    /// there before, so nobody frees one then.
    fn rests(&self, at: usize) -> bool {
        let group = &self.story.groups[at];
        let Some(replica) = self.cluster.leader().and_then(|leader| self.cluster.replica(leader)) else {
            return false;
        };
        let state = replica.published().state;
        let rests = |it: &model::state::GroupState| {
            it.intents.is_empty() && it.outdated().count() == 0 && it.running() == group.size as usize
        };
        state.level >= 2 && state.group(&GroupId::new(group.name)).is_some_and(|it| rests(it))
    }

    /// It is replaced if that lasts, and must not be destroyed when it is listed again.
    fn hide_a_pet(&mut self) {
        self.story.count("one with a name hidden");
        self.cloud().hide_a_pet(soon(5000, 70_000));
    }

    fn lose_instances(&self, most: u64) {
        for _ in 0..raft::between(1, most) {
            self.cloud().lose_one();
        }
    }

    async fn scale(&mut self) {
        let at = any_group(self.story.groups.len());
        let forgotten = self.is_forgotten();
        let group = &mut self.story.groups[at];
        let usual = u64::from(group.usual);
        let size = raft::between(usual / 2, usual * 3 / 2) as u32;
        if forgotten && size < group.size {
            return;
        }
        resize(group, size);
        let name = group.name;
        self.story.tell(format!("{name} is to have {size} members"));
        self.story.count("a group scaled");
        self.story.declare(self.cluster, at).await;
    }

    /// What was planned before somebody changed their mind must not be done after it.
    async fn change_a_mind(&mut self) {
        if self.is_forgotten() {
            return;
        }
        self.story.count("a change of mind");
        let at = any_group(self.story.groups.len());
        let before = self.story.groups[at].size;
        let more = before + self.story.groups[at].usual / 2;
        resize(&mut self.story.groups[at], more);
        self.story.declare(self.cluster, at).await;
        tokio::time::sleep(Duration::from_millis(raft::between(0, 60))).await;
        resize(&mut self.story.groups[at], before);
        self.story.declare(self.cluster, at).await;
    }

    async fn change_template(&mut self) {
        self.story.count("a new template");
        // What nobody may look at is not rolled: every member would wait for it to be listed.
        let at = any_group(self.story.groups.len() - 1);
        // Programs of the level before compare ids without their plugins.
        let may_move = !self.story.begins_old();
        let group = &mut self.story.groups[at];
        group.changes(may_move);
        // Every member is replaced once, also those that are made of the old one meanwhile, and the one that is
        // to take a slot over.
        group.may_destroy += group.most + group.may().surge as u32;
        self.story.declare(self.cluster, at).await;
    }

    /// Without waiting for the calls that are under way, as the worst of leaders would.
    fn give_lead_away(&mut self, leader: usize, other: usize) {
        self.story.count("the lead given away");
        let to = NodeId(other as u64 + 1);
        if let Some(replica) = self.cluster.replica(leader).cloned() {
            tokio::spawn(async move {
                // Whoever does not lead, or finds nobody, goes on as it was.
                let _ = replica.give_lead_to(to).await;
            });
        }
    }
}

/// Another size is wanted; those that are too many may be destroyed.
fn resize(group: &mut Group, size: u32) {
    group.may_destroy += group.size.saturating_sub(size);
    group.size = size;
    group.most = group.most.max(size);
}
