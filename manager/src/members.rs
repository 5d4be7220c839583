//! Takes new managers in: as learners first, with a vote once they have caught up.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use model::command::Manager;
use model::{Actor, Answer, Change, Command, NodeId, RequestId, Term};
use raft::{Identity, JoinHandler, Joined, Replica, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Error;
use crate::clock::Clock;

/// A learner that is this close behind gets a vote.
const CAUGHT_UP: u64 = 100;
/// And that has answered this lately.
const FRESH: Duration = Duration::from_secs(1);
/// How often the leader looks after its members.
const EVERY: Duration = Duration::from_millis(100);
/// How long a new manager tries to be taken in: a leader may be elected meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it says meanwhile that it is not.
const TELL_EVERY: Duration = Duration::from_secs(3);

/// The membership policy of one manager.
pub(crate) struct Members {
    replica: Replica,
    role: watch::Receiver<Role>,
    clock: Clock,
}

impl Members {
    pub(crate) fn new(replica: Replica, role: watch::Receiver<Role>, clock: Clock) -> Self {
        Self { replica, role, clock }
    }

    /// What the leader does for its members: adds who has joined, promotes who has caught up. One
    /// change at a time.
    pub(crate) async fn keep(&self, term: Term) {
        loop {
            if let Err(error) = self.keep_once().await {
                tracing::debug!(%term, %error, "the membership could not be changed now");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn keep_once(&self) -> Result<(), raft::Error> {
        let state = self.replica.published().state;
        let members = self.replica.members();
        for (id, manager) in &state.managers {
            if !members.iter().any(|member| member.node == *id) {
                tracing::info!(node = %id, name = manager.name, "added as a learner");
                return self.replica.add_learner(*id, &manager.address).await;
            }
        }
        let ready: Vec<NodeId> = members
            .iter()
            .filter(|member| !member.voter)
            .filter(|member| member.lag.is_some_and(|lag| lag <= CAUGHT_UP))
            .filter(|member| member.last_ack.is_some_and(|age| age <= FRESH))
            .map(|member| member.node)
            .collect();
        if ready.is_empty() {
            return Ok(());
        }
        tracing::info!(nodes = ?ready, "caught up, and given a vote");
        self.replica.promote(&ready).await
    }

    /// Sees that the machine this manager runs on is known to all, also when it is told another one at a
    /// restart.
    pub(crate) async fn announce(&self, me: &Manager) {
        let mut states = self.replica.watch_declared();
        loop {
            let known = states.borrow_and_update().state.managers.get(&self.replica.identity().node).cloned();
            match known {
                Some(known) if known.instance == me.instance => return,
                Some(known) => {
                    let told = Manager { instance: me.instance.clone(), ..known };
                    if let Err((error, _)) = self.take_in(told).await {
                        tracing::debug!(error, "the machine of this manager is not announced yet");
                    }
                    tokio::time::sleep(EVERY).await;
                }
                // It is not caught up yet.
                None => {
                    if states.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn take_in(&self, manager: Manager) -> Result<Joined, (String, bool)> {
        let leader = match *self.role.borrow() {
            Role::Leader { .. } => None,
            Role::Other { leader: Some(leader), .. } => Some(leader),
            Role::Other { leader: None, .. } => return Err(("no manager leads at the moment".into(), false)),
        };
        if let Some(leader) = leader {
            let address = self
                .replica
                .address_of(leader)
                .ok_or(("the leader's address is not known".to_owned(), false))?;
            let forwarded = raft::join(&address, &manager, Duration::from_secs(5)).await;
            return forwarded.map_err(|(why, retry)| (why, !retry));
        }
        let command = Command {
            // Asking again is harmless by the disk's identity, so a refusal need not be remembered.
            id: RequestId(raft::unique()),
            by: Actor(format!("manager:{}", manager.name)),
            at: self.clock.now(),
            change: Change::Join { manager },
        };
        match self.replica.propose(&command, None).await {
            Ok(Answer::Joined(node)) => {
                let identity = self.replica.identity();
                Ok(Joined { cluster: identity.cluster.clone(), lineage: identity.lineage, node })
            }
            Ok(Answer::Refused(why)) => Err((why.to_string(), true)),
            Ok(other) => Err((format!("an odd answer: {other:?}"), false)),
            Err(error) => Err((error.to_string(), false)),
        }
    }
}

impl JoinHandler for Members {
    fn join(&self, manager: Manager) -> BoxFuture<'_, Result<Joined, (String, bool)>> {
        self.take_in(manager).boxed()
    }
}

/// Asks the managers at `addresses`, one after another, to take this one in.
pub(crate) async fn join(addresses: &[String], me: &Manager) -> Result<Identity, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = Instant::now();
    loop {
        let mut last = String::new();
        for address in addresses {
            match raft::join(address, me, Duration::from_secs(10)).await {
                Ok(joined) => {
                    return Ok(Identity {
                        cluster: joined.cluster,
                        lineage: joined.lineage,
                        node: joined.node,
                    });
                }
                Err((why, true)) => last = format!("{address}: {why}"),
                Err((why, false)) => {
                    return Err(Error::new(
                        format!("manager `{}` was not taken in", me.name),
                        format!("{address}: {why}"),
                        "choose another --name or address, or a fresh --data-dir; nothing was changed",
                    ));
                }
            }
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                format!("no manager took `{}` in within {PATIENCE:?}", me.name),
                last,
                "name managers that run with --join, and see that a majority of them is up",
            ));
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            tracing::warn!(because = last, "not taken in yet; trying for {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
