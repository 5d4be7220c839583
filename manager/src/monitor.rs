//! The health of a manager.

use std::time::Duration;

use raft::{Replica, Role};

use crate::clock::Clock;
use crate::metrics::{Export, Metrics};
use crate::reconcile::Assessments;

/// A follower without a heartbeat for this long is not ready: several heartbeats of the slowest profile.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// A manager with more unapplied entries than this is not ready.
const BEHIND: u64 = 1000;

/// The health and the metrics of a manager.
#[derive(Clone)]
pub struct Probe {
    replica: Replica,
    assessments: Assessments,
    clock: Clock,
    metrics: Metrics,
}

impl Probe {
    pub(crate) fn new(replica: Replica, assessments: Assessments, clock: Clock, metrics: Metrics) -> Self {
        Self { replica, assessments, clock, metrics }
    }

    /// Its state in one sentence; or why it is not ready.
    pub fn ready(&self) -> Result<String, String> {
        let published = self.replica.published();
        let state = &published.state;
        if state.cluster.is_none() {
            return Err("no state yet".into());
        }
        let metrics = self.replica.metrics();
        if metrics.last.saturating_sub(published.index.0) > BEHIND {
            return Err(format!("{} of {} entries applied", published.index, metrics.last));
        }
        match metrics.role {
            Role::Leader { term } if self.replica.holds_lease(term) => Ok(format!(
                "leader in term {term}, {}/{} voters, {} groups",
                metrics.reached,
                metrics.voters,
                state.groups.len()
            )),
            Role::Leader { .. } => Err("leader without confirmation by a majority".into()),
            Role::Other { leader: None, .. } => Err("no leader".into()),
            Role::Other { term, leader: Some(leader) } => {
                if self.replica.heard_leader().is_none_or(|age| age > HEARD_WITHIN) {
                    return Err("no heartbeat from the leader".into());
                }
                let name =
                    state.managers.get(&leader).map_or_else(|| leader.to_string(), |it| it.name.clone());
                Ok(format!("follower of {name} in term {term}, {} groups", state.groups.len()))
            }
        }
    }

    /// All metrics, in the text format of OpenMetrics.
    pub fn metrics(&self) -> String {
        Export {
            replica: &self.replica,
            assessments: &self.assessments,
            now: self.clock.now(),
            metrics: &self.metrics,
            is_ready: self.ready().is_ok(),
        }
        .text()
    }
}
