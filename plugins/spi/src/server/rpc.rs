//! JSON-RPC 2.0, compatible with the servers of Docker's InfraKit and their deviations (plugin-protocol §4).

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::plugin::Plugin;
use crate::contract::{Call, Flavors, Index, Instances};
use crate::error::Error;
use crate::wire::{self, Any, FaultData};
use crate::{convert, interface, json};

/// The methods that the fence protects: they create, change or destroy instances.
const FENCED: [&str; 3] = ["Instance.Provision", "Instance.Label", "Instance.Destroy"];

/// The result of a method: JSON, or a fault.
type Result<T = Box<RawValue>> = std::result::Result<T, wire::Fault>;

/// The reply to one request. None is an empty body, as in Docker's InfraKit: the request was invalid, or it
/// was a notification, which is executed all the same.
pub(super) async fn answer(plugin: &Plugin, body: &[u8], call: &Call) -> Option<String> {
    let request: wire::Request = json::read(&String::from_utf8_lossy(body)).ok()?;
    let result = if request.jsonrpc.as_ref().is_some_and(|version| version.get() == "\"2.0\"") {
        dispatch(plugin, &request, call).await
    } else {
        Err(wrong_version(&request))
    };
    let id = request.id?;
    let text = match result {
        Ok(result) => serde_json::to_string(&wire::Success { jsonrpc: "2.0", result, id: &id }),
        Err(error) => serde_json::to_string(&wire::Failure { jsonrpc: "2.0", error, id: &id }),
    };
    let mut text = text.expect("raw values and strings always serialize");
    text.push('\n');
    Some(text)
}

fn wrong_version(request: &wire::Request) -> wire::Fault {
    #[derive(Serialize)]
    struct AsParsed<'a> {
        jsonrpc: &'a serde_json::Value,
        method: &'a str,
        params: &'a Any,
        id: &'a Any,
    }
    let version = request.jsonrpc.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok());
    let jsonrpc = version.unwrap_or_else(|| serde_json::Value::from(""));
    let data =
        AsParsed { jsonrpc: &jsonrpc, method: &request.method, params: &request.params, id: &request.id };
    wire::Fault {
        code: -32600,
        message: "jsonrpc must be 2.0".into(),
        data: serde_json::value::to_raw_value(&data).ok(),
    }
}

fn fault(message: impl Into<String>) -> wire::Fault {
    wire::Fault { code: -32000, message: message.into(), data: None }
}

/// Errors have their class in `data`, which is null in Docker's InfraKit.
impl From<Error> for wire::Fault {
    fn from(error: Error) -> Self {
        let data = FaultData { class: error.class.as_str().to_owned() };
        wire::Fault {
            code: -32000,
            message: error.message,
            data: serde_json::value::to_raw_value(&data).ok(),
        }
    }
}

/// The parameters: an object, or a list of one; absent or null means all defaults. The error is the one of
/// Docker's InfraKit.
fn params<P: DeserializeOwned + Default>(request: &wire::Request) -> Result<P> {
    let Some(raw) = &request.params else { return Ok(P::default()) };
    let text = raw.get();
    let one = if text.trim_start().starts_with('[') {
        json::read::<Vec<&RawValue>>(text).ok().filter(|list| list.len() == 1).map(|list| list[0].get())
    } else {
        Some(text)
    };
    one.and_then(|one| json::read(one).ok()).ok_or_else(|| wire::Fault {
        code: -32600,
        message: "json: cannot unmarshal object into Go value of type [1]interface {}".into(),
        data: Some(raw.clone()),
    })
}

fn done<R: Serialize>(result: &R) -> Result {
    serde_json::value::to_raw_value(result).map_err(|error| fault(error.to_string()))
}

async fn dispatch(plugin: &Plugin, request: &wire::Request, call: &Call) -> Result {
    let method = request.method.as_str();
    let Some((service, verb)) = method.split_once('.').filter(|(_, verb)| !verb.contains('.')) else {
        return Err(fault(format!("rpc: service/method request ill-formed: \"{method}\"")));
    };
    plugin.gate.record(call);
    if FENCED.contains(&method) {
        plugin.gate.admit(call)?;
    }
    match service {
        "Handshake" if verb == "Hello" => hello(plugin),
        "Instance" if !plugin.instances.is_empty() => instance(plugin, verb, request, call).await,
        "Flavor" if !plugin.flavors.is_empty() => flavor(plugin, verb, request).await,
        "Event" if plugin.events.is_some() && verb == "List" => {
            let asked: wire::ListTopics = params(request)?;
            let nodes = plugin.events.as_ref().and_then(|events| events.children(&asked.topic));
            done(&wire::Nodes { nodes })
        }
        "Handshake" => Err(no_method(method)),
        "Event" if plugin.events.is_some() => Err(no_method(method)),
        _ => Err(fault(format!("rpc: can't find service \"{method}\""))),
    }
}

fn no_method(method: &str) -> wire::Fault {
    fault(format!("rpc: can't find method \"{method}\""))
}

