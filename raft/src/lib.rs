//! The replicated log: openraft over gRPC, stored in RocksDB.
//!
//! This is the only crate that uses openraft and RocksDB. It calls `State::apply` and never interprets a
//! change.

mod acks;
mod addresses;
mod agreed;
mod backup;
mod clocks;
mod codec;
mod disk;
mod divergence;
mod error;
mod identity;
mod joining;
mod line;
mod log_store;
mod machine;
mod membership;
mod meta;
mod peer_service;
mod peers;
mod processes;
mod profile;
mod published;
mod reason;
mod recovery;
mod replica;
mod rng;
mod runtime;
mod seal;
mod snapshot;
mod store;
mod types;
mod wire;

/// The generated messages, for the wire and the disk.
#[allow(clippy::all, unreachable_pub)]
mod proto {
    tonic::include_proto!("infrakit.raft.v1");
}

pub use backup::{Backup, BadBackup, Head};
pub use disk::Disk;
pub use error::Error;
pub use identity::Identity;
pub use joining::{Application, JoinHandler, Joined, PeerIdentity};
pub use line::{Broken, Dial, Line, line};
pub use log_store::Sync;
pub use membership::MemberStatus;
pub use peers::join;
pub use profile::Profile;
pub use proto::peers_server::PeersServer;
pub use published::Published;
pub use recovery::Holding;
pub use replica::{Replica, ReplicaMetrics, Role};
pub use rng::{between, seed, unique};
pub use seal::Key;
pub use store::MemoryDisk;
pub use wire::SERVICE;
