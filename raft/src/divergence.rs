//! Do replicas that applied the same entries have the same state? Raft takes it for granted; memory that
//! went bad, a log that was tampered with, or a defect in `State::apply` breaks it without a word.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use model::{NodeId, State};

use crate::codec;
use crate::published::Published;

/// A digest is kept of the state after every entry whose index is a multiple of this, so that replicas can
/// be compared though they never stand still.
const MILESTONE: u64 = 1000;
/// How many of them are kept: a follower may be some behind.
const KEPT: usize = 8;
/// How often a replica compares itself with the others.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

/// BLAKE3 over the written form of a state.
pub(crate) type Digest = [u8; 32];

/// The digests of one replica, by the index of the entry that they follow.
#[derive(Clone, Default)]
pub(crate) struct Digests(Arc<Mutex<BTreeMap<u64, Digest>>>);

/// What comparing this replica with others says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As far as can be told.
    Agreed,
    /// A majority agrees on another state than this one after that entry.
    Diverged { index: u64 },
    /// These differ from this one, which is not in the minority.
    Others { index: u64, nodes: Vec<NodeId> },
}

pub(crate) fn digest(state: &State) -> Digest {
    *blake3::hash(&codec::encode_state(state)).as_bytes()
}

impl Digests {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, Digest>> {
        self.0.lock().expect("nobody panics while holding the digests")
    }

    /// Hears of the state after an entry. `beside` runs the work where it delays nobody.
    pub(crate) fn applied(&self, index: u64, state: &State, beside: bool) {
        if !index.is_multiple_of(MILESTONE) {
            return;
        }
        // The copy shares its structure with the original.
        let (digests, state) = (self.clone(), state.clone());
        let work = move || {
            let digest = digest(&state);
            digests.keep(index, digest);
        };
        if beside { drop(tokio::task::spawn_blocking(work)) } else { work() }
    }

    fn keep(&self, index: u64, digest: Digest) {
        let mut kept = self.kept();
        kept.insert(index, digest);
        while kept.len() > KEPT {
            kept.pop_first();
        }
    }

    /// All that is kept, and the digest of the state as it is now. Takes milliseconds for a large one.
    pub(crate) fn with_latest(&self, published: &Published) -> BTreeMap<u64, Digest> {
        let mut all = self.kept().clone();
        all.entry(published.index).or_insert_with(|| digest(&published.state));
        all
    }
}

