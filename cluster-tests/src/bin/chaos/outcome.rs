//! What a schedule came to.

use std::collections::BTreeMap;
use std::time::Duration;

/// What came of one schedule.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) faults: BTreeMap<&'static str, usize>,
    pub(crate) operations: usize,
    pub(crate) unanswered: usize,
    pub(crate) made: usize,
    pub(crate) destroyed: usize,
    pub(crate) converged_in: Duration,
    /// From the moment at which everything was mended until a write was taken.
    pub(crate) writes_after: Duration,
    pub(crate) violations: Vec<String>,
}
