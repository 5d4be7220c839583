//! HTTP to a plugin, over its unix socket or TCP address, with a pool of connections.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The address of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    /// `http://host:port/path`.
    Http(Uri),
}

/// The largest reply: a listing of 100,000 instances with 2 KiB each.
const LARGEST_ANSWER: usize = 256 << 20;

/// The number of idle connections, as in Docker's InfraKit.
const IDLE: usize = 64;

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing listens there; nothing was sent.
    NotConnected(String),
    /// The call may have taken effect.
    Broken(String),
}

#[derive(Clone)]
pub(crate) struct Transport {
    http: Client<Dial, Full<Bytes>>,
    target: Uri,
}

impl Transport {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let target = match &endpoint {
            // InfraKit's client sends this host; servers ignore it.
            Endpoint::Unix(_) => Uri::from_static("http://h/"),
            Endpoint::Http(uri) => uri.clone(),
        };
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(Duration::from_secs(10))
            .build(Dial { endpoint });
        Self { http, target }
    }

    pub(crate) fn target(&self) -> &Uri {
        &self.target
    }

    /// One request and its whole reply. The status is ignored: servers put their errors into the body.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<Bytes, Failure> {
        let exchange = async {
            let response = self.open(request).await?;
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            Ok(body.map_err(|error| Failure::Broken(format!("the reply is incomplete: {error}")))?.to_bytes())
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Broken(format!("no reply within {deadline:?}"))),
        }
    }

    /// One request with a streaming reply.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        self.http.request(request).await.map_err(|error| {
            let cause = innermost(&error);
            if error.is_connect() { Failure::NotConnected(cause) } else { Failure::Broken(cause) }
        })
    }
}

/// The message of the innermost cause, usually from the operating system.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[derive(Clone)]
struct Dial {
    endpoint: Endpoint,
}

/// A connection over a unix socket or TCP.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<Stream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let endpoint = self.endpoint.clone();
        Box::pin(async move {
            let stream = match endpoint {
                Endpoint::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
                Endpoint::Http(_) => {
                    let mut tcp = HttpConnector::new();
                    tcp.set_nodelay(true);
                    let connected = tower_service::Service::call(&mut tcp, uri).await;
                    Stream::Tcp(connected.map_err(std::io::Error::other)?.into_inner())
                }
            };
            Ok(TokioIo::new(stream))
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
