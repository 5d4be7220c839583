//! Answers requests, with the deviations of the servers of Docker's InfraKit from JSON-RPC 2.0 (plugin-protocol §4).

use std::collections::BTreeMap;

use serde::Serialize;

use super::plugin::Plugin;
use crate::call::Call;
use crate::interface::handshake;
use crate::json::{self, Any};
use crate::rpc::{Failure, Fault, Request, Result, Success};

/// The reply to one request. None is an empty body, as in Docker's InfraKit: the request was invalid, or it
/// was a notification, which is executed all the same.
pub(super) async fn answer(plugin: &Plugin, body: &[u8], call: &Call) -> Option<String> {
    let request: Request = json::read(&String::from_utf8_lossy(body)).ok()?;
    let result = if request.jsonrpc.as_ref().is_some_and(|version| version.get() == "\"2.0\"") {
        dispatch(plugin, &request, call).await
    } else {
        Err(wrong_version(&request))
    };
    let id = request.id?;
    let text = match result {
        Ok(result) => serde_json::to_string(&Success { jsonrpc: "2.0", result, id: &id }),
        Err(error) => serde_json::to_string(&Failure { jsonrpc: "2.0", error, id: &id }),
    };
    let mut text = text.expect("raw values and strings always serialize");
    text.push('\n');
    Some(text)
}

fn wrong_version(request: &Request) -> Fault {
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
    Fault {
        code: -32600,
        message: "jsonrpc must be 2.0".into(),
        data: serde_json::value::to_raw_value(&data).ok(),
    }
}

async fn dispatch(plugin: &Plugin, request: &Request, call: &Call) -> Result {
    let method = request.method.as_str();
    let Some((service, name)) = method.split_once('.').filter(|(_, name)| !name.contains('.')) else {
        return Err(Fault::new(format!("rpc: service/method request ill-formed: \"{method}\"")));
    };
    plugin.gate.record(call);
    if service == handshake::SERVICE {
        return match name {
            "Hello" => handshake::answer(plugin.with_extensions()),
            _ => Err(request.no_method()),
        };
    }
    let method = plugin.method(request, service, name)?;
    if method.is_fenced {
        plugin.gate.admit(call)?;
    }
    plugin.object(request, service)?.answer(method.name, request, call).await
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
    let implements: Vec<_> = plugin.objects().keys().map(interface).collect();
    serde_json::json!({ "Vendor": vendor, "Implements": implements }).to_string()
}
