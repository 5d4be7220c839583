//! A replica of the state of the cluster: propose, read, watch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use model::event::Event;
use model::failpoints::{Protection, is_left_out};
use model::{Answer, Command, NodeId, Term};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::impls::{BasicNode, ProgressResponder};
use openraft::{Instant as _, ReadPolicy, ServerState};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::agreed::Agreed;
use crate::disk::Disk;
use crate::divergence::{self, Digests, Verdict};
use crate::error::Error;
use crate::line::Dial;
use crate::log_store::{LogStore, Sync};
use crate::machine::{History, Machine, Raft, Readers};
use crate::peers::{self, Heard, Peers};
use crate::types::Types;
use crate::wire::LARGEST_ENTRY;
use crate::{Identity, Profile, Published, codec};

/// How long a read waits for an acknowledgement that openraft believed to have.
const CONFIRMED_IN: Duration = Duration::from_secs(2);

/// A member that has answered within this time is reachable.
const FRESH: Duration = Duration::from_secs(2);

/// The metrics of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaMetrics {
    pub role: Role,
    /// The last entry of its log, and the last that its snapshot covers.
    pub last: u64,
    pub snapshot: u64,
    pub voters: usize,
    pub learners: usize,
    /// On the leader, the number of reachable voters including itself; otherwise 0.
    pub reached: usize,
}

/// Whether this replica is the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Leader { term: Term },
    Other { term: Term, leader: Option<NodeId> },
}

/// A running replica.
#[derive(Clone)]
pub struct Replica {
    pub(crate) raft: Raft,
    identity: Identity,
    published: watch::Receiver<Published>,
    declared: watch::Receiver<Published>,
    role: watch::Receiver<Role>,
    failure: watch::Receiver<Option<String>>,
    /// The last term in which this replica transferred leadership.
    pub(crate) given_away: Arc<AtomicU64>,
    history: History,
    /// How long after a confirmation by a majority this replica may act as the leader.
    pub(crate) lease: Duration,
    pub(crate) votes_from: Instant,
    patience: Duration,
    digests: Digests,
    dial: Arc<dyn Dial>,
    open: Weak<()>,
    sync_seconds: Histogram,
    /// The time of the last heartbeat of a leader.
    heard: Arc<Mutex<Option<Instant>>>,
    pub(crate) peers: Heard,
}

impl Replica {
    /// Starts the replica, which connects to its peers by `dial`, and replays its log.
    pub async fn start(
        disk: Disk,
        identity: Identity,
        profile: Profile,
        sync: Sync,
        dial: Arc<dyn Dial>,
    ) -> Result<Self, Error> {
        let stopped = |error: &dyn std::fmt::Display| Error::Fatal(error.to_string());
        let config = profile.config(&identity).validate().map_err(|error| stopped(&error))?;
        let digests = Digests::default();
        let open = disk.db.is_open();
        let (machine, readers) =
            Machine::open(disk.db.clone(), digests.clone()).map_err(|error| stopped(&error))?;
        let log = LogStore::open(disk.db, sync).map_err(|error| stopped(&error))?;
        let sync_seconds = log.sync_seconds();
        let agreed = Agreed::of_this(identity.node, log.last_index(), log.synced_index());
        let known = readers.declared.clone();
        let heard = Heard::nothing(agreed);
        let network = Peers::new(identity.clone(), dial.clone(), known, heard.clone());
        let raft = Raft::new(identity.node.0, Arc::new(config), network, log, machine)
            .await
            .map_err(|error| stopped(&error))?;
        let (role, failure) = (follow_role(&raft, identity.node), follow_failure(&raft));
        let Readers { published, declared, history } = readers;
        let lease = profile.lease();
        let votes_from = Instant::now() + lease;
        Ok(Self {
            raft,
            identity,
            published,
            declared,
            role,
            failure,
            given_away: Arc::default(),
            history,
            lease,
            votes_from,
            patience: profile.patience(),
            digests,
            dial,
            open,
            sync_seconds,
            heard: Arc::default(),
            peers: heard,
        })
    }

    /// Forms a cluster of one; does nothing if the replica has a log.
    pub async fn initialize(&self, address: &str) -> Result<(), Error> {
        self.initialize_with(&[(self.identity.node, address.to_owned())]).await
    }

