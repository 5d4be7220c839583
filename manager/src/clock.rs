//! The one place that reads the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use model::Timestamp;

/// The wall clock, which here never runs backwards.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    latest: Arc<AtomicU64>,
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let before = self.latest.fetch_max(wall, Ordering::Relaxed);
        Timestamp(wall.max(before))
    }

    /// Now, but not before what was agreed on already: an earlier leader's clock may have been ahead.
    pub fn now_after(&self, agreed: Timestamp) -> Timestamp {
        self.now().max(agreed)
    }
}
