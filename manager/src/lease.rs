//! May this manager act? Asked right before every call, because a leader that was deposed while it was
//! paused or cut off is the last to hear of it (ha-raft §3.2, §1.5).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::Term;
use model::failpoints::{Protection, is_left_out};
use raft::Replica;
use spi::{Epoch, since_boot};

use crate::clock::suspended;

/// How often a lease that has lapsed is looked at again.
const AGAIN: Duration = Duration::from_millis(10);
/// A suspension that counts: more than the two clocks can be read apart.
const SUSPENDED: Duration = Duration::from_millis(5);

/// One term's right to act. Worth as long as a majority's last word is young, on a machine that has
/// not slept since.
#[derive(Clone)]
pub struct Lease {
    replica: Replica,
    term: Term,
    /// How long the machine had been suspended when a majority last confirmed this leader.
    slept: Arc<Mutex<Duration>>,
}

impl Lease {
    pub(crate) fn new(replica: Replica, term: Term) -> Self {
        Self { replica, term, slept: Arc::new(Mutex::new(suspended())) }
    }

    /// Which leadership this is, as plugins are told.
    pub(crate) fn epoch(&self) -> Epoch {
        let identity = self.replica.identity();
        Epoch { cluster: identity.cluster.to_string(), lineage: identity.lineage, term: self.term.0 }
    }

    /// Waits until this manager may act, and gives the moment, since the machine started, at which it
    /// still might. Whoever is deposed waits until its work is cancelled.
    pub async fn held(&self) -> Duration {
        if is_left_out(Protection::Lease) {
            return since_boot();
        }
        loop {
            let moment = since_boot();
            let slept = suspended();
            if slept > self.slept() + SUSPENDED {
                // The clock that the lease is reckoned with stood still: only a new word counts.
                tracing::warn!(term = %self.term, "the machine was suspended: the lease is void");
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