    /// Forms a cluster of several, each of which must be called the same; does nothing if the replica has a
    /// log.
    pub async fn initialize_with(&self, members: &[(NodeId, String)]) -> Result<(), Error> {
        if self.raft.is_initialized().await.map_err(fatal)? {
            return Ok(());
        }
        let members: BTreeMap<u64, BasicNode> =
            members.iter().map(|(id, address)| (id.0, BasicNode::new(address))).collect();
        self.raft.initialize(members).await.map_err(|error| Error::Fatal(error.to_string()))
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Proposes a command and waits until it is applied here. With a `term`, it is written only
    /// if this replica still leads in that term.
    ///
    /// After `Unavailable`, it may be repeated with the same request id: the state keeps the first answer.
    pub async fn propose(&self, command: &Command, term: Option<Term>) -> Result<Answer, Error> {
        let (responder, answer) = ProgressResponder::complete_only();
        let encoded = codec::encode_command(command, self.published.borrow().state.level);
        if encoded.0.len() > LARGEST_ENTRY && !is_left_out(Protection::TooLarge) {
            return Err(Error::TooLarge { bytes: encoded.0.len(), most: LARGEST_ENTRY });
        }
        let mut write = self.raft.write(encoded).responder(responder);
        if let Some(term) = term {
            write = write.with_leader(term.0);
        }
        write.await.map_err(fatal)?;
        match answer.await {
            Ok(Ok(response)) => {
                response.data.ok_or_else(|| Error::Fatal("unexpected response to a command (a bug)".into()))
            }
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => Err(Error::NotLeader {
                leader: forward
                    .leader_id
                    .filter(|leader| *leader != self.identity.node.0)
                    .zip(forward.leader_node)
                    .map(|(id, node)| (NodeId(id), node.addr)),
            }),
            Ok(Err(error)) => Err(Error::Unavailable(error.to_string())),
            Err(_) => match self.raft.metrics().borrow_watched().running_state.clone() {
                Err(fatal) => Err(Error::Fatal(fatal.to_string())),
                Ok(()) => Err(Error::Unavailable("the leader changed meanwhile".into())),
            },
        }
    }

    /// Waits until this replica has applied everything that was committed before the call. Only the leader
    /// can.
    pub async fn read(&self) -> Result<Published, Error> {
        let (asked, term) = (Instant::now(), self.leads_in());
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => {
                // openraft may have credited a response to a later request: our own record must agree.
                let confirmed = async {
                    loop {
                        let changed = self.peers.acks.changed();
                        if term.is_some_and(|term| self.followed_since(term, asked)) {
                            return;
                        }
                        changed.await;
                    }
                };
                match tokio::time::timeout(CONFIRMED_IN, confirmed).await {
                    Ok(()) => Ok(self.published()),
                    Err(_) => Err(Error::Unavailable("no majority confirms this leader".into())),
                }
            }
            Err(RaftError::APIError(openraft::errors::LinearizableReadError::ForwardToLeader(forward))) => {
                Err(Error::NotLeader {
                    leader: forward
                        .leader_id
                        .filter(|leader| *leader != self.identity.node.0)
                        .zip(forward.leader_node)
                        .map(|(id, node)| (NodeId(id), node.addr)),
                })
            }
            Err(RaftError::APIError(error)) => Err(Error::Unavailable(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(Error::Fatal(error.to_string())),
        }
    }

    /// The current state of this replica, which may lag.
    pub fn published(&self) -> Published {
        self.published.borrow().clone()
    }

    /// The state after every batch.
    pub fn watch_state(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// The state after every batch that changed a group or a manager.
    pub fn watch_declared(&self) -> watch::Receiver<Published> {
        self.declared.clone()
    }

    /// The retained events, and a subscription that continues them without a gap.
    pub fn events(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        self.history.follow()
    }

    /// The role, at every change. Ends with the replica.
    pub fn watch_role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Waits until this replica has failed, as it does when its disk fails, and returns the reason.
    /// Everything that it has acknowledged is on its disk.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "it stopped for an unknown reason".into(),
        }
    }

    /// Waits until this manager is no longer a member: it has applied its removal, and its vote is no longer
    /// needed; or a peer has rejected it. Returns the reason.
    pub async fn expelled(&self) -> String {
        let me = self.identity.node;
        let mut declared = self.watch_declared();
        let applied = async {
            let removed = |published: &Published| published.state.removed.contains_key(&me);
            if declared.wait_for(removed).await.is_err() {
                std::future::pending::<()>().await;
            }
            let mut metrics = self.raft.server_metrics();
            // The removal is recorded first, and the others cannot complete it without a vote that still
            // counts.
            while self.votes(me) {
                if metrics.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            () = applied => format!("manager {me} was removed from the cluster"),
            why = self.peers.expelled.reason() => why,
        }
    }

    /// Waits until this replica lacks what it has acknowledged, and returns the reason.
    pub async fn went_back(&self) -> String {
        self.peers.agreed.went_back().await
    }

    /// Compares this replica with the others periodically, and returns the reason when it diverges from a
    /// majority of the voters.
    pub async fn diverged(&self) -> String {
        let mut known = Verdict::Agreed;
        loop {
            tokio::time::sleep(divergence::EVERY).await;
            let verdict = self.compare().await;
            match &verdict {
                Verdict::Diverged { index } => {
                    return format!(
                        "its state after log entry {index} differs from that of a majority of the managers"
                    );
                }
                Verdict::Others { index, nodes } if known != verdict => {
                    tracing::error!(
                        index,
                        ?nodes,
                        "replicas diverge after the same log entry; these are in the minority"
                    );
                }
                Verdict::Others { .. } | Verdict::Agreed => {}
            }
            known = verdict;
        }
    }

    pub(crate) async fn compare(&self) -> Verdict {
        let members = self.members();
        // Voters only: a new learner must not outvote them.
        let peers = members.iter().filter(|member| member.voter && member.node != self.identity.node);
        let asked = peers.map(async |member| {
            let theirs = peers::digests(&*self.dial, &self.identity, member.node, &member.address).await;
            Some((member.node, theirs.inspect_err(|status| self.peers.expelled.note(status)).ok()??))
        });
        let others = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        let voters = members.iter().filter(|member| member.voter).count();
        divergence::compare(&self.digests().await, &others, voters)
    }

    /// The digests of the state after the last applied entry, and after some before it.
    pub(crate) async fn digests(&self) -> BTreeMap<u64, divergence::Digest> {
        let (digests, published) = (self.digests.clone(), self.published());
        let work = move || digests.with_latest(&published);
        tokio::task::spawn_blocking(work).await.unwrap_or_default()
    }

    /// Whether this replica leads in `term`, and a majority has confirmed it so recently that no other can
    /// have been elected since (Ongaro's thesis §6.4.1).
    pub fn holds_lease(&self, term: Term) -> bool {
        let since = Instant::now().checked_sub(self.lease);
        self.leads_in() == Some(term)
            && self.given_away.load(Ordering::SeqCst) != term.0
            && since.is_some_and(|since| self.followed_since(term, since))
    }

    /// The term in which this replica leads, if it does.
    pub(crate) fn leads_in(&self) -> Option<Term> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
        leads.then_some(Term(metrics.vote.leader_id.term))
    }

    /// Whether a majority followed this leader of `term` at some moment after `since`.
    fn followed_since(&self, term: Term, since: Instant) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.membership().get_joint_config();
        self.peers.acks.followed(self.identity.node.0, term.0, since, voters)
    }

