//! What the reconcilers of one term share, and what they show of themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use model::{GroupId, Observed, Plan, Term};
use raft::Replica;
use tokio::sync::watch;

use super::observer::Observers;
use crate::call_gate::CallGate;
use crate::clock::Clock;
use crate::lease::Lease;

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

    pub(super) fn put(&self, group: &GroupId, assessment: Assessment) {
        self.all().insert(group.clone(), Arc::new(assessment));
        self.changed.send_replace(());
    }

    pub(super) fn drop_group(&self, group: &GroupId) {
        self.all().remove(group);
        self.changed.send_replace(());
    }

    pub(super) fn clear(&self) {
        self.all().clear();
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<GroupId, Arc<Assessment>>> {
        self.latest.lock().expect("nobody panics while holding the reports")
    }
}

/// What every reconciler of one term works with.
pub(super) struct Shared<W> {
    pub(super) term: Term,
    pub(super) replica: Replica,
    pub(super) world: Arc<W>,
    pub(super) observers: Arc<Observers<W>>,
    pub(super) assessments: Assessments,
    pub(super) clock: Clock,
    pub(super) lease: Lease,
    pub(super) gate: CallGate,
}
