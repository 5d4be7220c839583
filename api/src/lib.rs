//! The public API of the managers: its messages, conversions to the model, credentials, and a client with
//! failover.

mod client;
mod convert;
mod credentials;
mod error;
mod join_token;
pub mod local;
mod services;
pub mod tls;

/// The generated messages, client and server of `infrakit.v1`.
#[allow(clippy::all, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("infrakit.v1");
}

/// The role that a call requires, by its path `/PACKAGE.SERVICE/METHOD`; none for a public call. It is the option
/// `requires` of the call in the proto. A path that is not there requires admin.
pub fn required_role(path: &str) -> Option<model::Role> {
    use model::Role;
    include!(concat!(env!("OUT_DIR"), "/requires.rs"))
}

/// Whether any manager answers this call itself. It is the option `anywhere` of the call in the proto; every other call is
/// forwarded to the leader.
pub fn is_answered_anywhere(path: &str) -> bool {
    include!(concat!(env!("OUT_DIR"), "/anywhere.rs"))
}

pub use client::{Addresses, Client, Stream, reach};
pub use convert::{event, group, request_id, request_id_bytes, spec, spec_from};
pub use credentials::{
    BadCertificate, CertificateRequest, Credentials, Subject, issued, key_digest, named, read_request,
};
pub use error::{Code, Error, LOG_IN, goes_on_elsewhere, is_unauthenticated};
pub use join_token::{Fingerprint, JoinToken, TokenFrom, token_id};
pub use services::{LARGEST_MESSAGE, Services};
