//! Small things that the state keeps for people.

use crate::ids::LogIndex;
use std::sync::Arc;

use crate::access::Secret;
use crate::time::Timestamp;

/// A small text under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub value: Arc<str>,
    /// The log index that wrote it.
    pub index: LogIndex,
}

/// A secret, and who stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSecret {
    pub value: Secret,
    pub at: Timestamp,
    pub by: String,
}
