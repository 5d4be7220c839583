//! The public API of the managers: its messages, conversions to the model, credentials, and a client with failover.
//!
//! The API is gRPC, a service for each noun: `proto/infrakit/v1/group.proto` and the files beside it. [`proto`] is generated
//! of them. Any manager takes any call, and forwards to the leader what it cannot answer itself.
//!
//! # Calling a manager
//!
//! On the machine of a manager its socket needs no credentials; from elsewhere a client presents the certificate that
//! `infrakit login` was given ([`Credentials`]). [`Client::call`] asks one manager after the other until one answers; a call
//! that changes something has a request id, so that it takes effect once however often it is sent.
//!
//! ```no_run
//! use api::proto::GroupRequest;
//!
//! # async fn example() -> Result<(), api::Error> {
//! let managers = api::Addresses::parse("unix:///run/infrakit/infrakit.sock")?;
//! let client = api::Client::new(&managers, None)?;
//!
//! let asked = GroupRequest { group: "web".into(), ..GroupRequest::default() };
//! let web = client.call(async |managers| managers.groups().describe(asked.clone()).await).await?;
//! println!("{web:?}");
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod client;
mod convert;
mod credentials;
mod error;
mod join_token;
pub mod local;
mod services;
pub mod tls;

/// The generated messages, client and server of `infrakit.v1`.
#[allow(clippy::all, unreachable_pub, missing_docs)]
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
