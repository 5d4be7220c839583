//! The constants of the protocol between peers.

/// The version of this protocol. A peer with another version is rejected.
pub(crate) const VERSION: u32 = 1;

/// The version of this program.
pub(crate) const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// The largest message: four full appends, far above the largest entry.
pub(crate) const LARGEST_MESSAGE: usize = 16 << 20;

/// The largest entry: what is larger could never be sent, and would keep everything after it from being written.
pub(crate) const LARGEST_ENTRY: usize = 14 << 20;

/// The name of the gRPC service for peers.
pub const SERVICE: &str = "infrakit.raft.v1.Peers";
