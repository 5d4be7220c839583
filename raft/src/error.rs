//! What can go wrong: three different things, which callers must not confuse.

use model::NodeId;

/// Why a proposal or a read did not come to an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing was done: this replica does not lead, or not in the given term.
    #[error("this manager does not lead{}", .leader.as_ref().map_or(String::new(), |(id, _)| format!("; manager {id} does")))]
    NotLeader {
        /// Who leads and where it is reached, when known.
        leader: Option<(NodeId, String)>,
    },
    /// It may or may not be done: repeat it with the same request id.
    #[error("no answer from a majority of the managers: {0}")]
    Unavailable(String),
    /// This replica has stopped and will not come back by itself.
    #[error("the replica has stopped: {0}")]
    Fatal(String),
}
