//! The leader's loop: one reconciler for each group, and one listing for all groups of a plugin.

mod caught;
mod group;
mod observer;
mod shared;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::failpoints::{Protection, is_left_out};
use model::{GroupId, Term};
use raft::Replica;
use tokio::task::JoinSet;

use crate::call_gate::CallGate;
use crate::clock::Clock;
use crate::lease::Lease;
use crate::world::World;
use caught::caught;
use group::Reconciler;
use observer::Observers;
use shared::Shared;

pub(crate) use shared::Assessments;

/// Reconciles every group for as long as this manager leads in `term`; dropping it stops all of it.
pub(crate) async fn run<W: World>(
    term: Term,
    replica: Replica,
    world: Arc<W>,
    assessments: Assessments,
    clock: Clock,
    gate: CallGate,
) {
    // The barrier: everything that earlier leaders had committed is applied here first, so every intent
    // with a call under way is in the state.
    while !is_left_out(Protection::Barrier)
        && let Err(error) = replica.read().await
    {
        tracing::debug!(%term, %error, "leadership is not confirmed yet; no group is reconciled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assessments.clear();
    clock.raise(replica.published().state.time);
    let mut states = replica.watch_declared();
    let mut tasks = JoinSet::new();
    let lease = Lease::new(replica.clone(), term);
    let observers = Arc::new(Observers::new(replica.clone(), world.clone(), clock.clone(), lease.clone()));
    let shared = Arc::new(Shared { term, replica, world, observers, assessments, clock, lease, gate });
    let mut running: BTreeSet<GroupId> = BTreeSet::new();
    loop {
        let state = states.borrow_and_update().state.clone();
        for id in state.groups.keys() {
            if running.insert(id.clone()) {
                let reconciler = Reconciler::new(id.clone(), shared.clone());
                tasks.spawn(contained(id.clone(), reconciler.run()));
            }
        }
        tokio::select! {
            biased;
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(Ok(id)) = tasks.join_next() => {
                shared.assessments.drop_group(&id);
                running.remove(&id);
            }
        }
    }
}

/// A panic in one group must not stop the others: its reconciler is started again after a pause.
async fn contained(id: GroupId, reconciler: impl Future<Output = ()>) -> GroupId {
    if caught(reconciler).await.is_none() {
        tracing::error!(group = %id, "the reconciler of the group panicked (a bug); it is started again in 1 s");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    id
}

#[cfg(test)]
mod tests;
