//! The client of a plugin in another process. It accepts what the client of Docker's InfraKit accepts
//! (plugin-protocol §4), and classifies unknown outcomes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use model::plugin::PluginClass;
use model::tags::Tags;
use model::{Allocation, Description, InstanceId, Millis, Opaque};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::contract::{Call, Flavors, Index, InstanceSpec, Instances, Verdict};
use crate::error::{Class, Error};
use crate::events::{Event, Frames};
use crate::reply::Fault;
use crate::transport::{Endpoint, Failure, Transport};
use crate::{bounds, convert, fence, interface, listing, reply, wire};

/// A client of one plugin process.
#[derive(Clone)]
pub struct Client {
    /// The lookup name of the plugin.
    name: Arc<str>,
    transport: Transport,
    deadline: Duration,
    /// How many listed instances had no usable id the last time, by subtype: a warning is not repeated while
    /// that is the same.
    without_id: Arc<Mutex<BTreeMap<String, usize>>>,
}

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
        self.interfaces.contains_key(interface::FENCE)
    }

    /// The class that the plugin reports: what can be done after a lost reply.
    pub fn class(&self) -> PluginClass {
        match self.interfaces.get(interface::FENCE) {
            None => PluginClass::C,
            Some(said) if said.iter().any(|it| it == fence::LISTS_NEVER) => PluginClass::D,
            Some(_) => PluginClass::A,
        }
    }

    /// The listing lag that the plugin reports; none if it reports nothing, or that it never lists everything. With a
    /// fence, the default is no lag.
    pub fn lists_within(&self) -> Option<Millis> {
        let said = self.interfaces.get(interface::FENCE)?;
        if said.iter().any(|it| it == fence::LISTS_NEVER) {
            return None;
        }
        let span = said.iter().find_map(|it| it.strip_prefix(fence::LISTS_WITHIN));
        Some(span.and_then(|span| Millis::parse_go(span).ok()).unwrap_or_default())
    }

    /// Whether it publishes events.
    pub fn has_events(&self) -> bool {
        self.interfaces.contains_key(interface::EVENT)
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

impl Client {
    pub(crate) fn new(name: &str, endpoint: Endpoint, deadline: Duration) -> Self {
        Self { name: name.into(), transport: Transport::new(endpoint), deadline, without_id: Arc::default() }
    }

    /// The handshake. Objects come and go, so it should not be cached for long.
    pub async fn hello(&self) -> Result<Hello, Error> {
        self.hello_as(&Call::default()).await
    }

    /// The handshake with fence headers: the plugin rejects earlier leaders from then on.
    pub async fn hello_as(&self, call: &Call) -> Result<Hello, Error> {
        let reply: wire::HelloReply = self
            .call("Handshake.Hello", &serde_json::Map::new(), call)
            .await
            .map_err(|fault| fault.into_error(Class::Internal))?;
        let names = |objects: Option<Vec<wire::Object>>| {
            objects.unwrap_or_default().into_iter().map(|object| object.name).collect()
        };
        Ok(Hello {
            interfaces: reply.objects.into_iter().map(|(key, objects)| (key, names(objects))).collect(),
        })
    }

    /// The instance plugin at `subtype` (empty for the base object).
    pub fn instances(&self, subtype: &str) -> impl Instances + use<> {
        Remote { client: self.clone(), subtype: subtype.to_owned() }
    }

    /// The flavor plugin at `subtype`.
    pub fn flavors(&self, subtype: &str) -> impl Flavors + use<> {
        Remote { client: self.clone(), subtype: subtype.to_owned() }
    }

    /// A listing, as its items come.
    pub(crate) async fn listed(
        &self,
        subtype: &str,
        tags: &Tags,
        properties: bool,
    ) -> Result<Vec<Box<RawValue>>, Error> {
        let params =
            wire::DescribeInstances { r#type: subtype.to_owned(), tags: Some(tags.clone()), properties };
        let reply: wire::ReadDescriptions = self
            .call("Instance.DescribeInstances", &params, &Call::default())
            .await
            .map_err(|fault| fault.into_error(Class::Internal))?;
        // An empty listing proves something, and a reply to another question does not.
        reply
            .descriptions
            .ok_or_else(|| Error::unsure("the reply has no Descriptions, so it is not a listing"))
    }

    /// Logs that instances of a listing are skipped, with the name of the plugin.
    fn warn_without_id(&self, subtype: &str, whys: &[String]) {
        let mut before = self.without_id.lock().expect("nobody panics while counting");
        let before = before.entry(subtype.to_owned()).or_default();
        if let Some(first) = whys.first().filter(|_| *before != whys.len()) {
            let first = bounds::shorten(first.clone());
            let plugin =
                if subtype.is_empty() { self.name.to_string() } else { format!("{}/{subtype}", self.name) };
            tracing::warn!(%plugin, skipped = whys.len(), why = ?first, "listed instances without a usable id are skipped");
        }
        *before = whys.len();
    }

    /// Subscribes to events. The stream ends with the connection. A server of Docker's InfraKit answers a
    /// subscription only with the first event.
    pub async fn events(&self, topic: &str) -> Result<impl Stream<Item = Event> + Send + use<>, Error> {
        let target = self.transport.target();
        let uri = hyper::Uri::builder()
            .scheme("http")
            .authority(target.authority().map_or("e", |authority| authority.as_str()))
            .path_and_query(format!("{}events?topic={}", directory_of(target.path()), escape(topic)))
            .build()
            .map_err(|error| Error::internal(format!("`{topic}` is not a topic: {error}")))?;
        let request = Request::get(uri)
            .header(ACCEPT, "text/event-stream")
            .body(Full::default())
            .map_err(Error::internal)?;
        let response = self.transport.open(request).await.map_err(|failure| match failure {
            Failure::NotConnected(why) => Error::new(Class::Unavailable, why),
            Failure::Broken(why) => Error::unsure(why),
        })?;
        if !response.status().is_success() {
            return Err(Error::internal(format!("the plugin does not serve events: {}", response.status())));
        }
        let state = (response.into_body(), Frames::default());
        let batches = stream::unfold(state, |(mut body, mut frames)| async move {
            let piece = body.frame().await?.ok()?;
            let events = piece.data_ref().map(|data| frames.push(data)).unwrap_or_default();
            Some((stream::iter(events), (body, frames)))
        });
        Ok(batches.flatten())
    }

    async fn call<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        params: &P,
        call: &Call,
    ) -> Result<R, Fault> {
        // Plugins of the C SDK name instances by this id, so it must not repeat.
        let id = rand::random::<u64>() >> 1;
        let request = wire::Outgoing { jsonrpc: "2.0", method, params, id };
        let body = serde_json::to_vec(&request).map_err(|error| Fault::Broken(error.to_string()))?;
        let mut request = Request::post(self.transport.target().clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| Fault::Broken(error.to_string()))?;
        fence::write(call, request.headers_mut());
        let answer =
            self.transport.exchange(request, self.deadline).await.map_err(|failure| match failure {
                Failure::NotConnected(why) => Fault::NotConnected(why),
                Failure::Broken(why) => Fault::Broken(why),
            })?;
        reply::read(&answer)
    }
}

fn directory_of(path: &str) -> &str {
    path.rfind('/').map_or("/", |at| &path[..=at])
}

/// Percent-encodes everything but unreserved characters.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// An object inside a plugin process.
struct Remote {
    client: Client,
    subtype: String,
}

#[async_trait]
impl Instances for Remote {
    async fn validate(&self, properties: &Opaque) -> Result<(), Error> {
        let params =
            wire::ValidateInstance { r#type: self.subtype.clone(), properties: convert::any(properties) };
        let reply: Result<wire::Typed, _> =
            self.client.call("Instance.Validate", &params, &Call::default()).await;
        // `OK: false` counts as success, as in every client of InfraKit.
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::InvalidSpec))
    }

    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error> {
        let params = wire::Provision { r#type: self.subtype.clone(), spec: convert::spec(spec) };
        let reply: wire::Provisioned = self
            .client
            .call("Instance.Provision", &params, call)
            .await
            // Many plugins create before they fail (decision 13).
            .map_err(|fault| fault.into_error(Class::Unsure))?;
        bounds::id(reply.id.unwrap_or_default()).map_err(|why| Error::unsure(format!("the reply: {why}")))
    }

    async fn label(&self, instance: &InstanceId, labels: &Tags, call: &Call) -> Result<(), Error> {
        let params = wire::Label {
            r#type: self.subtype.clone(),
            instance: instance.to_string(),
            labels: Some(labels.clone()),
        };
        let reply: Result<wire::Typed, _> = self.client.call("Instance.Label", &params, call).await;
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::Unsure))
    }

    async fn destroy(&self, instance: &InstanceId, reason: &str, call: &Call) -> Result<(), Error> {
        let params = wire::Destroy {
            r#type: self.subtype.clone(),
            instance: instance.to_string(),
            context: wire::Context { reason: reason.to_owned() },
        };
        let reply: Result<wire::Typed, _> = self.client.call("Instance.Destroy", &params, call).await;
        match reply.map_err(|fault| fault.into_error(Class::Unsure)) {
            Ok(_) | Err(Error { class: Class::NotFound, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn start(&self, instance: &InstanceId) -> Result<(), Error> {
        let params = wire::Start { r#type: self.subtype.clone(), instance: instance.to_string() };
        let reply: Result<wire::Typed, _> =
            self.client.call("Instance.Start", &params, &Call::default()).await;
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::Unsure))
    }

    async fn describe(&self, tags: &Tags, properties: bool) -> Result<Vec<Description>, Error> {
        let items = self.client.listed(&self.subtype, tags, properties).await?;
        let listing::Instances { known, without_id } = listing::read(&items);
        self.client.warn_without_id(&self.subtype, &without_id);
        Ok(known)
    }
}

#[async_trait]
impl Flavors for Remote {
    async fn validate(&self, properties: &Opaque, allocation: &Allocation) -> Result<(), Error> {
        let params = wire::ValidateFlavor {
            r#type: self.subtype.clone(),
            properties: convert::any(properties),
            allocation: convert::allocation(allocation),
        };
        let reply: Result<wire::Typed, _> =
            self.client.call("Flavor.Validate", &params, &Call::default()).await;
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::InvalidSpec))
    }

    async fn prepare(
        &self,
        properties: &Opaque,
        spec: InstanceSpec,
        allocation: &Allocation,
        index: &Index,
    ) -> Result<InstanceSpec, Error> {
        let params = wire::Prepare {
            r#type: self.subtype.clone(),
            properties: convert::any(properties),
            spec: convert::spec(&spec),
            allocation: convert::allocation(allocation),
            index: wire::GroupIndex { group: index.group.to_string(), sequence: index.sequence },
        };
        let reply: wire::Prepared = self
            .client
            .call("Flavor.Prepare", &params, &Call::default())
            .await
            .map_err(|fault| fault.into_error(Class::Internal))?;
        Ok(convert::from_spec(reply.spec))
    }

    async fn healthy(&self, properties: &Opaque, instance: &Description) -> Result<Verdict, Error> {
        let params = self.about(properties, instance);
        let reply: wire::Healthy = self
            .client
            .call("Flavor.Healthy", &params, &Call::default())
            .await
            .map_err(|fault| fault.into_error(Class::Internal))?;
        let message = bounds::shorten(reply.message);
        Ok(Verdict { health: convert::from_health(reply.health), message })
    }

    async fn drain(&self, properties: &Opaque, instance: &Description) -> Result<(), Error> {
        let params = self.about(properties, instance);
        let reply: Result<wire::Typed, _> = self.client.call("Flavor.Drain", &params, &Call::default()).await;
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::Internal))
    }
}

impl Remote {
    fn about(&self, properties: &Opaque, instance: &Description) -> wire::AboutInstance {
        wire::AboutInstance {
            r#type: self.subtype.clone(),
            properties: convert::any(properties),
            instance: convert::described(instance),
        }
    }
}
