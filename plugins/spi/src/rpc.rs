//! JSON-RPC 2.0 as plugins speak it (plugin-protocol §4, §8): requests and replies as the server sees them. [`crate::json`]
//! reads them, and the data of others are kept as raw text.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::Error;
use crate::json::{self, Any};

/// The result of a method: JSON, or a fault.
pub(crate) type Result<T = Box<RawValue>> = std::result::Result<T, Fault>;

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

/// The class of an error, from plugins of this project. Anything else in `data` is ignored.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct FaultData {
    pub(crate) class: String,
}

/// The name of the object that a request is for.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Addressed {
    pub(crate) r#type: String,
}

/// A result that says nothing but that it is done.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Typed {
    pub(crate) r#type: String,
    #[serde(rename = "OK")]
    pub(crate) ok: bool,
}

impl Request {
    /// The parameters: an object, or a list of one; absent or null means all defaults. The error is the one of
    /// Docker's InfraKit.
    pub(crate) fn params<P: DeserializeOwned + Default>(&self) -> Result<P> {
        let Some(raw) = &self.params else { return Ok(P::default()) };
        let text = raw.get();
        let one = if text.trim_start().starts_with('[') {
            json::read::<Vec<&RawValue>>(text).ok().filter(|list| list.len() == 1).map(|list| list[0].get())
        } else {
            Some(text)
        };
        one.and_then(|one| json::read(one).ok()).ok_or_else(|| Fault {
            code: -32600,
            message: "json: cannot unmarshal object into Go value of type [1]interface {}".into(),
            data: Some(raw.clone()),
        })
    }

    /// The error for a method that its interface lacks.
    pub(crate) fn no_method(&self) -> Fault {
        Fault::new(format!("rpc: can't find method \"{}\"", self.method))
    }
}

impl Fault {
    /// The error of a server of Docker's InfraKit.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: -32000, message: message.into(), data: None }
    }
}

/// Errors have their class in `data`, which is null in Docker's InfraKit.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let data = FaultData { class: error.class.as_str().to_owned() };
        Fault { code: -32000, message: error.message, data: serde_json::value::to_raw_value(&data).ok() }
    }
}

/// The result of a method.
pub(crate) fn done<R: Serialize>(result: &R) -> Result {
    serde_json::value::to_raw_value(result).map_err(|error| Fault::new(error.to_string()))
}
