//! Who is being made: attempts that this process has not ended, and the turns of those with one token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use model::tags::Tags;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// The label of a container with the attempt that makes it.
pub(crate) const ATTEMPT: &str = "infrakit.attempt";

/// The attempts to make a container that this process has begun and not ended. A container of another one is
/// either whole or left half made.
#[derive(Default)]
pub(crate) struct Attempts {
    begun: AtomicU64,
    open: Mutex<BTreeSet<String>>,
}

impl Attempts {
    pub(crate) fn begin(&self) -> Attempt<'_> {
        // The time tells it from the attempts of an earlier process.
        let now = jiff::Timestamp::now().as_microsecond();
        let name = format!("{now:x}-{:x}", self.begun.fetch_add(1, Ordering::Relaxed));
        self.open.lock().expect("nobody panics while holding this").insert(name.clone());
        Attempt { all: self, name }
    }

    /// Whether the container with these tags is being made.
    pub(crate) fn has(&self, tags: &Tags) -> bool {
        let open = self.open.lock().expect("nobody panics while holding this");
        tags.get(ATTEMPT).is_some_and(|name| open.contains(name))
    }
}

/// One attempt, until it is dropped.
pub(crate) struct Attempt<'a> {
    all: &'a Attempts,
    pub(crate) name: String,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Ok(mut open) = self.all.open.lock() {
            open.remove(&self.name);
        }
    }
}

/// Lets the calls with one token go one after the other, so that the second finds what the first made.
#[derive(Default)]
pub(crate) struct Turns(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// None if it has not come in time.
    pub(crate) async fn turn(&self, token: &str, until: Instant) -> Option<OwnedMutexGuard<()>> {
        let turn = {
            let mut turns = self.0.lock().expect("nobody panics while holding this");
            // What only the map holds, nobody waits for.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(token.to_owned()).or_default())
        };
        tokio::time::timeout_at(until, turn.lock_owned()).await.ok()
    }
}
