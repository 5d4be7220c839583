//! What failed, and when it is tried again.

use crate::ids::Revision;
use crate::time::Timestamp;

/// A slot, or an instance, that failed, and when it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// When the first of the failures in a row was.
    pub since: Timestamp,
    /// How many there were in a row.
    pub failures: u32,
    /// The template of the group that failed: another one is tried at once.
    pub template: Revision,
    pub until: Timestamp,
    pub message: String,
}

/// An attempt whose outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsure {
    /// When the call ended here; it may still take effect there until its limit has passed.
    pub ended_at: Timestamp,
    pub retry_at: Timestamp,
    pub message: String,
}

/// How often in a row a member was not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// When the first look began that did not show it.
    pub since: Timestamp,
    /// The same, whatever listings failed in between.
    pub first: Timestamp,
    pub listings_seen: u32,
}

/// Why a plugin cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub since: Timestamp,
    pub message: String,
}
