//! What a manager does beside serving: the work of the leader, and the work of every manager.

use std::collections::BTreeSet;
use std::time::Duration;

use model::command::Manager;
use model::{Actor, Change, Command, RequestId, Term};
use raft::Replica;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::parts::Parts;
use crate::clock::Clock;
use crate::config::Config;
use crate::monitor::Probe;
use crate::{backup, bootstrap, http, keys, leadership, metrics, outage, reconcile, restart_managers};

/// How long a new leader tries to announce its instance before it continues.
const ANNOUNCED_IN: Duration = Duration::from_secs(5);

/// Spawns the tasks; they end when the set is aborted or dropped. `bootstrap` is proposed by the manager that
/// bootstraps the cluster; `monitor` serves what its probe reports.
pub(super) fn spawn(
    config: &Config,
    parts: &Parts,
    bootstrap: Option<Command>,
    monitor: Option<(TcpListener, Probe)>,
) -> JoinSet<()> {
    let Parts { replica, tls, dial, clock, metrics, world, members, me, outages, .. } = parts;
    let mut tasks = JoinSet::new();
    tasks.spawn(outage::keep(replica.clone(), dial.clone(), config.peers.clone(), outages.clone()));
    if config.restart_managers {
        tasks.spawn(restart_managers::keep(replica.clone(), world.clone(), outages.subscribe()));
    }
    tasks.spawn(leadership::while_leading(replica.watch_role(), {
        let parts = parts.clone();
        move |term| lead(term, parts.clone(), bootstrap.clone())
    }));
    tasks.spawn(keys::keep(tls.clone(), replica.clone(), metrics.clone()));
    tasks.spawn(metrics::count(replica.clone(), metrics.clone()));
    if let Some((listener, probe)) = monitor {
        tasks.spawn(http::serve(listener, probe));
    }
    if let Some(schedule) = config.backups.clone() {
        tasks.spawn(backup::keep(schedule, replica.clone(), clock.clone(), metrics.clone()));
    }
    let (members, me, outages) = (members.clone(), me.clone(), outages.subscribe());
    tasks.spawn(async move {
        tokio::join!(members.announce(&me), members.announce_while_missed(&me, outages));
    });
    tasks
}

/// How often it is looked whether two processes run as one manager.
const DUPLICATES_EVERY: Duration = Duration::from_secs(1);

/// Pause after it could not be recorded who leads.
const TOLD_AGAIN: Duration = Duration::from_millis(100);

/// Records that this manager leads, if all managers know such an entry.
async fn tell(term: Term, replica: &Replica, clock: &Clock, me: &Manager) {
    let change = Change::Lead { node: replica.identity().node };
    if replica.published().state.level < change.level() {
        return;
    }
    let by = Actor(format!("manager:{}", me.name));
    let command = Command { id: RequestId(raft::unique()), by, at: clock.now(), change };
    while let Err(error) = replica.propose(&command, Some(term)).await {
        tracing::debug!(%term, %error, "it is not recorded yet that this manager leads");
        tokio::time::sleep(TOLD_AGAIN).await;
    }
}

/// Records of each manager once that two processes run as it, if all managers know such an entry.
async fn tell_duplicates(term: Term, replica: &Replica, clock: &Clock, me: &Manager) {
    let mut told = BTreeSet::new();
    loop {
        tokio::time::sleep(DUPLICATES_EVERY).await;
        let now: BTreeSet<_> =
            replica.members().into_iter().filter(|it| it.duplicated).map(|it| it.node).collect();
        told.retain(|node| now.contains(node));
        for node in now.difference(&told.clone()).copied() {
            let change = Change::Duplicate { node };
            if replica.published().state.level < change.level() {
                continue;
            }
            let by = Actor(format!("manager:{}", me.name));
            let command = Command { id: RequestId(raft::unique()), by, at: clock.now(), change };
            if replica.propose(&command, Some(term)).await.is_ok() {
                told.insert(node);
            }
        }
    }
}

/// The work of the leader, for as long as it leads in `term`.
async fn lead(term: Term, parts: Parts, bootstrap: Option<Command>) {
    let Parts { replica, clock, world, assessments, gate, members, me, .. } = parts;
    if let Some(command) = bootstrap {
        bootstrap::propose_until_done(&replica, &command).await;
    }
    // Before anything is destroyed: it could be the machine that this manager runs on.
    if tokio::time::timeout(ANNOUNCED_IN, members.announce(&me)).await.is_err() {
        tracing::warn!("this manager leads, but could not announce its instance");
    }
    tokio::join!(
        tell(term, &replica, &clock, &me),
        members.keep(term),
        tell_duplicates(term, &replica, &clock, &me),
        keys::rotate(replica.clone(), clock.clone(), term),
        reconcile::run(term, replica.clone(), world, assessments, clock.clone(), gate),
    );
}
