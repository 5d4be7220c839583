//! What both ends of a line between peers must agree on.

/// The version of this protocol. A peer of another version is refused with a clear word.
pub(crate) const VERSION: u32 = 1;

/// This program, to its peers.
pub(crate) const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// The largest message between peers: four full appends, far above the largest entry.
pub(crate) const LARGEST_MESSAGE: usize = 16 << 20;

/// The gRPC service by which peers speak with each other.
pub const SERVICE: &str = "infrakit.raft.v1.Peers";
