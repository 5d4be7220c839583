//! The configuration of a manager.

use std::path::PathBuf;
use std::time::Duration;

use api::TokenFrom;
use model::access::Secret;
use model::command::Machine;
use raft::Profile;

use crate::backup::Schedule;

/// The configuration of a manager.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its unique name in the cluster.
    pub name: String,
    /// The directory of its log and state, for this manager only.
    pub data_dir: PathBuf,
    /// The address to listen on, for peers and clients: `host:port`.
    pub listen: String,
    /// The address at which others reach it, if it is not `listen`.
    pub advertise: Option<String>,
    /// The instance it runs on, which is never destroyed while it is a member.
    pub instance: Option<Machine>,
    /// The directory of the plugin sockets.
    pub plugins_dir: PathBuf,
    /// The timeout of a plugin call.
    pub plugin_deadline: Duration,
    /// The election timing.
    pub profile: Profile,
    /// What to do with a new data directory.
    pub start: Start,
    /// Addresses of other managers: asked before a cluster is bootstrapped, and when members are not found where they
    /// were.
    pub peers: Vec<String>,
    /// The join token; not needed by the same user on the same machine.
    pub token: Option<TokenFrom>,
    /// Restart the machines of other managers while there is no leader.
    pub restart_managers: bool,
    /// The unlock key, if its data directory is locked.
    pub unlock: Option<Secret>,
    /// The address for `/metrics`, `/healthz` and `/readyz`.
    pub monitor: Option<String>,
    /// Periodic backups.
    pub backups: Option<Schedule>,
}

/// What to do with a data directory that belongs to no cluster yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Bootstrap a new cluster. Refused while plugins list instances of another cluster, unless `adopt` says
    /// what to do with them.
    Bootstrap {
        /// What to do with instances of another cluster.
        adopt: Option<Adopt>,
    },
    /// Join the cluster of the managers at these addresses.
    Join(Vec<String>),
    /// Fail: the data directory must belong to a cluster.
    Restart,
}

/// What to do with instances of another cluster that the plugins list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopt {
    /// Ignore them.
    Nobody,
    /// Bootstrap the cluster with this id, or prefix of an id, again; they belong to it.
    Cluster(String),
}
