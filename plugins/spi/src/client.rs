//! The client of a plugin in another process. It accepts what the client of Docker's InfraKit accepts
//! (plugin-protocol §4), and classifies unknown outcomes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::reply::Fault;
use crate::transport::{Endpoint, Failure, Transport};
use crate::{bounds, fence, reply};

/// A client of one plugin process.
#[derive(Clone)]
pub struct Client {
    /// The lookup name of the plugin.
    name: Arc<str>,
    pub(crate) transport: Transport,
    deadline: Duration,
    /// How many listed instances had no usable id the last time, by subtype: a warning is not repeated while
    /// that is the same.
    without_id: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Client {
    pub(crate) fn new(name: &str, endpoint: Endpoint, deadline: Duration) -> Self {
        Self { name: name.into(), transport: Transport::new(endpoint), deadline, without_id: Arc::default() }
    }

    /// Logs that instances of a listing are skipped, with the name of the plugin.
    pub(crate) fn warn_without_id(&self, subtype: &str, whys: &[String]) {
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

    pub(crate) async fn call<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        params: &P,
        call: &Call,
    ) -> Result<R, Fault> {
        // Plugins of the C SDK name instances by this id, so it must not repeat.
        let id = rand::random::<u64>() >> 1;
        let request = Outgoing { jsonrpc: "2.0", method, params, id };
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

/// An object inside a plugin process.
pub(crate) struct Remote {
    pub(crate) client: Client,
    pub(crate) subtype: String,
}

#[derive(Serialize)]
struct Outgoing<'a, P: Serialize> {
    jsonrpc: &'static str,
    method: &'a str,
    params: &'a P,
    id: u64,
}