fn hello(plugin: &Plugin) -> Result {
    let named = |names: Vec<String>| {
        Some(names.into_iter().map(|name| wire::Object { name, proxy_for: String::new() }).collect())
    };
    let objects = plugin.objects().into_iter().map(|(key, names)| (key, named(names))).collect();
    done(&wire::HelloReply { objects })
}

fn instances<'a>(plugin: &'a Plugin, subtype: &str) -> Result<&'a dyn Instances> {
    match plugin.instances.get(subtype) {
        Some(found) => Ok(&**found),
        None => Err(fault(format!("no-plugin:{subtype}"))),
    }
}

fn flavors<'a>(plugin: &'a Plugin, subtype: &str) -> Result<&'a dyn Flavors> {
    match plugin.flavors.get(subtype) {
        Some(found) => Ok(&**found),
        None => Err(fault(format!("no-plugin:{subtype}"))),
    }
}

async fn instance(plugin: &Plugin, verb: &str, request: &wire::Request, call: &Call) -> Result {
    match verb {
        "Validate" => {
            let it: wire::ValidateInstance = params(request)?;
            instances(plugin, &it.r#type)?.validate(&convert::opaque(it.properties)).await?;
            done(&wire::Typed { r#type: it.r#type, ok: true })
        }
        "Provision" => {
            let it: wire::Provision = params(request)?;
            let id = instances(plugin, &it.r#type)?.provision(&convert::from_spec(it.spec), call).await?;
            done(&wire::Provisioned { r#type: it.r#type, id: Some(id.to_string()) })
        }
        "Label" => {
            let it: wire::Label = params(request)?;
            let labels = it.labels.unwrap_or_default();
            instances(plugin, &it.r#type)?.label(&it.instance.into(), &labels, call).await?;
            done(&wire::Typed { r#type: it.r#type, ok: true })
        }
        "Destroy" => {
            let it: wire::Destroy = params(request)?;
            instances(plugin, &it.r#type)?.destroy(&it.instance.into(), &it.context.reason, call).await?;
            done(&wire::Typed { r#type: it.r#type, ok: true })
        }
        "Start" if plugin.starts => {
            let it: wire::Start = params(request)?;
            instances(plugin, &it.r#type)?.start(&it.instance.into()).await?;
            done(&wire::Typed { r#type: it.r#type, ok: true })
        }
        "DescribeInstances" => {
            let it: wire::DescribeInstances = params(request)?;
            let tags = it.tags.unwrap_or_default();
            let found = instances(plugin, &it.r#type)?.describe(&tags, it.properties).await?;
            let descriptions: Option<Vec<_>> = Some(found.iter().map(convert::described).collect());
            done(&wire::Descriptions { r#type: it.r#type, descriptions })
        }
        _ => Err(no_method(&request.method)),
    }
}

async fn flavor(plugin: &Plugin, verb: &str, request: &wire::Request) -> Result {
    match verb {
        "Validate" => {
            let it: wire::ValidateFlavor = params(request)?;
            let allocation = convert::from_allocation(it.allocation);
            flavors(plugin, &it.r#type)?.validate(&convert::opaque(it.properties), &allocation).await?;
            done(&wire::Typed { r#type: it.r#type, ok: true })
        }
        "Prepare" => {
            let it: wire::Prepare = params(request)?;
            let allocation = convert::from_allocation(it.allocation);
            let index = Index { group: it.index.group.into(), sequence: it.index.sequence };
            let spec = flavors(plugin, &it.r#type)?
                .prepare(&convert::opaque(it.properties), convert::from_spec(it.spec), &allocation, &index)
                .await?;
            done(&wire::Prepared { r#type: it.r#type, spec: convert::spec(&spec) })
        }
        "Healthy" => {
            let it: wire::AboutInstance = params(request)?;
            let verdict = flavors(plugin, &it.r#type)?
                .healthy(&convert::opaque(it.properties), &convert::from_described(it.instance))
                .await?;
            done(&wire::Healthy {
                r#type: it.r#type,
                health: convert::health(verdict.health),
                message: verdict.message,
            })
        }
        "Drain" => {
            let it: wire::AboutInstance = params(request)?;
            flavors(plugin, &it.r#type)?
                .drain(&convert::opaque(it.properties), &convert::from_described(it.instance))
                .await?;
            done(&wire::Typed { r#type: it.r#type, ok: true })
        }
        _ => Err(no_method(&request.method)),
    }
}

/// `GET /info/api.json`: the served interfaces. Clients use Hello; this is for humans.
pub(super) fn api(plugin: &Plugin) -> String {
    let interface = |key: &String| {
        let (name, version) = key.split_once('/').unwrap_or((key, ""));
        BTreeMap::from([("Name", name.to_owned()), ("Version", version.to_owned()), ("Sub", String::new())])
    };
    let vendor = BTreeMap::from([
        ("Name", "infrakit".to_owned()),
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("Sub", String::new()),
        ("URL", String::new()),
    ]);
    let objects = plugin.objects();
    let implements: Vec<_> = objects
        .keys()
        .filter(|key| ![interface::FENCE, interface::START].contains(&key.as_str()))
        .map(interface)
        .collect();
    serde_json::json!({ "Vendor": vendor, "Implements": implements }).to_string()
}
