//! Plugins of InfraKit: what they implement, how they are served, and how they are called and tested.
//!
//! The protocol is that of Docker's InfraKit (`Instance/0.6.1`, `Flavor/0.1.1`, `Event/0.1.1`, `Handshake.Hello`): JSON-RPC
//! 2.0 over HTTP, on a unix socket whose name is the name of the plugin. [`interface`] has a file for each interface.
//!
//! # Writing a plugin
//!
//! An instance plugin implements [`Instances`], a flavor plugin [`Flavors`]. A [`Kind`] names it and its options, and
//! [`run`] is the whole `main` of its program; `examples/minimal.rs` is one in full.
//!
//! Two promises make a plugin safe. `Provision` with a [token](Call::token) that was seen before returns the instance that
//! the token made, and makes no second one: [`Plugin::knowing_tokens`]. And an [`Error`] of any class but
//! [`Class::Unsure`] says that nothing was done. [`conformance`] tests both, and all else that the managers rely on.
//!
//! # Serving and calling
//!
//! ```
//! # use std::{collections::BTreeMap, sync::{Arc, Mutex}};
//! # use spi::{Call, Error, InstanceSpec, Instances};
//! # use model::{Description, InstanceId, Opaque, tags::Tags};
//! /// Instances that are names in memory.
//! #[derive(Default)]
//! struct Names(Mutex<BTreeMap<InstanceId, Tags>>);
//!
//! #[async_trait::async_trait]
//! impl Instances for Names {
//!     async fn validate(&self, _: &Opaque) -> Result<(), Error> {
//!         Ok(())
//!     }
//!
//!     async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error> {
//!         let token = call.token.as_ref().ok_or_else(|| Error::invalid("a call needs a token"))?;
//!         let id = InstanceId::new(format!("name-{token}"));
//!         self.0.lock().unwrap().entry(id.clone()).or_insert_with(|| spec.tags.clone());
//!         Ok(id)
//!     }
//!
//!     async fn label(&self, instance: &InstanceId, labels: &Tags, _: &Call) -> Result<(), Error> {
//!         let mut all = self.0.lock().unwrap();
//!         let tags = all.get_mut(instance).ok_or_else(|| Error::not_found("there is no such name"))?;
//!         tags.extend(labels.clone());
//!         Ok(())
//!     }
//!
//!     async fn destroy(&self, instance: &InstanceId, _reason: &str, _: &Call) -> Result<(), Error> {
//!         self.0.lock().unwrap().remove(instance);
//!         Ok(())
//!     }
//!
//!     async fn describe(&self, tags: &Tags, _properties: bool) -> Result<Vec<Description>, Error> {
//!         let all = self.0.lock().unwrap();
//!         let has = |its: &Tags| tags.iter().all(|(key, value)| its.get(key) == Some(value));
//!         let found = all.iter().filter(|(_, its)| has(its));
//!         let described = found.map(|(id, its)| Description {
//!             id: id.clone(),
//!             logical_id: None,
//!             tags: its.clone(),
//!             properties: None,
//!             state: None,
//!         });
//!         Ok(described.collect())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let plugin = spi::Plugin::default().with_instances("", Arc::new(Names::default())).knowing_tokens();
//! let running = spi::serve(directory.path(), "names", plugin)?;
//!
//! let client = spi::Directory::new(directory.path()).find(&"names".into())?.client();
//! assert!(client.hello().await?.serves(spi::interface::INSTANCE, ""));
//!
//! // The managers call with the token of an intent: however often, it is one instance.
//! let call = Call { token: Some("0001".into()), ..Call::default() };
//! let spec = spi::instance_spec_from_json(r#"{"Properties": {}, "Tags": {"tier": "web"}}"#)?;
//! let names = client.instances("");
//! let id = names.provision(&spec, &call).await?;
//! assert_eq!(names.provision(&spec, &call).await?, id);
//! assert_eq!(names.describe(&spec.tags, false).await?.len(), 1);
//!
//! running.stop(async {}).await;
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod bounds;
mod call;
mod client;
pub mod conformance;
mod directory;
mod error;
mod fence;
pub mod http;
pub mod interface;
mod json;
mod kind;
mod object;
mod powers;
pub mod properties;
mod reply;
mod rpc;
mod server;
mod socket;
mod transport;

pub use bounds::{LONGEST_ID, LONGEST_TEXT};
pub use call::{Call, Epoch, since_boot};
pub use client::Client;
pub use directory::{Directory, Found};
pub use error::{Class, Error};
pub use interface::event::{Event, Events};
pub use interface::flavor::{Flavors, Index, Verdict};
pub use interface::handshake::Hello;
pub use interface::instance::{
    Attachment, InstanceSpec, Instances, description_to_json, descriptions_from_json,
    instance_spec_from_json, instance_spec_to_json,
};
pub use json::read_strict;
pub use kind::{CALLS_END, Kind, KindOption, NotMade, Setup, run, stop_signal};
pub use server::{Plugin, Running, serve, serve_soon};
