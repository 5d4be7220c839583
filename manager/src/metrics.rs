//! The counters of a running manager; `monitor` exports them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Outcome, PluginName};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The labels of one series.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Counters since the start of the process.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// By plugin, method and result.
    pub(crate) calls: Family<Labels, Counter>,
    /// By plugin and result.
    pub(crate) provisions: Family<Labels, Histogram, fn() -> Histogram>,
    /// By plugin.
    pub(crate) throttled: Family<Labels, Counter>,
    /// By type.
    pub(crate) events: Family<Labels, Counter>,
    pub(crate) leader_changes: Counter,
    times: Arc<Times>,
}

/// Times in seconds since the Unix epoch; 0 if unset.
#[derive(Default)]
struct Times {
    certificate_ends: AtomicU64,
    backed_up: AtomicU64,
}

/// From 5 ms to 80 s: a container takes a tenth of a second, a machine a minute.
fn call_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 15))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            provisions: Family::new_with_constructor(call_seconds),
            throttled: Family::default(),
            events: Family::default(),
            leader_changes: Counter::default(),
            times: Arc::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn called(&self, plugin: &PluginName, method: &'static str, result: &'static str) {
        let labels = vec![
            ("plugin", plugin.to_string()),
            ("method", method.to_owned()),
            ("result", result.to_owned()),
        ];
        self.calls.get_or_create(&labels).inc();
    }

    pub(crate) fn provisioned(&self, plugin: &PluginName, outcome: &Outcome, took: Duration) {
        let labels = vec![("plugin", plugin.to_string()), ("result", result(outcome).to_owned())];
        self.provisions.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn was_throttled(&self, plugin: &PluginName) {
        self.throttled.get_or_create(&vec![("plugin", plugin.to_string())]).inc();
    }

    pub(crate) fn happened(&self, event: &model::event::Event) {
        self.events.get_or_create(&vec![("type", event.kind.as_str().to_owned())]).inc();
    }

    pub(crate) fn certificate_ends_in(&self, lasts: Duration) {
        self.times.certificate_ends.store(seconds() + lasts.as_secs(), Ordering::Relaxed);
    }

    pub(crate) fn backed_up(&self) {
        self.times.backed_up.store(seconds(), Ordering::Relaxed);
    }

    /// Sets the age of the latest backup.
    pub(crate) fn backed_up_before(&self, age: Duration) {
        self.times.backed_up.store(seconds().saturating_sub(age.as_secs()).max(1), Ordering::Relaxed);
    }

    /// Seconds until the certificate of this manager expires; negative if it has expired.
    pub(crate) fn certificate_left(&self) -> Option<i64> {
        let ends = self.times.certificate_ends.load(Ordering::Relaxed);
        (ends > 0).then(|| ends as i64 - seconds() as i64)
    }

    /// Seconds since the last backup of this manager.
    pub(crate) fn backup_age(&self) -> Option<u64> {
        let at = self.times.backed_up.load(Ordering::Relaxed);
        (at > 0).then(|| seconds().saturating_sub(at))
    }
}

/// The outcome of a call, as a label.
pub(crate) fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Refused { .. } => "refused",
        Outcome::Unsure { .. } => "unsure",
    }
}
