//! Speaks with foreign processes, and is one: InfraKit's plugin protocol in both directions
//! (`Instance/0.6.1`, `Flavor/0.1.1`, `Event/0.1.1`, `Handshake.Hello`).
//!
//! The contract is the same for a plugin in another process, one in this process, and a fake:
//! [`Instances`] and [`Flavors`].

mod client;
pub mod conformance;
mod contract;
mod convert;
mod directory;
mod error;
mod events;
mod fence;
mod server;
mod socket;
mod transport;
mod wire;

pub use client::{Client, Hello};
pub use contract::{Attachment, Call, Epoch, Flavors, Index, InstanceSpec, Instances, Verdict, since_boot};
pub use convert::{instance_spec_from_json, instance_spec_to_json};
pub use directory::{Directory, Found};
pub use error::{Class, Error};
pub use events::{Event, Events};
pub use server::{Plugin, Running, serve};

/// The interface names and versions of InfraKit's current generation (plugin-protocol §5.2).
pub mod interface {
    pub const INSTANCE: &str = "Instance/0.6.1";
    pub const FLAVOR: &str = "Flavor/0.1.1";
    pub const EVENT: &str = "Event/0.1.1";
    /// Ours: the plugin knows a repeated token again, and heeds the fence headers.
    pub const FENCE: &str = "Fence/0.1.0";
    /// Ours: the plugin can start an instance that has stopped (`Instance.Start`).
    pub const START: &str = "Start/0.1.0";
}
