//! Client and server of the plugin protocol of Docker's InfraKit (`Instance/0.6.1`, `Flavor/0.1.1`,
//! `Event/0.1.1`, `Handshake.Hello`), and the conformance tests for plugins.
//!
//! The interfaces are [`Instances`] and [`Flavors`], for plugins in this process and in others alike.

mod bounds;
mod client;
pub mod conformance;
mod contract;
mod convert;
mod directory;
mod error;
mod events;
mod fence;
pub mod http;
mod json;
mod kind;
mod listing;
pub mod properties;
mod reply;
mod server;
mod socket;
mod state;
mod transport;
mod wire;

pub use bounds::{LONGEST_ID, LONGEST_TEXT};
pub use client::{Client, Hello};
pub use contract::{Attachment, Call, Epoch, Flavors, Index, InstanceSpec, Instances, Verdict, since_boot};
pub use convert::{
    description_to_json, descriptions_from_json, instance_spec_from_json, instance_spec_to_json,
};
pub use directory::{Directory, Found};
pub use error::{Class, Error};
pub use events::{Event, Events};
pub use json::read_strict;
pub use kind::{CALLS_END, Kind, KindOption, NotMade, Setup, run, stop_signal};
pub use server::{Plugin, Running, serve, serve_soon};

/// The names and versions of the interfaces (plugin-protocol §5.2).
pub mod interface {
    /// Creates, lists and destroys instances.
    pub const INSTANCE: &str = "Instance/0.6.1";
    /// Prepares, checks and drains instances.
    pub const FLAVOR: &str = "Flavor/0.1.1";
    /// Publishes events.
    pub const EVENT: &str = "Event/0.1.1";
    /// An extension: the plugin recognizes a repeated token, and obeys the fence headers.
    pub const FENCE: &str = "Fence/0.1.0";
    /// An extension: the plugin can start a stopped instance (`Instance.Start`).
    pub const START: &str = "Start/0.1.0";
}
