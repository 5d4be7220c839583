//! Real managers and plugins as processes, and what a story needs to tell: start, kill, wait for a
//! state, and look at what the provider was asked.

mod cluster;
mod disk;
mod history;
mod linear;
mod network;
mod process;
mod remote;

pub use cluster::{Cluster, Options, free_ports, group};
pub use disk::{Disk, Mood};
pub use history::{Call, History};
pub use linear::{Kind, Operation, is_linearizable, unexplained};
pub use network::Network;
pub use process::{Process, Surroundings, program, until};
pub use remote::over_the_network;
