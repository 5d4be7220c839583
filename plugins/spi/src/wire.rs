//! The messages on the wire (plugin-protocol §8, §9): field names are those of Go, and the data of others are
//! kept as raw text. [`crate::json`] reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json::Tried;

/// Any JSON value, kept byte for byte; null and absent are the same.
pub(crate) type Any = Option<Box<RawValue>>;

#[derive(Deserialize)]
pub(crate) struct Request {
    #[serde(default)]
    pub(crate) jsonrpc: Any,
    #[serde(default)]
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) params: Any,
    #[serde(default)]
    pub(crate) id: Any,
}

#[derive(Serialize)]
pub(crate) struct Outgoing<'a, P: Serialize> {
    pub(crate) jsonrpc: &'static str,
    pub(crate) method: &'a str,
    pub(crate) params: &'a P,
    pub(crate) id: u64,
}

/// A reply as a tolerant client reads it: only `error` and `result` count (plugin-protocol §4).
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Reply<'a> {
    #[serde(borrow)]
    pub(crate) result: Option<&'a RawValue>,
    pub(crate) error: Option<&'a RawValue>,
}

#[derive(Serialize)]
pub(crate) struct Success<'a, R: Serialize> {
    pub(crate) jsonrpc: &'static str,
    pub(crate) result: R,
    pub(crate) id: &'a RawValue,
}

#[derive(Serialize)]
pub(crate) struct Failure<'a> {
    pub(crate) jsonrpc: &'static str,
    pub(crate) error: Fault,
    pub(crate) id: &'a RawValue,
}

#[derive(Serialize)]
pub(crate) struct Fault {
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) data: Any,
}

/// A JSON-RPC error as a tolerant client reads it.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ReadFault {
    pub(crate) message: String,
    pub(crate) data: Tried<Option<FaultData>>,
}

/// The class of an error, from plugins of this project. Anything else in `data` is ignored.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct FaultData {
    pub(crate) class: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct HelloReply {
    pub(crate) objects: BTreeMap<String, Option<Vec<Object>>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) proxy_for: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Typed {
    pub(crate) r#type: String,
    #[serde(rename = "OK")]
    pub(crate) ok: bool,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ValidateInstance {
    pub(crate) r#type: String,
    pub(crate) properties: Any,
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
pub(crate) struct Provision {
    pub(crate) r#type: String,
    pub(crate) spec: Spec,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Provisioned {
    pub(crate) r#type: String,
    #[serde(rename = "ID")]
    pub(crate) id: Option<String>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Label {
    pub(crate) r#type: String,
    pub(crate) instance: String,
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// Parameters of the extension `Instance.Start`.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Start {
    pub(crate) r#type: String,
    pub(crate) instance: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Destroy {
    pub(crate) r#type: String,
    pub(crate) instance: String,
    pub(crate) context: Context,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Context {
    pub(crate) reason: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct DescribeInstances {
    pub(crate) r#type: String,
    pub(crate) tags: Option<BTreeMap<String, String>>,
    pub(crate) properties: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Descriptions<D> {
    pub(crate) r#type: String,
    pub(crate) descriptions: Option<Vec<D>>,
}

/// A listing as it is read: null is an empty one, and none at all is not a listing.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ReadDescriptions {
    #[serde(default, deserialize_with = "if_present")]
    pub(crate) descriptions: Option<Vec<Box<RawValue>>>,
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

/// A description in a listing, as it is read: each field by itself.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ReadDescribed<'a> {
    #[serde(rename = "ID")]
    pub(crate) id: Tried<String>,
    #[serde(rename = "LogicalID")]
    pub(crate) logical_id: Tried<Option<String>>,
    #[serde(rename = "Tags")]
    pub(crate) tags: Tried<BTreeMap<String, String>>,
    #[serde(rename = "Properties", borrow)]
    pub(crate) properties: Option<&'a RawValue>,
    #[serde(rename = "State")]
    pub(crate) state: Option<&'a RawValue>,
}

/// The state of an instance.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    pub(crate) status: String,
    /// What ran in it has ended and can be started again; left out when it has not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ended: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i64>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

/// The state of an instance as it is read, in the notations of providers: `docker inspect` and EC2 have such an
/// object in their properties.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ReadState {
    pub(crate) status: Tried<String>,
    pub(crate) name: Tried<String>,
    pub(crate) ended: Tried<bool>,
    pub(crate) running: Tried<Option<bool>>,
    pub(crate) paused: Tried<bool>,
    pub(crate) restarting: Tried<bool>,
    pub(crate) dead: Tried<bool>,
    pub(crate) exit_code: Tried<Option<i64>>,
    pub(crate) since: Tried<String>,
    pub(crate) started_at: Tried<String>,
    pub(crate) finished_at: Tried<String>,
    pub(crate) message: Tried<String>,
    pub(crate) error: Tried<String>,
}

/// Where the properties of an instance commonly have its state.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct StateProperties<'a> {
    #[serde(borrow)]
    pub(crate) state: Option<&'a RawValue>,
    pub(crate) status: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct AllocationMethod {
    #[serde(rename = "Size")]
    pub(crate) size: u32,
    #[serde(rename = "LogicalIDs")]
    pub(crate) logical_ids: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct GroupIndex {
    pub(crate) group: String,
    pub(crate) sequence: u32,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ValidateFlavor {
    pub(crate) r#type: String,
    pub(crate) properties: Any,
    pub(crate) allocation: AllocationMethod,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Prepare {
    pub(crate) r#type: String,
    pub(crate) properties: Any,
    pub(crate) spec: Spec,
    pub(crate) allocation: AllocationMethod,
    pub(crate) index: GroupIndex,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Prepared {
    pub(crate) r#type: String,
    pub(crate) spec: Spec,
}

/// Parameters of `Flavor.Healthy` and `Flavor.Drain`.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct AboutInstance {
    pub(crate) r#type: String,
    pub(crate) properties: Any,
    pub(crate) instance: Described,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Healthy {
    pub(crate) r#type: String,
    pub(crate) health: i64,
    /// An extension: the reason. Clients of Docker's InfraKit ignore it.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[serde(rename = "Because")]
    pub(crate) message: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ListTopics {
    pub(crate) topic: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Nodes {
    pub(crate) nodes: Option<Vec<String>>,
}

/// An event in a stream (plugin-protocol §9.7).
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct StreamEvent {
    #[serde(rename = "Topic")]
    pub(crate) topic: String,
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub(crate) kind: String,
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "Message")]
    pub(crate) message: String,
    #[serde(rename = "Timestamp")]
    pub(crate) timestamp: String,
    #[serde(rename = "Received")]
    pub(crate) received: String,
    #[serde(rename = "Data", skip_serializing_if = "Option::is_none")]
    pub(crate) data: Any,
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
