//! The manager daemon as a library: it connects the model, the Raft replica, the plugins and the API.

mod about;
mod accept;
mod access;
#[cfg(test)]
mod alone;
pub mod backup;
mod bootstrap;
mod ca;
mod call_gate;
mod clock;
mod config;
mod daemon;
mod dial;
mod disk;
mod error;
mod http;
mod join;
pub mod keyfile;
mod keys;
mod leadership;
mod lease;
mod members;
mod metrics;
mod monitor;
mod outage;
pub mod private_file;
mod reconcile;
pub mod recovery;
mod replica_thread;
mod restart_managers;
mod service;
mod telemetry;
mod world;

use std::sync::Arc;

use raft::Replica;

pub use clock::Clock;
pub use config::{Adopt, Config, Start};
pub use daemon::{Running, start};
pub use error::Error;
pub use lease::Lease;
pub use monitor::Probe;
pub use raft::Profile;
pub use telemetry::Telemetry;
pub use world::{Listed, Rejection, Told, Work, World};

use call_gate::CallGate;
use reconcile::Assessments;

/// Reconciles whenever `replica` leads, and ends with the replica: a manager without its servers. For a
/// simulation with a world of its own.
pub async fn reconcile_while_leading<W: World>(replica: Replica, world: Arc<W>, clock: Clock) {
    let role = replica.watch_role();
    let work = move |term| {
        let (replica, world, clock) = (replica.clone(), world.clone(), clock.clone());
        reconcile::run(term, replica, world, Assessments::default(), clock, CallGate::default())
    };
    leadership::while_leading(role, work).await;
}
