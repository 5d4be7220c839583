//! Speaks with people's tools: the public API, its conversions, and a client that finds the managers.

mod client;
mod convert;
mod credentials;
mod error;
mod join_token;
pub mod local;
pub mod tls;

/// The generated messages, client and server.
#[allow(clippy::all, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("infrakit.v1");
}

pub use client::{Addresses, Client, Stream, reach};
pub use convert::{event, group, request_id, request_id_bytes, spec, spec_from};
pub use credentials::{
    BadCertificate, CertificateRequest, Credentials, Subject, issued, key_digest, named, read_request,
};
pub use error::{Code, Error, is_stranger};
pub use join_token::{Fingerprint, JoinToken, TokenFrom, token_id};
