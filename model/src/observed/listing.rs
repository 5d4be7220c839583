//! What one plugin shows when it is looked at, and how its looks follow each other.

use std::sync::Arc;

use crate::ids::{InstanceId, LogicalId};
use crate::limits::MANY_GONE;
use crate::part::Opaque;
use crate::plugin::Guarantees;
use crate::tags::Tags;
use crate::time::Timestamp;

/// One instance as its plugin describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub id: InstanceId,
    pub logical_id: Option<LogicalId>,
    pub tags: Tags,
    pub properties: Option<Opaque>,
    /// Whether it runs, when its plugin says so.
    pub state: Option<InstanceState>,
}

/// Whether an instance runs, as its plugin says (decision 45).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceState {
    pub status: RunStatus,
    /// The exit code of what ran in it, once that has ended.
    pub exit_code: Option<i64>,
    /// Since when, by the plugin's clock: for people only.
    pub since: Option<Timestamp>,
    /// Why, when the plugin says; may be empty.
    pub message: String,
}

/// The states of instances, which providers call by many names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunStatus {
    Running,
    /// It is being made or started, and has not failed.
    Starting,
    /// It was stopped or has ended without an error, and can be started.
    Stopped,
    Paused,
    /// It ended with an error, restarts again and again, or cannot be read.
    Failed,
    /// Its plugin does not know.
    Unknown,
}

impl RunStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Running => "Running",
            RunStatus::Starting => "Starting",
            RunStatus::Stopped => "Stopped",
            RunStatus::Paused => "Paused",
            RunStatus::Failed => "Failed",
            RunStatus::Unknown => "Unknown",
        }
    }
}

/// Everything one plugin listed at one time. An error is not a listing.
#[derive(Debug, Clone)]
pub struct Listing {
    pub items: Vec<Arc<Description>>,
    /// When the look began.
    pub taken_at: Timestamp,
    /// When the first of the looks began since which none has failed.
    pub unbroken_since: Timestamp,
    /// How many instances fewer than the largest of the looks shortly before it.
    pub shrunk_by: usize,
    /// The last log entry that was applied when the look began: what it did not yet show then,
    /// it cannot tell about.
    pub after: u64,
    pub guarantees: Guarantees,
}

/// The looks at one plugin, as they come: what makes a listing of what one of them showed.
#[derive(Debug, Default)]
pub struct ListingHistory {
    unbroken_since: Option<Timestamp>,
    /// When each of the latest began, and how many instances it showed.
    recent: Vec<(Timestamp, usize)>,
}

impl ListingHistory {
    /// A look that began at `taken_at`, when the log was applied up to `after`, showed these.
    pub fn showed(
        &mut self,
        items: Vec<Arc<Description>>,
        guarantees: Guarantees,
        taken_at: Timestamp,
        after: u64,
    ) -> Listing {
        let total = items.len();
        // Twice the time that a doubt lasts, so that the doubt does not end before it.
        self.recent.retain(|(at, _)| taken_at.since(*at).0 <= 2 * MANY_GONE.0);
        let largest = self.recent.iter().map(|(_, total)| *total).max().unwrap_or(0);
        self.recent.push((taken_at, total));
        let unbroken_since = *self.unbroken_since.get_or_insert(taken_at);
        Listing {
            items,
            taken_at,
            unbroken_since,
            shrunk_by: largest.saturating_sub(total),
            after,
            guarantees,
        }
    }

    /// A look failed.
    pub fn failed(&mut self) {
        self.unbroken_since = None;
    }
}