    /// Its metrics.
    pub fn metrics(&self) -> ReplicaMetrics {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched().clone();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let fresh = |id: &u64| {
            let acked = metrics.heartbeat.as_ref().and_then(|all| all.get(id)).and_then(Option::as_ref);
            *id == self.identity.node.0 || acked.is_some_and(|at| at.elapsed() <= FRESH)
        };
        let role = *self.role.borrow();
        ReplicaMetrics {
            role,
            last: metrics.last_log_index.unwrap_or(0),
            snapshot: metrics.snapshot.map_or(0, |id| id.index),
            voters: voters.len(),
            learners: metrics.membership_config.nodes().count() - voters.len(),
            reached: match role {
                Role::Leader { .. } => voters.iter().filter(|id| fresh(id)).count(),
                Role::Other { .. } => 0,
            },
        }
    }

    /// The durations of syncs of the log.
    pub fn sync_seconds(&self) -> Histogram {
        self.sync_seconds.clone()
    }

    /// Records a heartbeat of a leader.
    pub(crate) fn hears_leader(&self) {
        *self.heard.lock().expect("nobody panics while holding this") = Some(Instant::now());
    }

    /// After this long without a leader, it is not for an election that there is none.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The time since the last heartbeat of a leader.
    pub fn heard_leader(&self) -> Option<Duration> {
        self.heard.lock().expect("nobody panics while holding this").map(|at| at.elapsed())
    }

    /// Writes a snapshot now, and drops the log that it covers as far as the settings allow.
    pub async fn snapshot(&self) -> Result<(), Error> {
        self.raft.trigger().snapshot().await.map_err(fatal)
    }

    /// Waits until the disk is closed after [`Replica::shutdown`], at most this long. A process that exits
    /// earlier may crash in the threads of RocksDB.
    pub async fn disk_is_closed(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.open.strong_count() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.open.strong_count() == 0
    }

    /// Stops the replica and closes its disk.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the replica did not stop cleanly");
        }
    }
}

/// Publishes the role at every change. The metrics change with every entry, so only this task waits for them.
fn follow_role(raft: &Raft, me: NodeId) -> watch::Receiver<Role> {
    let mut metrics = raft.server_metrics();
    let role = move |metrics: &openraft::metrics::RaftServerMetrics<Types>| {
        let term = Term(metrics.vote.leader_id.term);
        if metrics.state == ServerState::Leader && metrics.current_leader == Some(me.0) {
            Role::Leader { term }
        } else {
            Role::Other { term, leader: metrics.current_leader.map(NodeId) }
        }
    };
    let first = role(&metrics.borrow_watched());
    let (roles, watch) = watch::channel(first);
    tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let now = role(&metrics.borrow_watched());
            roles.send_if_modified(|known| std::mem::replace(known, now) != now);
        }
    });
    watch
}

/// Why the replica has failed; none while it runs.
fn follow_failure(raft: &Raft) -> watch::Receiver<Option<String>> {
    let mut metrics = raft.metrics();
    let (failures, watch) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                failures.send_replace(Some(fatal.to_string()));
                return;
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    });
    watch
}

pub(crate) fn fatal(error: impl std::fmt::Display) -> Error {
    Error::Fatal(error.to_string())
}
