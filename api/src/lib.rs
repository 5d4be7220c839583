//! Speaks with people's tools: the public API, its conversions, and a client that finds the managers.

mod client;
mod convert;
mod error;

/// The generated messages, client and server.
#[allow(clippy::all, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("infrakit.v1");
}

pub use client::{Addresses, Client};
pub use convert::{event, group, request_id, request_id_bytes, spec, spec_from};
pub use error::{Code, Error};
