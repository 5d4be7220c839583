//! What accompanies a call, beside its parameters.

use std::time::Duration;

/// The fence headers of a call, for plugins that list `Fence/0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The token of the intent: a second call with it must not create a second instance.
    pub token: Option<String>,
    /// The leadership of the caller.
    pub epoch: Option<Epoch>,
    /// The deadline of the call, on the clock of [`since_boot`], which caller and plugin on one machine
    /// share.
    pub not_after: Option<Duration>,
    /// The span of the call, as in W3C Trace Context.
    pub traceparent: Option<String>,
}

/// A leadership. A later one of the same cluster is greater; those of two clusters are not comparable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The id of the cluster.
    pub cluster: String,
    /// The lineage of the cluster.
    pub lineage: u32,
    /// The Raft term.
    pub term: u64,
}

/// The time since this machine booted, suspension included (`CLOCK_BOOTTIME`).
pub fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
