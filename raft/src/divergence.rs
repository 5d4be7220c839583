//! Compares the states of replicas after the same entries. Raft assumes that they are equal; faulty memory, a
//! changed log, or a bug in `State::apply` can silently break that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use model::{NodeId, State};

use crate::codec;
use crate::published::Published;

/// A digest of the state is kept after every entry whose index is a multiple of this, so that replicas can be
/// compared while they apply entries.
const MILESTONE: u64 = 1000;
/// How many digests are kept, for followers that lag.
const KEPT: usize = 8;
/// Interval of the comparisons.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

/// BLAKE3 of the encoded state.
pub(crate) type Digest = [u8; 32];

/// The digests of one replica, by the index of the entry.
#[derive(Clone, Default)]
pub(crate) struct Digests(Arc<Mutex<BTreeMap<u64, Digest>>>);

/// The result of a comparison with other replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No difference is known.
    Agreed,
    /// A majority has another state than this replica after that entry.
    Diverged { index: u64 },
    /// These differ from this replica, which is not in the minority.
    Others { index: u64, nodes: Vec<NodeId> },
}

pub(crate) fn digest(state: &State) -> Digest {
    *blake3::hash(&codec::encode_state(state)).as_bytes()
}

impl Digests {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, Digest>> {
        self.0.lock().expect("nobody panics while holding the digests")
    }

    /// Records the state after an entry. `beside` runs the hashing on another thread.
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

    /// All kept digests, and that of the current state. Takes milliseconds for a large state.
    pub(crate) fn with_latest(&self, published: &Published) -> BTreeMap<u64, Digest> {
        let mut all = self.kept().clone();
        all.entry(published.index.0).or_insert_with(|| digest(&published.state));
        all
    }
}

/// Compares the digests of this replica with those of others, at the latest common entry. `voters` is their
/// number.
pub(crate) fn compare(
    own: &BTreeMap<u64, Digest>,
    others: &BTreeMap<NodeId, BTreeMap<u64, Digest>>,
    voters: usize,
) -> Verdict {
    for (index, digest) in own.iter().rev() {
        let at: Vec<(NodeId, Digest)> =
            others.iter().filter_map(|(node, theirs)| Some((*node, *theirs.get(index)?))).collect();
        let differing: Vec<(NodeId, Digest)> =
            at.iter().filter(|(_, other)| other != digest).copied().collect();
        if differing.is_empty() {
            if at.is_empty() {
                continue;
            }
            return Verdict::Agreed;
        }
        let agreeing = |digest: &Digest| differing.iter().filter(|(_, other)| other == digest).count();
        if differing.iter().any(|(_, other)| agreeing(other) * 2 > voters) {
            return Verdict::Diverged { index: *index };
        }
        return Verdict::Others {
            index: *index,
            nodes: differing.into_iter().map(|(node, _)| node).collect(),
        };
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
