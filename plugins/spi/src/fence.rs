//! What travels beside a call to plugins that list `Fence/0.1.0`: HTTP headers, so that InfraKit's
//! own messages stay as they are (decision 18).

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use crate::contract::Call;

/// Stands before a span among the objects of `Fence/0.1.0` in Hello: how far listings may lag behind.
pub(crate) const LISTS_WITHIN: &str = "lists-within=";

const TOKEN: &str = "infrakit-token";
const EPOCH: &str = "infrakit-epoch";

pub(crate) fn write(call: &Call, headers: &mut HeaderMap) {
    // A token is [a-z0-9-] and an epoch a number, so neither can fail to be a header.
    if let Some(token) = call.token.as_ref().and_then(|token| HeaderValue::from_str(token).ok()) {
        headers.insert(TOKEN, token);
    }
    if let Some(epoch) = call.epoch {
        headers.insert(EPOCH, HeaderValue::from(epoch));
    }
}

pub(crate) fn read(headers: &HeaderMap) -> Call {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Call { token: text(TOKEN).map(str::to_owned), epoch: text(EPOCH).and_then(|epoch| epoch.parse().ok()) }
}
