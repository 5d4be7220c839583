//! The listing of one plugin, and what is remembered of its recent listings.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::ids::{InstanceId, LogIndex, LogicalId};
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

impl Description {
    /// Its plugin knows that it is there, and nothing else about it.
    pub fn is_unreadable(&self) -> bool {
        self.tags.is_empty() && self.state.as_ref().is_some_and(|it| it.status == RunStatus::Unknown)
    }
}

/// Whether an instance runs, as its plugin says (decision 45).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceState {
    pub status: RunStatus,
    /// What ran in it has ended, however, and can be started again. One that is stopped always can.
    pub ended: bool,
    /// The exit code of what ran in it, once that has ended.
    pub exit_code: Option<i64>,
    /// Since when, by the plugin's clock: for people only.
    pub since: Option<Timestamp>,
    /// Why, when the plugin says; may be empty.
    pub message: String,
}

impl InstanceState {
    /// Whether starting it is of any use.
    pub fn can_be_started(&self) -> bool {
        self.status == RunStatus::Stopped || self.status == RunStatus::Failed && self.ended
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.status {
            RunStatus::Running => "is running",
            RunStatus::Starting => "is starting",
            RunStatus::Stopped => "is stopped",
            RunStatus::Paused => "is paused",
            RunStatus::Failed => "has failed",
            RunStatus::Unknown => "is in an unknown state",
        })?;
        if let Some(code) = self.exit_code.filter(|code| !self.message.contains(&code.to_string())) {
            write!(f, " with exit code {code}")?;
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
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

/// Every instance that one plugin listed at one time. An error is not a listing.
#[derive(Debug, Clone)]
pub struct Listing {
    pub items: Vec<Arc<Description>>,
    /// When the call of the plugin began.
    pub taken_at: Timestamp,
    /// When the first listing began since which no listing has failed.
    pub unbroken_since: Timestamp,
    /// How many instances fewer it has than the largest of the recent listings.
    pub shrunk_by: usize,
    /// The last log entry that was applied when the call began: of later entries this listing proves
    /// nothing.
    pub after: LogIndex,
    pub guarantees: Guarantees,
    /// Instances of which the plugin itself said that they are gone, and which it does not list.
    pub said_gone: BTreeSet<InstanceId>,
}

/// The recent listings of one plugin, with which the next one is compared.
#[derive(Debug, Default)]
pub struct ListingHistory {
    unbroken_since: Option<Timestamp>,
    /// When each of the recent listings began, and how many instances it had.
    recent: Vec<(Timestamp, usize)>,
}

impl ListingHistory {
    /// The plugin listed these instances, in a call that began at `taken_at`, when the log was applied up to
    /// `after`.
    pub fn showed(
        &mut self,
        items: Vec<Arc<Description>>,
        guarantees: Guarantees,
        taken_at: Timestamp,
        after: LogIndex,
    ) -> Listing {
        let total = items.len();
        // Twice the time for which members must be missing, so that the comparison lasts longer than that.
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
            said_gone: BTreeSet::new(),
        }
    }

    /// A call to list the instances failed.
    pub fn failed(&mut self) {
        self.unbroken_since = None;
    }
}
