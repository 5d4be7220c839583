//! The published state of a replica.

use std::sync::Arc;

use model::{LogIndex, State};

use crate::types::LogId;

/// The state after a batch of entries.
#[derive(Debug, Clone)]
pub struct Published {
    pub state: Arc<State>,
    /// The last applied log index.
    pub index: LogIndex,
}

impl Published {
    pub(crate) fn of(state: &State, applied: Option<LogId>) -> Self {
        Published { state: Arc::new(state.clone()), index: LogIndex(applied.map_or(0, |id| id.index)) }
    }
}
