//! `Handshake.Hello`: which interfaces a plugin serves, and with which objects (plugin-protocol §5).

use std::collections::BTreeMap;

use model::Millis;
use model::plugin::PluginClass;
use serde::{Deserialize, Serialize};

use super::event;
use crate::call::Call;
use crate::client::Client;
use crate::error::{Class, Error};
use crate::powers::{self, FENCE};
use crate::rpc;

/// The handshake of a plugin: its interfaces and objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// Object names by interface, such as `Instance/0.6.1` to `compute`, `disk`.
    pub interfaces: BTreeMap<String, Vec<String>>,
}

impl Hello {
    /// Whether the object `subtype` (empty for the base object) serves this interface.
    pub fn serves(&self, interface: &str, subtype: &str) -> bool {
        let wanted = if subtype.is_empty() { "." } else { subtype };
        self.interfaces.get(interface).is_some_and(|objects| objects.iter().any(|name| name == wanted))
    }

    /// Whether it obeys the fence headers.
    pub fn has_fence(&self) -> bool {
        self.interfaces.contains_key(FENCE)
    }

    /// The class that the plugin reports: what can be done after a lost reply.
    pub fn class(&self) -> PluginClass {
        powers::class(self.interfaces.get(FENCE))
    }

    /// The listing lag that the plugin reports; none if it reports nothing, or that it never lists everything. With a
    /// fence, the default is no lag.
    pub fn lists_within(&self) -> Option<Millis> {
        powers::lists_within(self.interfaces.get(FENCE)?)
    }

    /// Whether it publishes events.
    pub fn has_events(&self) -> bool {
        self.interfaces.contains_key(event::ID)
    }

    /// Why `subtype` cannot be used as `interface`, with the messages of Docker's InfraKit.
    pub fn lacks(&self, interface: &str, subtype: &str) -> String {
        let (name, version) = interface.split_once('/').unwrap_or((interface, ""));
        if let Some(objects) = self.interfaces.get(interface) {
            return format!("no-plugin:{subtype}; it serves {}", objects.join(", "));
        }
        let other = self.interfaces.keys().find_map(|key| key.strip_prefix(name)?.strip_prefix('/'));
        match other {
            Some(other) => {
                format!("Plugin supports {name} interface version {other}, client requires {version}")
            }
            None => format!("Plugin does not support interface {interface}"),
        }
    }
}

/// The part of its methods before the dot.
pub(crate) const SERVICE: &str = "Handshake";

/// The reply of a plugin that serves these objects.
pub(crate) fn answer(objects: BTreeMap<String, Vec<String>>) -> rpc::Result {
    let named = |names: Vec<String>| {
        Some(names.into_iter().map(|name| Object { name, proxy_for: String::new() }).collect())
    };
    rpc::done(&HelloReply { objects: objects.into_iter().map(|(key, names)| (key, named(names))).collect() })
}

impl Client {
    /// The handshake. Objects come and go, so it should not be cached for long.
    pub async fn hello(&self) -> Result<Hello, Error> {
        self.hello_as(&Call::default()).await
    }

    /// The handshake with fence headers: the plugin rejects earlier leaders from then on.
    pub async fn hello_as(&self, call: &Call) -> Result<Hello, Error> {
        let reply: HelloReply = self
            .call("Handshake.Hello", &serde_json::Map::new(), call)
            .await
            .map_err(|fault| fault.into_error(Class::Internal))?;
        let names = |objects: Option<Vec<Object>>| {
            objects.unwrap_or_default().into_iter().map(|object| object.name).collect()
        };
        Ok(Hello {
            interfaces: reply.objects.into_iter().map(|(key, objects)| (key, names(objects))).collect(),
        })
    }
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct HelloReply {
    objects: BTreeMap<String, Option<Vec<Object>>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Object {
    name: String,
    proxy_for: String,
}
