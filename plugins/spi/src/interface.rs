//! The interfaces of the protocol, a file each: contract, messages, server and client. And their names and versions
//! (plugin-protocol §5.2).

pub(crate) mod event;
pub(crate) mod flavor;
pub(crate) mod handshake;
pub(crate) mod instance;

pub use event::ID as EVENT;
pub use flavor::ID as FLAVOR;
pub use instance::ID as INSTANCE;

pub use crate::powers::{FENCE, START};
