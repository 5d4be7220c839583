//! Some managers in one thread, with the power switch of each.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use manager::{Clock, reconcile_while_leading};
use model::{ClusterId, NodeId, Timestamp};
use raft::{
    Application, Disk, Identity, JoinHandler, Joined, MemoryDisk, PeerIdentity, Profile, Replica, Role, Sync,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cloud::Cloud;
use crate::moment::Moment;
use crate::net::{Net, answer};
use crate::sight::Sight;

pub(crate) const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

/// In milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

/// One manager: what survives it, and what is running of it.
struct Node {
    disk: MemoryDisk,
    lifecycle: u64,
    running: Option<Running>,
    /// A copy of its disk that may be put in the place of it.
    copy: Option<MemoryDisk>,
    /// It has found out that its disk went back in time: it takes no part any more.
    is_out: bool,
}

struct Running {
    replica: Replica,
    role: watch::Receiver<Role>,
    work: JoinHandle<()>,
}

/// All of them, and the world they live in.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    pub(crate) net: Net,
    pub(crate) cloud: Arc<Mutex<Cloud>>,
    clock: Clock,
}

struct NobodyJoins;

impl JoinHandler for NobodyJoins {
    fn join(&self, _: Application, _: PeerIdentity) -> BoxFuture<'_, Result<Joined, (String, bool)>> {
        async { Err(("nobody joins here".into(), true)) }.boxed()
    }
}

fn address(node: usize) -> String {
    format!("m{node}:1")
}

impl Cluster {
    pub(crate) async fn of(n: usize, dies_at: Option<Moment>) -> Self {
        let new = |at| {
            let disk = MemoryDisk::default();
            if let Some(Moment::Disk { node, operation }) = dies_at
                && node == at
            {
                disk.fail_after(operation);
            }
            Node { disk, lifecycle: 0, running: None, copy: None, is_out: false }
        };
        let nodes: Vec<Node> = (0..n).map(new).collect();
        let net = Net::of(nodes.iter().map(|node| node.disk.clone()).collect());
        let mut cloud = Cloud::default();
        if let Some(Moment::Call(moment)) = dies_at {
            cloud.dies_at = Some(moment);
        }
        let cloud = Arc::new(Mutex::new(cloud));
        let mut cluster = Cluster { nodes, net, cloud, clock: Clock::simulated(Timestamp(1_000_000_000)) };
        for node in 0..n {
            cluster.start(node).await;
        }
        cluster
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A manager's clock: up to a minute ahead of the others', or days ahead or behind, and another in every life of it.
    fn wrong_clock(&self) -> Clock {
        let now = self.now().0;
        let time = match raft::between(0, 11) {
            0 => now + raft::between(1, 30) * DAY,
            1 => now - raft::between(1, 10) * DAY,
            _ => now + raft::between(0, 60_000),
        };
        Clock::simulated(Timestamp(time))
    }

    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        self.nodes[node].running.is_some()
    }

    pub(crate) async fn start(&mut self, node: usize) {
        if self.runs(node) || self.nodes[node].is_out {
            return;
        }
        let members: Vec<(NodeId, String)> =
            (0..self.nodes.len()).map(|it| (NodeId(it as u64 + 1), address(it))).collect();
        let lifecycle = self.nodes[node].lifecycle;
        let replica = loop {
            match self.replica_on(node, lifecycle).await {
                Ok(replica) => break replica,
                // The power went as it started: it starts once more.
                Err(_) if self.nodes[node].disk.has_failed() => {}
                Err(error) => panic!("what is on the disk can be read: {error}"),
            }
        };
        let server = replica.peer_server(Arc::new(NobodyJoins));
        self.net.serve(&address(node), node, lifecycle, answer(server));
        replica.initialize_with(&members).await.expect("it is new, or has a log");
        let sight = Sight::new(self.cloud.clone(), node);
        let work =
            tokio::spawn(reconcile_while_leading(replica.clone(), Arc::new(sight), self.wrong_clock()));
        let role = replica.watch_role();
        self.nodes[node].running = Some(Running { replica, role, work });
    }

