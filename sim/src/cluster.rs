//! Some managers in one thread, with the power switch of each.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use manager::{Clock, reconcile_while_leading};
use model::command::Manager;
use model::{ClusterId, NodeId, Timestamp};
use raft::{Disk, Identity, JoinHandler, Joined, MemoryDisk, Profile, Replica, Role, Sync};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cloud::{Cloud, Sight};
use crate::net::{Net, answer};

pub(crate) const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

/// One manager: what survives it, and what is running of it.
struct Node {
    disk: MemoryDisk,
    life: u64,
    running: Option<Running>,
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
    fn join(&self, _: Manager) -> BoxFuture<'_, Result<Joined, (String, bool)>> {
        async { Err(("nobody joins here".into(), true)) }.boxed()
    }
}

fn address(node: usize) -> String {
    format!("m{node}:1")
}

impl Cluster {
    pub(crate) async fn of(n: usize) -> Self {
        let new = |_| Node { disk: MemoryDisk::default(), life: 0, running: None };
        let nodes: Vec<Node> = (0..n).map(new).collect();
        let net = Net::of(nodes.iter().map(|node| node.disk.clone()).collect());
        let mut cluster =
            Cluster { nodes, net, cloud: Arc::default(), clock: Clock::simulated(Timestamp(1_000_000_000)) };
        for node in 0..n {
            cluster.start(node).await;
        }
        cluster
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A manager's clock: up to a minute ahead of the others', and another in every life of it.
    fn wrong_clock(&self) -> Clock {
        Clock::simulated(Timestamp(self.now().0 + raft::between(0, 60_000)))
    }

    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        self.nodes[node].running.is_some()
    }

    pub(crate) async fn start(&mut self, node: usize) {
        if self.runs(node) {
            return;
        }
        let members: Vec<(NodeId, String)> =
            (0..self.nodes.len()).map(|it| (NodeId(it as u64 + 1), address(it))).collect();
        let life = self.nodes[node].life;
        let disk = Disk::in_memory(&self.nodes[node].disk, || format!("disk-{node}")).expect("it is free");
        let identity =
            Identity { cluster: ClusterId::new(CLUSTER), lineage: 1, node: NodeId(node as u64 + 1) };
        disk.bind(&identity).expect("the disk works");
        let dial = self.net.dial_from(node, life);
        let replica = Replica::start_with(disk, identity, Profile::Default, Sync::Simulated, dial)
            .await
            .expect("what is on the disk can be read");
        let server = replica.peer_server(Arc::new(NobodyJoins));
        self.net.serve(&address(node), node, life, answer(server));
        replica.initialize_with(&members).await.expect("it is new, or has a log");
        let sight = Sight::new(self.cloud.clone(), node);
        let work =
            tokio::spawn(reconcile_while_leading(replica.clone(), Arc::new(sight), self.wrong_clock()));
        let role = replica.watch_role();
        self.nodes[node].running = Some(Running { replica, role, work });
    }

    /// The power goes: what was not synced may be lost, and nothing is said to anybody.
    pub(crate) fn crash(&mut self, node: usize) {
        let Some(running) = self.nodes[node].running.take() else { return };
        self.nodes[node].life += 1;
        self.net.kill(&address(node));
        self.nodes[node].disk.cut_power(|pending| raft::between(0, pending as u64) as usize);
        running.work.abort();
        // It can neither write nor speak any more; this only ends its tasks.
        tokio::spawn(async move { running.replica.shutdown().await });
        self.cloud.lock().expect("nobody panics while holding the cloud").frozen.retain(|it| *it != node);
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
