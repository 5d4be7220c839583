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
    pub(crate) violations: Vec<String>,
}
