//! A connection to a peer.

use std::error::Error as StdError;
use std::time::Duration;

use tonic::body::Body;
use tonic::transport::Endpoint;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// A peer on the same network accepts a connection in a few milliseconds, one at another site in three round trips. A
/// longer timeout would only delay the next attempt.
const CONNECT: Duration = Duration::from_secs(1);

/// One connection to a peer: gRPC requests in, responses out.
pub type Line = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Broken>;

/// Why a connection cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Broken {
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Broken {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }
}

/// Connects to peers. A line is requested once, and reconnects by itself.
pub trait Dial: Send + Sync + 'static {
    fn dial(&self, address: &str) -> Result<Line, String>;
}

/// A line over connections that `connector` makes.
pub fn line<C>(address: &str, connector: C) -> Result<Line, String>
where
    C: tower::Service<http::Uri> + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin,
    C::Future: Send,
    C::Error: StdError + Send + Sync + 'static,
{
    let channel = endpoint(address)?.connect_with_connector_lazy(connector);
    Ok(Line::new(channel.map_err(|error| Broken { what: chain(&error), source: Some(error.into()) })))
}

/// An error with all its causes: the message of tonic is only "transport error".
fn chain(error: &dyn StdError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

fn endpoint(address: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("`{address}` is not an address: {error}"))?
        .connect_timeout(CONNECT)
        // A hung peer is detected within three seconds, even if its machine still responds.
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    Ok(endpoint)
}
