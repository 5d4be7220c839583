//! What goes wrong.

use std::time::Duration;

use model::NodeId;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::story::Story;

impl Story {
    /// One fault, as chance has it.
    pub(crate) async fn strike(
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
        match raft::between(0, 16) {
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
                cluster.cloud.lock().expect("the cloud").terminating = Some((leader, after));
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
                let group = &mut self.groups[at];
                let size = u64::from(group.usual);
                let size = raft::between(size / 2, size * 3 / 2) as u32;
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
                dead.push((leader, Instant::now() + Duration::from_millis(raft::between(50, 1200))));
                *healed_at = heal;
            }
            12 => {
                // What was planned before somebody changed their mind must not be done after it.
                self.count("a change of mind");
                let at = raft::between(0, self.groups.len() as u64 - 1) as usize;
                let before = self.groups[at].size;
                let more = before + self.groups[at].usual / 2;
                self.groups[at].size = more;
                self.groups[at].most = self.groups[at].most.max(more);
                self.declare(cluster, at).await;
                tokio::time::sleep(Duration::from_millis(raft::between(0, 60))).await;
                self.groups[at].size = before;
                self.groups[at].may_destroy += more - before;
                self.declare(cluster, at).await;
            }
            13 => {
                self.count("a new template");
                // What nobody may look at is not rolled: every member would wait for it to be listed.
                let at = raft::between(0, self.groups.len() as u64 - 2) as usize;
                self.groups[at].version += 1;
                // Every member is replaced once, also those that are made of the old one meanwhile, and the one that is
                // to take a slot over.
                self.groups[at].may_destroy += self.groups[at].most + 1;
                self.declare(cluster, at).await;
            }
            14 => {
                // The leader writes most, and then tells the others.
                self.count("a power cut in the middle of a write");
                cluster.doom_a_write(if raft::between(0, 1) == 0 { leader } else { any });
            }
            15 => {
                // Without waiting for the calls that are under way, as the worst of leaders would.
                self.count("the lead given away");
                let to = NodeId(((leader + 1) % n) as u64 + 1);
                if let Some(replica) = cluster.replica(leader).cloned() {
                    tokio::spawn(async move {
                        // Whoever does not lead, or finds nobody, goes on as it was.
                        let _ = replica.give_lead_to(to).await;
                    });
                }
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
}
