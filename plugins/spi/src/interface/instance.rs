//! `Instance/0.6.1`: creates, lists and destroys instances (plugin-protocol §9.1). The contract, its messages, and both
//! ends of the wire.

mod listing;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use model::tags::Tags;
use model::{Description, InstanceId, LogicalId, Opaque};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::bounds;
use crate::call::Call;
use crate::client::{Client, Remote};
use crate::error::{Class, Error};
use crate::json::{self, Any, any, opaque};
use crate::object::{Interface, Method, Object};
use crate::powers::START;
use crate::rpc::{self, Request, Typed};

/// Its name and version.
pub const ID: &str = "Instance/0.6.1";

pub(crate) static INTERFACE: Interface = Interface {
    id: ID,
    methods: &[
        Method::plain("Validate"),
        Method::fenced("Provision"),
        Method::fenced("Label"),
        Method::fenced("Destroy"),
        Method::extension("Start", START),
        Method::plain("DescribeInstances"),
    ],
};

/// The spec of an instance to create. A flavor returns unchanged what it does not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSpec {
    /// The properties for the instance plugin.
    pub properties: Opaque,
    /// The tags of the instance.
    pub tags: Tags,
    /// The boot script; empty for none.
    pub init: String,
    /// The logical id, for a pet.
    pub logical_id: Option<LogicalId>,
    /// What to attach to the instance, such as volumes.
    pub attachments: Vec<Attachment>,
}

/// Something to attach to an instance; the instance plugin interprets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: String,
}

/// The interface of instance plugins: creates, lists and destroys instances.
#[async_trait]
pub trait Instances: Send + Sync + 'static {
    /// Validates the properties, not a whole spec.
    async fn validate(&self, properties: &Opaque) -> Result<(), Error>;

    /// Creates an instance with all its tags, and returns its id.
    ///
    /// After an `Unsure` error, or any unclassified error, the instance may have been created.
    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error>;

    /// Adds or replaces tags of an instance, and keeps the others. An unknown id is an error.
    async fn label(&self, instance: &InstanceId, labels: &Tags, call: &Call) -> Result<(), Error>;

    /// Destroys an instance; one that does not exist counts as destroyed. `reason` is `terminate` or
    /// `rolling_update`.
    async fn destroy(&self, instance: &InstanceId, reason: &str, call: &Call) -> Result<(), Error>;

    /// Starts a stopped instance; a running one is left alone. Idempotent, and creates nothing. Only for
    /// plugins that list `Start/0.1.0`.
    async fn start(&self, instance: &InstanceId) -> Result<(), Error> {
        Err(Error::new(Class::InvalidSpec, format!("this plugin cannot start `{instance}`")))
    }

    /// Lists every instance that has all these tags with exactly these values. A partial list must be an
    /// error.
    ///
    /// # The state of an instance
    ///
    /// A description should have the state of its instance. It is an extension of the protocol: the optional
    /// key `State` of a description, beside `ID` and `Tags`. Clients of Docker's InfraKit ignore it.
    ///
    /// ```text
    /// "State": {"Status": "Failed", "ExitCode": 137, "Since": "2030-01-31T12:00:00Z", "Message": "out of memory"}
    /// ```
    ///
    /// Only `Status` is required. `"Ended": true` beside `Failed` says that what ran in it has ended and can be started
    /// again. The status is one of
    ///
    /// | status | meaning |
    /// |---|---|
    /// | `Running` | it runs |
    /// | `Starting` | it is created or started, and has not failed |
    /// | `Stopped` | it was stopped, or ended without an error |
    /// | `Paused` | it is paused or suspended, with its memory |
    /// | `Failed` | it ended with an error, restarts again and again, or cannot be read |
    /// | `Unknown` | the plugin does not know |
    ///
    /// If a plugin in another process does not report it, the client derives it from `State` or `Status` in the
    /// properties: from a word, or from an object with the word as `Status` (`docker inspect`) or `Name` (EC2).
    /// The words count in any case, and with or without `-`, `_` and spaces. Any other word is no state.
    ///
    /// | status | words of providers |
    /// |---|---|
    /// | `Running` | running, active, powered on |
    /// | `Starting` | starting, created, creating, pending, provisioning, staging, initializing, build, building, booting, reboot, rebooting |
    /// | `Stopped` | stopped, stopping, off, shutoff, powered off, shutting down, terminated, terminating, deallocated, deallocating, removing |
    /// | `Paused` | paused, suspended, suspending |
    /// | `Failed` | failed, error, dead, restarting, crashed |
    /// | `Unknown` | unknown |
    /// | `Stopped` or `Failed` | exited: `Failed` if the exit code is not zero |
    ///
    /// An object without such a word is read by its `Restarting`, `Dead`, `Paused` and `Running`, as
    /// `docker inspect` has them.
    ///
    /// # What the client tolerates
    ///
    /// Each instance is read by itself. One that cannot be read in full is listed with what can be read and the
    /// state `Unknown`, with the reason; one without an id, or with an id of more than
    /// [`LONGEST_ID`](crate::LONGEST_ID) bytes, is skipped with a warning. Of several with one id, the last
    /// holds. A reply without `Descriptions` is an error; null is an empty list.
    async fn describe(&self, tags: &Tags, properties: bool) -> Result<Vec<Description>, Error>;
}

