//! How a manager is told to run.

use std::path::PathBuf;
use std::time::Duration;

use api::TokenFrom;
use model::InstanceId;
use model::access::Secret;
use raft::Profile;

use crate::backup::Schedule;

/// Everything a manager must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name in the cluster; unique.
    pub name: String,
    /// Where its log and state are kept; its own, and nobody else's.
    pub data_dir: PathBuf,
    /// Where it listens, for peers and clients alike: `host:port`.
    pub listen: String,
    /// Where others reach it, when that is not `listen`.
    pub advertise: Option<String>,
    /// The instance it runs on, which is never destroyed while it is a member.
    pub instance: Option<InstanceId>,
    /// Where plugins are found.
    pub plugins_dir: PathBuf,
    /// The total time of one call to a plugin.
    pub plugin_deadline: Duration,
    pub profile: Profile,
    pub start: Start,
    /// Lets it in where it joins; on one machine none is needed. Looked at only then.
    pub token: Option<TokenFrom>,
    /// Start the machines of other managers again while nobody leads.
    pub restart_managers: bool,
    /// What unlocks the key of its data directory, when that is locked.
    pub unlock: Option<Secret>,
    /// Where it tells how it is: `/metrics`, `/healthz`, `/readyz`.
    pub monitor: Option<String>,
    /// Backups that it takes by itself.
    pub backups: Option<Schedule>,
}

/// What to do with a data directory that belongs to no cluster yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Form a cluster of one. Refused while plugins show instances of another cluster, unless it is
    /// said what becomes of them.
    Bootstrap { adopt: Option<Adopt> },
    /// Join the cluster of which one of these is a member.
    Join(Vec<String>),
    /// Nothing: it must belong to one.
    Restart,
}

/// What becomes of the instances that another cluster has left at the providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopt {
    /// They are left alone.
    Nobody,
    /// The cluster with this id, or the beginning of one, is founded again, and they are its own.
    Cluster(String),
}