/// Compares what this replica has with what others answered, at the latest entry that tells anything.
/// `voters` is how many there are.
pub(crate) fn compare(
    own: &BTreeMap<u64, Digest>,
    others: &BTreeMap<NodeId, BTreeMap<u64, Digest>>,
    voters: usize,
) -> Verdict {
    for (index, digest) in own.iter().rev() {
        let at: Vec<(NodeId, Digest)> =
            others.iter().filter_map(|(node, theirs)| Some((*node, *theirs.get(index)?))).collect();
        let odd: Vec<(NodeId, Digest)> = at.iter().filter(|(_, other)| other != digest).copied().collect();
        if odd.is_empty() {
            if at.is_empty() {
                continue;
            }
            return Verdict::Agreed;
        }
        let agreeing = |digest: &Digest| odd.iter().filter(|(_, other)| other == digest).count();
        if odd.iter().any(|(_, other)| agreeing(other) * 2 > voters) {
            return Verdict::Diverged { index: *index };
        }
        return Verdict::Others { index: *index, nodes: odd.into_iter().map(|(node, _)| node).collect() };
    }
    Verdict::Agreed
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Arc;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use hyper_util::rt::TokioIo;
    use model::{Actor, Change, ClusterId, Command, RequestId, Timestamp};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio_stream::wrappers::TcpListenerStream;

    use super::*;
    use crate::store::{Batch, LOG, Store};
    use crate::{
        Application, Dial, Disk, Identity, JoinHandler, Joined, Line, MemoryDisk, PeerIdentity, Profile,
        Replica, Role, Sync,
    };

    /// Past every certificate.
    struct Plain;

    impl Dial for Plain {
        fn dial(&self, address: &str) -> Result<Line, String> {
            crate::line(
                address,
                tower::service_fn(async |uri: http::Uri| {
                    let address = uri.authority().map(ToString::to_string).unwrap_or_default();
                    tokio::net::TcpStream::connect(address).await.map(TokioIo::new)
                }),
            )
        }
    }

    struct NobodyJoins;

    impl JoinHandler for NobodyJoins {
        fn join(&self, _: Application, _: PeerIdentity) -> BoxFuture<'_, Result<Joined, (String, bool)>> {
            async { Err(("nobody joins here".into(), true)) }.boxed()
        }
    }

    /// A replica, and what stops its server when it is dropped.
    async fn start(
        node: u64,
        disk: &MemoryDisk,
        listener: &std::net::TcpListener,
    ) -> (Replica, oneshot::Sender<()>) {
        let disk = Disk::in_memory(disk, || format!("disk-{node}")).expect("it is free");
        let identity = Identity { cluster: ClusterId::new("c"), lineage: 1, node: NodeId(node) };
        let replica = Replica::start(disk, identity, Profile::Default, Sync::Inline, Arc::new(Plain))
            .await
            .expect("it starts");
        let listener = TcpListener::from_std(listener.try_clone().expect("a handle")).expect("a listener");
        let server = replica.peer_server(Arc::new(NobodyJoins));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .add_service(server)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped.map(drop));
        tokio::spawn(server);
        (replica, stop)
    }

    /// Writes a variable wherever it can be written.
    async fn write(replicas: &[Replica], key: &str) {
        let change = Change::SetVariable { key: key.into(), value: "as it was".into() };
        let command =
            Command { id: RequestId(crate::unique()), by: Actor("test".into()), at: Timestamp(1), change };
        let written = async {
            loop {
                for replica in replicas {
                    if matches!(*replica.watch_role().borrow(), Role::Leader { .. })
                        && replica.propose(&command, None).await.is_ok()
                    {
                        return replica.published().index;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        let deadline = Duration::from_secs(20);
        let index = tokio::time::timeout(deadline, written).await.expect("somebody leads");
        for replica in replicas {
            let mut states = replica.watch_state();
            let applied = states.wait_for(|published| published.index >= index);
            tokio::time::timeout(deadline, applied).await.expect("it is applied").expect("it runs");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_replica_whose_log_was_changed_behind_its_back_finds_itself_odd() {
        let disks: Vec<MemoryDisk> = (0..3).map(|_| MemoryDisk::default()).collect();
        let listen = |_| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.set_nonblocking(true).expect("a socket");
            listener
        };
        let listeners: Vec<std::net::TcpListener> = (0..3).map(listen).collect();
        let address = |at: usize| listeners[at].local_addr().expect("it is bound").to_string();
        let members: Vec<(NodeId, String)> = (0..3).map(|at| (NodeId(at as u64 + 1), address(at))).collect();
        let (mut replicas, mut servers) = (Vec::new(), Vec::new());
        for at in 0..3 {
            let (replica, server) = start(at as u64 + 1, &disks[at], &listeners[at]).await;
            replica.initialize_with(&members).await.expect("it is new");
            replicas.push(replica);
            servers.push(server);
        }
        write(&replicas, "first").await;
        for replica in &replicas {
            assert_eq!(replica.compare().await, Verdict::Agreed);
        }
        // One stops, and its log is changed.
        drop(servers.remove(2));
        replicas.remove(2).shutdown().await;
        disks[2].cut_power(|written| written);
        let store = disks[2].open().expect("it is free");
        let mut changed = Batch::default();
        let mut found = 0;
        let forge = &mut |key: &[u8], mut value: Vec<u8>| {
            if let Some(at) = value.windows(9).position(|part| part == b"as it was") {
                value[at] = b'A';
                found += 1;
                changed.put(LOG, key, value);
            }
            Ok(ControlFlow::Continue(()))
        };
        store.scan(LOG, &[], forge).expect("it is read");
        assert_eq!(found, 1);
        store.write(changed).and_then(|()| store.sync()).expect("it is written");
        disks[2].cut_power(|written| written);
        let (replica, _server) = start(3, &disks[2], &listeners[2]).await;
        replicas.push(replica);
        write(&replicas, "second").await;
        assert!(matches!(replicas[2].compare().await, Verdict::Diverged { .. }));
        for replica in &replicas[..2] {
            let verdict = replica.compare().await;
            assert!(
                matches!(&verdict, Verdict::Others { nodes, .. } if *nodes == [NodeId(3)]),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn the_minority_is_odd_and_nobody_else() {
        let at = |digests: &[(u64, u8)]| digests.iter().map(|(index, byte)| (*index, [*byte; 32])).collect();
        let others = |digests: &[(u64, &[(u64, u8)])]| {
            digests.iter().map(|(node, digests)| (NodeId(*node), at(digests))).collect()
        };
        let own: BTreeMap<u64, Digest> = at(&[(1000, 1), (1234, 2)]);
        for (told, verdict) in [
            (&[][..], Verdict::Agreed),
            (&[(2, &[(999, 9)][..]), (3, &[])], Verdict::Agreed),
            (&[(2, &[(1234, 2)]), (3, &[(1234, 2)])], Verdict::Agreed),
            (&[(2, &[(1234, 3)]), (3, &[(1234, 3)])], Verdict::Diverged { index: 1234 }),
            (&[(2, &[(1000, 3)]), (3, &[(1000, 3)])], Verdict::Diverged { index: 1000 }),
            (
                &[(2, &[(1234, 3)]), (3, &[(1234, 2)])],
                Verdict::Others { index: 1234, nodes: vec![NodeId(2)] },
            ),
            (&[(2, &[(1234, 3)])], Verdict::Others { index: 1234, nodes: vec![NodeId(2)] }),
            (
                &[(2, &[(1234, 3)]), (3, &[(1234, 4)])],
                Verdict::Others { index: 1234, nodes: vec![NodeId(2), NodeId(3)] },
            ),
        ] {
            assert_eq!(compare(&own, &others(told), 3), verdict, "{told:?}");
        }
    }

    #[test]
    fn the_latest_milestones_are_kept() {
        let digests = Digests::default();
        for index in 0..=20 * MILESTONE {
            digests.applied(index, &State::default(), false);
        }
        let kept: Vec<u64> = digests.kept().keys().copied().collect();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept.last(), Some(&(20 * MILESTONE)));
    }
}
