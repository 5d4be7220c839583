//! The leader's loop: one reconciler a group, one look for all groups of a plugin.

mod group;
mod observer;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use model::failpoints::{Protection, is_left_out};
use model::{GroupId, Observed, Plan, Term};
use raft::Replica;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::call_gate::CallGate;
use crate::clock::Clock;
use crate::lease::Lease;
use crate::world::World;
use group::Reconciler;
use observer::Observers;

/// What the reconcilers know and intend, for whoever asks for a status.
#[derive(Clone, Default)]
pub(crate) struct Assessments {
    latest: Arc<Mutex<BTreeMap<GroupId, Arc<Assessment>>>>,
    changed: Arc<watch::Sender<()>>,
}

/// What one reconciler last saw and planned.
pub(crate) struct Assessment {
    pub(crate) observed: Observed,
    pub(crate) plan: Plan,
}

impl Assessments {
    pub(crate) fn of(&self, group: &GroupId) -> Option<Arc<Assessment>> {
        self.all().get(group).cloned()
    }

    /// Fires whenever any report changes.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn put(&self, group: &GroupId, assessment: Assessment) {
        self.all().insert(group.clone(), Arc::new(assessment));
        self.changed.send_replace(());
    }

    fn drop_group(&self, group: &GroupId) {
        self.all().remove(group);
        self.changed.send_replace(());
    }

    fn clear(&self) {
        self.all().clear();
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<GroupId, Arc<Assessment>>> {
        self.latest.lock().expect("nobody panics while holding the reports")
    }
}

/// What every reconciler of one term works with.
struct Shared<W> {
    term: Term,
    replica: Replica,
    world: Arc<W>,
    observers: Arc<Observers<W>>,
    assessments: Assessments,
    clock: Clock,
    lease: Lease,
    gate: CallGate,
}

/// Reconciles every group for as long as this manager leads in `term`; dropping it stops all of it.
pub(crate) async fn run<W: World>(
    term: Term,
    replica: Replica,
    world: Arc<W>,
    assessments: Assessments,
    clock: Clock,
    gate: CallGate,
) {
    // The barrier: everything that earlier leaders had committed is applied here, so every intent
    // that can be under way is known.
    while !is_left_out(Protection::Barrier)
        && let Err(error) = replica.read().await
    {
        tracing::debug!(%term, %error, "not yet confirmed as leader");
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

/// What is known of a call that met a defect of this manager.
const DEFECT: &str = "this manager has a defect, which its log tells";

/// What a call comes to; nothing when it meets a defect: whoever waits for it must not wait for ever.
async fn caught<T>(call: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(call).catch_unwind().await.ok()
}

/// One group's defect must not stop the others: its reconciler is started anew after a pause.
async fn contained(id: GroupId, reconciler: impl Future<Output = ()>) -> GroupId {
    if caught(reconciler).await.is_none() {
        tracing::error!(group = %id, "its reconciler failed, and is started anew");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    id
}

#[cfg(test)]
mod tests;
