//! Limits the concurrent calls to one plugin, and lowers the limit when its provider throttles.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Enough to keep two cores of a plugin busy.
const MOST: usize = 64;
/// A burst of refusals halves the limit once.
const HALVED_ONCE_IN: Duration = Duration::from_secs(1);

/// Throttling halves the limit; every successful call raises it by one.
pub(super) struct Pace {
    turns: Arc<Semaphore>,
    limit: Mutex<Limit>,
}

struct Limit {
    calls: usize,
    /// Permits in use that are to be withdrawn when they are returned.
    owed: usize,
    halved: Option<Instant>,
}

/// The permit of one call.
pub(super) struct Turn<'a> {
    pace: &'a Pace,
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Pace {
    fn default() -> Self {
        let limit = Limit { calls: MOST, owed: 0, halved: None };
        Self { turns: Arc::new(Semaphore::new(MOST)), limit: Mutex::new(limit) }
    }
}

impl Pace {
    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn { pace: self, permit: self.turns.clone().acquire_owned().await.ok() }
    }

    /// Lowers the limit after throttling.
    pub(super) fn slower(&self) {
        let mut limit = self.limit();
        if limit.halved.is_some_and(|at| at.elapsed() < HALVED_ONCE_IN) {
            return;
        }
        let fewer = (limit.calls / 2).max(1);
        let taken = self.turns.forget_permits(limit.calls - fewer);
        limit.owed += limit.calls - fewer - taken;
        limit.calls = fewer;
        limit.halved = Some(Instant::now());
        tracing::debug!(calls = fewer, "the provider throttles; fewer concurrent calls");
    }

    /// Raises the limit after a successful call.
    pub(super) fn faster(&self) {
        let mut limit = self.limit();
        if limit.calls == MOST {
            return;
        }
        limit.calls += 1;
        if limit.owed > 0 {
            limit.owed -= 1;
        } else {
            self.turns.add_permits(1);
        }
    }

    fn limit(&self) -> MutexGuard<'_, Limit> {
        self.limit.lock().expect("nobody panics while holding the limit")
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut limit = self.pace.limit();
        if limit.owed > 0
            && let Some(permit) = self.permit.take()
        {
            limit.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many turns can be had now.
    async fn free(pace: &Pace) -> usize {
        let mut turns = Vec::new();
        while let Ok(turn) = tokio::time::timeout(Duration::ZERO, pace.turn()).await {
            turns.push(turn);
        }
        turns.len()
    }

    #[tokio::test]
    async fn throttling_halves_the_calls_once_a_burst_and_success_adds_one() {
        let pace = Pace::default();
        let mut held = Vec::new();
        for _ in 0..MOST {
            held.push(pace.turn().await);
        }
        pace.slower();
        pace.slower();
        assert_eq!(free(&pace).await, 0, "all are in use still");
        drop(held);
        assert_eq!(free(&pace).await, MOST / 2, "a burst is one reason");
        for _ in 0..5 {
            pace.faster();
        }
        assert_eq!(free(&pace).await, MOST / 2 + 5);
        for _ in 0..2 * MOST {
            pace.faster();
        }
        assert_eq!(free(&pace).await, MOST, "and never more than there were");
    }

    #[tokio::test]
    async fn one_call_is_always_left() {
        let pace = Pace::default();
        for _ in 0..10 {
            pace.limit().halved = None;
            pace.slower();
        }
        assert_eq!(free(&pace).await, 1);
    }
}
