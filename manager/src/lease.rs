//! The leader lease, checked before every plugin call: a leader that was deposed while it was paused or
//! partitioned is the last to notice.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::Term;
use model::failpoints::{Protection, is_left_out};
use raft::Replica;
use spi::{Epoch, since_boot};

use crate::clock::suspended;

/// How often an expired lease is checked again.
const AGAIN: Duration = Duration::from_millis(10);
/// The shortest suspension that counts: more than the error of reading the two clocks.
const SUSPENDED: Duration = Duration::from_millis(5);

/// The lease of one term. It holds while a majority has confirmed the leader recently, on a machine that was
/// not suspended since.
#[derive(Clone)]
pub struct Lease {
    replica: Replica,
    term: Term,
    /// The suspended time of the machine when a majority last confirmed this leader.
    slept: Arc<Mutex<Duration>>,
}

impl Lease {
    pub(crate) fn new(replica: Replica, term: Term) -> Self {
        Self { replica, term, slept: Arc::new(Mutex::new(suspended())) }
    }

    /// The epoch of this leadership, for plugins with a fence.
    pub(crate) fn epoch(&self) -> Epoch {
        let identity = self.replica.identity();
        Epoch { cluster: identity.cluster.to_string(), lineage: identity.lineage, term: self.term.0 }
    }

    /// Waits until the lease holds, and returns the moment, since boot, at which it did. A deposed leader
    /// waits until its work is cancelled.
    pub async fn held(&self) -> Duration {
        if is_left_out(Protection::Lease) {
            return since_boot();
        }
        loop {
            let moment = since_boot();
            let slept = suspended();
            if slept > self.slept() + SUSPENDED {
                // The clock of the lease stood still: only a new confirmation counts.
                tracing::warn!(term = %self.term, "the machine was suspended; renewing the lease");
                match self.replica.read().await {
                    Ok(_) => *self.slept.lock().expect("nobody panics while holding this") = slept,
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            } else if self.replica.holds_lease(self.term) {
                return moment;
            } else {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    fn slept(&self) -> Duration {
        *self.slept.lock().expect("nobody panics while holding this")
    }
}
