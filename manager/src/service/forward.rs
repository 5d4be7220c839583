//! Forwards calls to the leader, as they are: in a layer before the services.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use model::NodeId;
use raft::{Replica, Role};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::service_fn;

use crate::accept::Caller;
use crate::access::Principal;
use crate::dial::Secure;

/// Header of a forwarded call, which is not forwarded again.
const FORWARDED: &str = "infrakit-forwarded";

/// Connections to the other managers.
#[derive(Clone)]
pub(super) struct Forward {
    replica: Replica,
    role: watch::Receiver<Role>,
    dial: Secure,
    channels: Arc<Mutex<Channels>>,
}

/// A channel for each manager, with its address.
type Channels = BTreeMap<NodeId, (String, Channel)>;

impl Forward {
    pub(super) fn new(replica: Replica, role: watch::Receiver<Role>, dial: Secure) -> Self {
        Self { replica, role, dial, channels: Arc::default() }
    }

    /// Puts the layer before a service.
    pub(super) fn before<S>(&self, service: S) -> AtLeader<S> {
        AtLeader { service, forward: self.clone(), work: Handle::current() }
    }

    fn leads(&self) -> bool {
        matches!(*self.role.borrow(), Role::Leader { .. })
    }

    /// A channel to the leader for a call with these headers; none if this manager is the leader.
    pub(super) fn leader(&self, headers: &http::HeaderMap) -> Result<Option<Channel>, Status> {
        let leader = match *self.role.borrow() {
            Role::Leader { .. } => return Ok(None),
            Role::Other { leader, .. } => leader,
        };
        let Some(leader) = leader.filter(|_| !headers.contains_key(FORWARDED)) else {
            return Err(Status::unavailable("there is no leader at the moment"));
        };
        self.to(leader).map(Some)
    }

    /// A channel to a manager.
    pub(super) fn to(&self, node: NodeId) -> Result<Channel, Status> {
        let address = self
            .replica
            .address_of(node)
            .ok_or_else(|| Status::unavailable(format!("the address of manager {node} is not known yet")))?;
        let mut channels = self.channels.lock().expect("nobody panics while holding the channels");
        if let Some((known, channel)) = channels.get(&node)
            && *known == address
        {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| {
                Status::unavailable(format!("the address `{address}` of manager {node}: {error}"))
            })?
            .connect_timeout(Duration::from_secs(1))
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_secs(2));
        let connector = service_fn(self.dial.connector(&address));
        let channel = endpoint.connect_with_connector_lazy(connector);
        channels.insert(node, (address, channel.clone()));
        Ok(channel)
    }
}

/// Whether a call was passed on by another manager.
pub(super) fn is_forwarded<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(FORWARDED)
}

/// Adds the headers of a forwarded call.
fn mark(headers: &mut http::HeaderMap, principal: Option<&Principal>) {
    if let Some(principal) = principal {
        principal.mark(headers);
    }
    headers.insert(FORWARDED, http::HeaderValue::from_static("1"));
}

/// A request with the headers of a forwarded call.
pub(super) fn marked<T>(mut request: Request<T>) -> Request<T> {
    let mut headers = std::mem::take(request.metadata_mut()).into_headers();
    mark(&mut headers, request.extensions().get::<Principal>());
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    request
}

/// A service whose calls are answered by the leader: on another manager they are passed on to it, and its answers are
/// passed back, as they come.
#[derive(Clone)]
pub(super) struct AtLeader<S> {
    service: S,
    forward: Forward,
    /// What is passed on runs here, with the connection to the leader: it may be large.
    work: Handle,
}

impl<S: NamedService> NamedService for AtLeader<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for AtLeader<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if api::is_answered_anywhere(request.uri().path()) {
            return Box::pin(self.service.call(request));
        }
        if self.forward.leads() {
            return Box::pin(self.service.call(request));
        }
        let (forward, mut service) = (self.forward.clone(), self.service.clone());
        let answer = self.work.spawn(async move {
            match forward.leader(request.headers()) {
                // It has been elected meanwhile.
                Ok(None) => service.call(request).await,
                Ok(Some(leader)) => Ok(passed_on(leader, request).await),
                Err(status) => Ok(status.into_http()),
            }
        });
        Box::pin(async move {
            // It is cancelled only when the manager stops.
            answer.await.unwrap_or_else(|error| Ok(Status::unavailable(error.to_string()).into_http()))
        })
    }
}

async fn passed_on(mut leader: Channel, mut request: http::Request<Body>) -> http::Response<Body> {
    let principal = request.extensions().get::<Principal>().cloned();
    if request.extensions().get::<Caller>() == Some(&Caller::Unknown) {
        // What is left unfinished by somebody who is not known is left here; it is small.
        let (parts, body) = request.into_parts();
        match body.collect().await {
            Ok(body) => request = http::Request::from_parts(parts, Body::new(Full::from(body.to_bytes()))),
            Err(error) => return Status::from_error(error.into()).into_http(),
        }
    }
    mark(request.headers_mut(), principal.as_ref());
    // The rest of the address is that of the channel.
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = path.into();
    }
    let answer = async {
        poll_fn(|cx| leader.poll_ready(cx)).await?;
        leader.call(request).await
    };
    answer.await.unwrap_or_else(|error| Status::from_error(error.into()).into_http())
}
