//! The messages on the wire (plugin-protocol §8, §9): field names are those of Go, any value may be null, and
//! the data of others are kept as raw text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

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
#[derive(Deserialize)]
pub(crate) struct Reply {
    #[serde(default)]
    pub(crate) result: Any,
    #[serde(default)]
    pub(crate) error: Any,
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
#[derive(Deserialize)]
pub(crate) struct ReadFault {
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) data: Option<FaultData>,
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
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) r#type: String,
    #[serde(rename = "OK")]
    pub(crate) ok: bool,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ValidateInstance {
    #[serde(deserialize_with = "null_as_default")]
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
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) r#type: String,
    #[serde(deserialize_with = "null_as_default")]
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
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) r#type: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) instance: String,
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// Parameters of the extension `Instance.Start`.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Start {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) r#type: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) instance: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Destroy {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) r#type: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) instance: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) context: Context,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Context {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) reason: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct DescribeInstances {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) r#type: String,
    pub(crate) tags: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) properties: bool,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Descriptions {
    pub(crate) r#type: String,
    pub(crate) descriptions: Option<Vec<Described>>,
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
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct AllocationMethod {
    #[serde(rename = "Size", deserialize_with = "null_as_default")]
    pub(crate) size: u32,
    #[serde(rename = "LogicalIDs")]
    pub(crate) logical_ids: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct GroupIndex {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) group: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) sequence: u32,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ValidateFlavor {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) r#type: String,
    pub(crate) properties: Any,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) allocation: AllocationMethod,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Prepare {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) r#type: String,
    pub(crate) properties: Any,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) spec: Spec,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) allocation: AllocationMethod,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) index: GroupIndex,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Prepared {
    pub(crate) r#type: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) spec: Spec,
}

/// Parameters of `Flavor.Healthy` and `Flavor.Drain`.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct AboutInstance {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) r#type: String,
    pub(crate) properties: Any,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) instance: Described,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Healthy {
    pub(crate) r#type: String,
    pub(crate) health: u8,
    /// An extension: the reason. Clients of Docker's InfraKit ignore it.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[serde(rename = "Because")]
    pub(crate) message: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ListTopics {
    #[serde(deserialize_with = "null_as_default")]
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

/// In Go, an explicit null leaves a plain value unchanged (plugin-protocol §8.1).
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
