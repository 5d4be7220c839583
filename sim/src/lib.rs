//! A whole cluster in one thread and in simulated time: the real reconciler, the real state machine and
//! the real Raft, with a network, disks, clocks and a provider that fail as a seed says.
//!
//! A run is repeated exactly by its seed, and judged by what the provider itself recorded.

mod cloud;
mod cluster;
mod damage;
mod faults;
mod judge;
mod moment;
mod net;
mod operator;
mod panics;
mod register;
mod rollout;
mod sight;
mod story;

pub use moment::Moment;
pub use story::{Plan, Run, run};
