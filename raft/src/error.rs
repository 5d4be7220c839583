//! The errors of proposals and reads.

use model::NodeId;

/// Why a proposal or a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing was done: this replica is not the leader, or not in the given term.
    #[error("this manager is not the leader{}", .leader.as_ref().map_or(String::new(), |(id, _)| format!("; manager {id} is")))]
    NotLeader {
        /// The leader and its address, if known.
        leader: Option<(NodeId, String)>,
    },
    /// The outcome is unknown: repeat the call with the same request id.
    #[error("no response from a majority of the managers: {0}")]
    Unavailable(String),
    /// Nothing was done: the command is larger than what one message between managers may carry.
    #[error("it has {bytes} bytes; at most {most} can be replicated at once")]
    TooLarge { bytes: usize, most: usize },
    /// This replica has stopped for good.
    #[error("the replica has stopped: {0}")]
    Fatal(String),
}
