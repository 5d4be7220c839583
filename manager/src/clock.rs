//! The one place that reads the clock.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::Timestamp;
use tokio::time::Instant;

/// The wall clock, read once and advanced by the monotonic clock, so that setting the clock of the machine
/// does not age everything at once. It is read again when a leadership begins; no span is measured across
/// that.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    base: Arc<Mutex<Option<(Instant, u64)>>>,
    /// In simulated time: the start, and the time of the clock then.
    simulated: Option<(Instant, u64)>,
}

impl Clock {
    /// A clock that follows the time of tokio, from `start` on.
    pub fn simulated(start: Timestamp) -> Self {
        Self { simulated: Some((Instant::now(), start.0)), ..Self::default() }
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        let mut base = self.base.lock().expect("nobody panics while holding the clock");
        let (at, time) = base.get_or_insert_with(|| (Instant::now(), self.wall()));
        Timestamp(*time + at.elapsed().as_millis() as u64)
    }

    /// Reads the wall clock again, and advances to at least `agreed`: the clock of an earlier leader may have
    /// been ahead, and committed times must not stay in the future.
    pub fn raise(&self, agreed: Timestamp) {
        let time = self.now().0.max(self.wall()).max(agreed.0);
        *self.base.lock().expect("nobody panics while holding the clock") = Some((Instant::now(), time));
    }

    fn wall(&self) -> u64 {
        match self.simulated {
            Some((began, start)) => start + began.elapsed().as_millis() as u64,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        }
    }
}

/// How long this machine has been suspended since it booted: the clock of timeouts lags by this much.
pub(crate) fn suspended() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let running = || {
        let time = clock_gettime(ClockId::Monotonic);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    };
    loop {
        let before = running();
        let all = spi::since_boot();
        // Both must be of the same moment.
        if running() - before < Duration::from_millis(1) {
            return all.saturating_sub(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_clock_goes_on_from_there() {
        let clock = Clock::default();
        let ahead = Timestamp(clock.now().0 + 3_600_000);
        clock.raise(ahead);
        let first = clock.now();
        assert!(first >= ahead);
        let began = Instant::now();
        while clock.now() == first {
            assert!(began.elapsed().as_secs() < 5, "it stands still");
        }
        clock.raise(Timestamp(1));
        assert!(clock.now() > first, "it never goes back");
    }
}