    async fn replica_on(&self, node: usize, lifecycle: u64) -> Result<Replica, String> {
        let disk = Disk::in_memory(&self.nodes[node].disk, || format!("disk-{node}"));
        let disk = disk.map_err(|error| error.to_string())?;
        let identity =
            Identity { cluster: ClusterId::new(CLUSTER), lineage: 1, node: NodeId(node as u64 + 1) };
        disk.bind(&identity, &[]).map_err(|error| error.to_string())?;
        let dial = self.net.dial_from(node, lifecycle);
        let started = Replica::start(disk, identity, Profile::Default, Sync::Simulated, dial).await;
        started.map_err(|error| error.to_string())
    }

    /// The power goes: what was not synced may be lost, and nothing is said to anybody.
    pub(crate) fn crash(&mut self, node: usize) {
        let Some(running) = self.nodes[node].running.take() else { return };
        self.nodes[node].lifecycle += 1;
        self.net.kill(&address(node));
        self.nodes[node].disk.cut_power(|pending| raft::between(0, pending as u64) as usize);
        running.work.abort();
        // It can neither write nor speak any more; this only ends its tasks.
        tokio::spawn(async move { running.replica.shutdown().await });
        self.cloud.lock().expect("nobody panics while holding the cloud").frozen.retain(|it| *it != node);
    }

    /// Keeps a copy of a disk.
    pub(crate) fn copy_disk(&mut self, node: usize) {
        self.nodes[node].copy = Some(self.nodes[node].disk.copy());
    }

    /// Starts a manager on the copy of its disk that was kept, if one was. False if not.
    pub(crate) async fn set_back(&mut self, node: usize) -> bool {
        let Some(copy) = self.nodes[node].copy.take() else { return false };
        self.crash(node);
        self.nodes[node].disk.set_back(&copy);
        self.start(node).await;
        true
    }

    /// Stops those who have found out that their disk went back in time, and gives what they say.
    pub(crate) fn stop_who_went_back(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        for node in 0..self.size() {
            let out = |replica: &Replica| {
                replica.went_back().now_or_never().or_else(|| replica.expelled().now_or_never())
            };
            if let Some(why) = self.replica(node).and_then(out) {
                said.push(format!("m{node} stops: {why}"));
                self.crash(node);
                self.nodes[node].is_out = true;
            }
        }
        said
    }

    /// Whether everybody runs who ever will, and nobody has gone for good.
    pub(crate) fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| node.running.is_some())
    }

    pub(crate) fn is_out(&self, node: usize) -> bool {
        self.nodes[node].is_out
    }

    /// Those whose power went by itself, in the middle of a write.
    pub(crate) fn failed_disks(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].disk.has_failed()).collect()
    }

    /// Nobody's power is to go any more; who lost it already starts again.
    pub(crate) async fn mend(&mut self) {
        for node in &self.nodes {
            node.disk.hold();
        }
        self.net.spare_voters();
        for node in self.failed_disks().into_iter().chain(self.net.died()) {
            self.crash(node);
        }
        self.net.heal();
        for node in 0..self.size() {
            self.start(node).await;
        }
    }

    /// Lets the power of a manager go right before one of its next writes to the disk.
    pub(crate) fn doom_a_write(&self, node: usize) {
        self.nodes[node].disk.fail_after(raft::between(0, 40));
    }

    /// Every moment so far at which a manager could have died.
    pub(crate) fn moments(&self) -> Vec<Moment> {
        let disks = self.nodes.iter().enumerate().flat_map(|(node, it)| {
            (0..it.disk.operations()).map(move |operation| Moment::Disk { node, operation })
        });
        let calls = self.cloud.lock().expect("nobody panics while holding the cloud").moments;
        disks.chain((0..calls).map(Moment::Call)).collect()
    }

    pub(crate) fn replica(&self, node: usize) -> Option<&Replica> {
        self.nodes[node].running.as_ref().map(|running| &running.replica)
    }

    /// Whoever believes to lead, in the highest term.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |node: &usize| match *self.nodes[*node].running.as_ref()?.role.borrow() {
            Role::Leader { term } => Some((term, *node)),
            Role::Other { .. } => None,
        };
        (0..self.nodes.len()).filter_map(|node| leads(&node)).max().map(|(_, node)| node)
    }
}
