//! Reads the reply to a call like the client of Docker's InfraKit: `error` first, then `result`; id, version and
//! HTTP status are ignored.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::bounds;
use crate::error::{Class, Error};
use crate::json::{self, Tried};
use crate::rpc::FaultData;

/// A reply as a tolerant client reads it: only `error` and `result` count (plugin-protocol §4).
#[derive(Deserialize, Default)]
#[serde(default)]
struct Reply<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

/// A JSON-RPC error as a tolerant client reads it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadFault {
    message: String,
    data: Tried<Option<FaultData>>,
}

/// An error of the transport or the plugin, before it is classified.
pub(crate) enum Fault {
    NotConnected(String),
    Broken(String),
    Said { message: String, class: Option<Class> },
}

impl Fault {
    /// `unclassified` is the class of an error that the plugin does not classify.
    pub(crate) fn into_error(self, unclassified: Class) -> Error {
        match self {
            Fault::NotConnected(why) => Error::new(Class::Unavailable, bounds::shorten(why)),
            Fault::Broken(why) => Error::new(Class::Unsure, bounds::shorten(why)),
            Fault::Said { message, class } => {
                Error::new(class.unwrap_or(unclassified), bounds::shorten(message))
            }
        }
    }
}

pub(crate) fn read<R: DeserializeOwned>(answer: &Bytes) -> Result<R, Fault> {
    // As in Go, bytes that are not UTF-8 spoil nothing but the text that has them.
    let answer = String::from_utf8_lossy(answer);
    let garbled = |error: serde_json::Error| Fault::Broken(format!("the answer is not JSON-RPC: {error}"));
    // A text may follow the object; only the first value counts.
    let mut values = serde_json::Deserializer::from_str(&answer).into_iter::<&RawValue>();
    let whole = match values.next() {
        Some(whole) => whole.map_err(garbled)?,
        None => return Err(Fault::Broken("the reply is empty (EOF)".into())),
    };
    let reply: Reply<'_> = json::read_raw(whole).map_err(garbled)?;
    if let Some(error) = reply.error {
        return Err(said(error));
    }
    let Some(result) = reply.result else { return Err(Fault::Broken("result is null".into())) };
    json::read_raw(result).map_err(garbled)
}

/// An error that is not an object, or that has no message, is its own message.
fn said(error: &RawValue) -> Fault {
    let fault: ReadFault = json::read_raw(error).unwrap_or_default();
    let class = fault.data.0.ok().flatten().and_then(|data| Class::parse(&data.class));
    let message = if fault.message.is_empty() { error.get().to_owned() } else { fault.message };
    Fault::Said { message, class }
}