/// An instance plugin, as it is served.
pub(crate) struct Served(pub(crate) Arc<dyn Instances>);

#[async_trait]
impl Object for Served {
    async fn answer(&self, method: &'static str, request: &Request, call: &Call) -> rpc::Result {
        match method {
            "Validate" => {
                let it: ValidateInstance = request.params()?;
                self.0.validate(&opaque(it.properties)).await?;
                rpc::done(&Typed { r#type: it.r#type, ok: true })
            }
            "Provision" => {
                let it: Provision = request.params()?;
                let id = self.0.provision(&it.spec.into(), call).await?;
                rpc::done(&Provisioned { r#type: it.r#type, id: Some(id.to_string()) })
            }
            "Label" => {
                let it: Label = request.params()?;
                let labels = it.labels.unwrap_or_default();
                self.0.label(&it.instance.into(), &labels, call).await?;
                rpc::done(&Typed { r#type: it.r#type, ok: true })
            }
            "Destroy" => {
                let it: Destroy = request.params()?;
                self.0.destroy(&it.instance.into(), &it.context.reason, call).await?;
                rpc::done(&Typed { r#type: it.r#type, ok: true })
            }
            "Start" => {
                let it: Start = request.params()?;
                self.0.start(&it.instance.into()).await?;
                rpc::done(&Typed { r#type: it.r#type, ok: true })
            }
            "DescribeInstances" => {
                let it: DescribeInstances = request.params()?;
                let tags = it.tags.unwrap_or_default();
                let found = self.0.describe(&tags, it.properties).await?;
                let descriptions: Option<Vec<_>> = Some(found.iter().map(Described::from).collect());
                rpc::done(&Descriptions { r#type: it.r#type, descriptions })
            }
            _ => Err(request.no_method()),
        }
    }
}

impl Client {
    /// The instance plugin at `subtype` (empty for the base object).
    pub fn instances(&self, subtype: &str) -> impl Instances + use<> {
        Remote { client: self.clone(), subtype: subtype.to_owned() }
    }

    /// A listing, as its items come.
    pub(crate) async fn listed(
        &self,
        subtype: &str,
        tags: &Tags,
        properties: bool,
    ) -> Result<Vec<Box<RawValue>>, Error> {
        let params = DescribeInstances { r#type: subtype.to_owned(), tags: Some(tags.clone()), properties };
        let reply: ReadDescriptions = self
            .call("Instance.DescribeInstances", &params, &Call::default())
            .await
            .map_err(|fault| fault.into_error(Class::Internal))?;
        // An empty listing proves something, and a reply to another question does not.
        reply
            .descriptions
            .ok_or_else(|| Error::unsure("the reply has no Descriptions, so it is not a listing"))
    }
}

#[async_trait]
impl Instances for Remote {
    async fn validate(&self, properties: &Opaque) -> Result<(), Error> {
        let params = ValidateInstance { r#type: self.subtype.clone(), properties: any(properties) };
        let reply: Result<Typed, _> = self.client.call("Instance.Validate", &params, &Call::default()).await;
        // `OK: false` counts as success, as in every client of InfraKit.
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::InvalidSpec))
    }

    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error> {
        let params = Provision { r#type: self.subtype.clone(), spec: spec.into() };
        let reply: Provisioned = self
            .client
            .call("Instance.Provision", &params, call)
            .await
            // Many plugins create before they fail (decision 13).
            .map_err(|fault| fault.into_error(Class::Unsure))?;
        bounds::id(reply.id.unwrap_or_default()).map_err(|why| Error::unsure(format!("the reply: {why}")))
    }

    async fn label(&self, instance: &InstanceId, labels: &Tags, call: &Call) -> Result<(), Error> {
        let params = Label {
            r#type: self.subtype.clone(),
            instance: instance.to_string(),
            labels: Some(labels.clone()),
        };
        let reply: Result<Typed, _> = self.client.call("Instance.Label", &params, call).await;
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::Unsure))
    }

    async fn destroy(&self, instance: &InstanceId, reason: &str, call: &Call) -> Result<(), Error> {
        let params = Destroy {
            r#type: self.subtype.clone(),
            instance: instance.to_string(),
            context: Context { reason: reason.to_owned() },
        };
        let reply: Result<Typed, _> = self.client.call("Instance.Destroy", &params, call).await;
        match reply.map_err(|fault| fault.into_error(Class::Unsure)) {
            Ok(_) | Err(Error { class: Class::NotFound, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn start(&self, instance: &InstanceId) -> Result<(), Error> {
        let params = Start { r#type: self.subtype.clone(), instance: instance.to_string() };
        let reply: Result<Typed, _> = self.client.call("Instance.Start", &params, &Call::default()).await;
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::Unsure))
    }

    async fn describe(&self, tags: &Tags, properties: bool) -> Result<Vec<Description>, Error> {
        let items = self.client.listed(&self.subtype, tags, properties).await?;
        let listing::Instances { known, without_id } = listing::read(&items);
        self.client.warn_without_id(&self.subtype, &without_id);
        Ok(known)
    }
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct ValidateInstance {
    r#type: String,
    properties: Any,
}

#[derive(Serialize, Deserialize, Default, Debug, Clone)]
#[serde(default)]
pub(crate) struct Spec {
    #[serde(rename = "Properties")]
    pub(crate) properties: Any,
    #[serde(rename = "Tags")]
    pub(crate) tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "Init", deserialize_with = "null_as_default")]
    pub(crate) init: String,
    #[serde(rename = "LogicalID")]
    pub(crate) logical_id: Option<String>,
    #[serde(rename = "Attachments")]
    pub(crate) attachments: Option<Vec<Attached>>,
}

#[derive(Serialize, Deserialize, Default, Debug, Clone)]
#[serde(default)]
pub(crate) struct Attached {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "Type")]
    pub(crate) kind: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Provision {
    r#type: String,
    spec: Spec,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Provisioned {
    r#type: String,
    #[serde(rename = "ID")]
    id: Option<String>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Label {
    r#type: String,
    instance: String,
    labels: Option<BTreeMap<String, String>>,
}

/// Parameters of the extension `Instance.Start`.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Start {
    r#type: String,
    instance: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Destroy {
    r#type: String,
    instance: String,
    context: Context,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Context {
    reason: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct DescribeInstances {
    r#type: String,
    tags: Option<BTreeMap<String, String>>,
    properties: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Descriptions<D> {
    r#type: String,
    descriptions: Option<Vec<D>>,
}

/// A listing as it is read: null is an empty one, and none at all is not a listing.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReadDescriptions {
    #[serde(default, deserialize_with = "if_present")]
    descriptions: Option<Vec<Box<RawValue>>>,
}

#[derive(Serialize, Deserialize, Default, Clone)]
#[serde(default)]
pub(crate) struct Described {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "LogicalID")]
    pub(crate) logical_id: Option<String>,
    #[serde(rename = "Tags")]
    pub(crate) tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "Properties", skip_serializing_if = "Option::is_none")]
    pub(crate) properties: Any,
    /// An extension: a [`State`]. Clients of Docker's InfraKit ignore it.
    #[serde(rename = "State", skip_serializing_if = "Option::is_none")]
    pub(crate) state: Any,
}

/// The zero value is one that was sent.
fn if_present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// In Go, an explicit null leaves a plain value unchanged (plugin-protocol §8.1).
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl From<&InstanceSpec> for Spec {
    fn from(spec: &InstanceSpec) -> Self {
        Spec {
            properties: any(&spec.properties),
            tags: Some(spec.tags.clone()),
            init: spec.init.clone(),
            logical_id: spec.logical_id.as_ref().map(LogicalId::to_string),
            attachments: (!spec.attachments.is_empty()).then(|| {
                spec.attachments
                    .iter()
                    .map(|it| Attached { id: it.id.clone(), kind: it.kind.clone() })
                    .collect()
            }),
        }
    }
}

impl From<Spec> for InstanceSpec {
    fn from(spec: Spec) -> Self {
        InstanceSpec {
            properties: opaque(spec.properties),
            tags: spec.tags.unwrap_or_default(),
            init: spec.init,
            logical_id: spec.logical_id.map(LogicalId::from),
            attachments: spec
                .attachments
                .unwrap_or_default()
                .into_iter()
                .map(|it| Attachment { id: it.id, kind: it.kind })
                .collect(),
        }
    }
}

impl From<&Description> for Described {
    fn from(description: &Description) -> Self {
        Described {
            id: description.id.to_string(),
            logical_id: description.logical_id.as_ref().map(LogicalId::to_string),
            tags: Some(description.tags.clone()),
            properties: description.properties.as_ref().and_then(any),
            state: state::write(description),
        }
    }
}

impl From<Described> for Description {
    fn from(described: Described) -> Self {
        let state = state::reported(described.state.as_deref(), described.properties.as_deref());
        Description {
            id: described.id.into(),
            logical_id: described.logical_id.filter(|id| !id.is_empty()).map(LogicalId::from),
            tags: described.tags.unwrap_or_default(),
            properties: described.properties.map(|raw| Opaque::from_json(raw.get())),
            state,
        }
    }
}

/// Parses an `instance.Spec` from JSON, for commands that pass a file to a plugin.
pub fn instance_spec_from_json(json: &str) -> Result<InstanceSpec, Error> {
    let read: Spec = serde_json::from_str(json)
        .map_err(|error| Error::invalid(format!("not a valid instance spec: {error}")))?;
    Ok(read.into())
}

/// Writes the description of an instance as JSON.
pub fn description_to_json(it: &Description) -> String {
    serde_json::to_string(&Described::from(it)).expect("a description holds strings and valid JSON only")
}

/// Reads the descriptions of a listing, each with the tolerance of a client. One without a usable id is an error.
pub fn descriptions_from_json(items: &[String]) -> Result<Vec<Description>, Error> {
    let items: Result<Vec<_>, _> = items.iter().map(|item| RawValue::from_string(item.clone())).collect();
    let listed = listing::read(&items.map_err(Error::internal)?);
    match listed.without_id.into_iter().next() {
        Some(why) => Err(Error::internal(format!("an instance is listed without a usable id: {why}"))),
        None => Ok(listed.known),
    }
}

/// Writes an `instance.Spec` as JSON.
pub fn instance_spec_to_json(it: &InstanceSpec) -> String {
    serde_json::to_string(&Spec::from(it)).expect("an instance spec holds strings and valid JSON only")
}

/// Whether a listed instance has a `State`; the error says why it is not in the form of the contract.
pub(crate) fn has_state(item: &RawValue) -> Result<bool, String> {
    let read: listing::ReadDescribed<'_> = json::read_raw(item).map_err(|error| error.to_string())?;
    let Some(state) = read.state else { return Ok(false) };
    state::check(state).map(|()| true).map_err(|why| format!("{}: {why}", state.get()))
}
