//! The server of a plugin: instances, flavors and events on a socket, compatible with the clients of Docker's
//! InfraKit (plugin-protocol §1.1, §3, §4).

mod plugin;
mod rpc;

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::interface::event::{covers, frame};
use crate::{fence, socket};

pub use plugin::Plugin;

/// The largest request: twice a spec with the largest accepted properties.
const LARGEST_REQUEST: usize = 4 << 20;

/// A running server of a plugin. Dropping it frees its name, and lets the calls end that are under way.
pub struct Running {
    name: socket::Name,
    stop: watch::Sender<()>,
    /// Dropped by itself, it cuts nothing: only [`Running::stop`] says so.
    cut: watch::Sender<()>,
    serving: JoinHandle<()>,
}

impl Running {
    /// The path of its socket.
    pub fn socket(&self) -> &Path {
        self.name.socket()
    }

    /// Frees the name, accepts nothing more, and waits for the calls that are under way, until `patience` ends: then they
    /// are cut, with all that their plugin drops with them.
    pub async fn stop(mut self, patience: impl Future<Output = ()>) {
        self.name.withdraw();
        drop(self.stop);
        // Whoever is started under this name meanwhile is to find what these calls have done: the lock is kept.
        tokio::select! {
            _ = &mut self.serving => {}
            () = patience => {
                tracing::warn!("calls are still under way, and are cut");
                let _ = self.cut.send(());
                let _ = self.serving.await;
            }
        }
        drop(self.name);
    }
}

/// Serves `plugin` under `name` in `directory`. A stale socket of a dead process is replaced; the name of a
/// running one is an error.
pub fn serve(directory: &Path, name: &str, plugin: Plugin) -> io::Result<Running> {
    Ok(served(socket::bind(directory, name)?, plugin))
}

/// How long [`serve_soon`] waits.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// The same, but an earlier plugin of that name which is about to end is waited for, for ten seconds.
pub async fn serve_soon(directory: &Path, name: &str, plugin: Plugin) -> io::Result<Running> {
    let until = tokio::time::Instant::now() + ENDS_WITHIN;
    loop {
        match socket::bind(directory, name) {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && tokio::time::Instant::now() < until =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            bound => return Ok(served(bound?, plugin)),
        }
    }
}

fn served((listener, name): (UnixListener, socket::Name), plugin: Plugin) -> Running {
    let (stop, mut stopped) = watch::channel(());
    let (cut, mut is_cut) = watch::channel(());
    let plugin = Arc::new(plugin);
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.changed() => break,
            };
            let Ok((stream, _)) = accepted else {
                // Probably too many open files: wait for some to close.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let plugin = plugin.clone();
            let mut stopped = stopped.clone();
            connections.spawn(async move {
                let until = stopped.clone();
                let service = service_fn(|request| answer(plugin.clone(), request, until.clone()));
                let mut connection = pin!(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                );
                tokio::select! {
                    // The error of a client that disconnects is of no interest.
                    _ = connection.as_mut() => return,
                    _ = stopped.changed() => {}
                }
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            });
        }
        drop(listener);
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => return,
            Ok(()) = is_cut.changed() => {}
        }
        connections.shutdown().await;
    });
    Running { name, stop, cut, serving }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::from(text.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(body: String) -> Response<Body> {
    let mut response = Response::new(Full::from(body).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn answer(
    plugin: Arc<Plugin>,
    request: Request<Incoming>,
    until: watch::Receiver<()>,
) -> Result<Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        "/" => call(&plugin, request).await,
        "//" => {
            let mut moved = text(StatusCode::MOVED_PERMANENTLY, "");
            moved.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
            moved
        }
        "/info/api.json" => json(rpc::api(&plugin)),
        "/info/functions.json" => json("{}".to_owned()),
        "/events" => follow(&plugin, &request, until),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    })
}

async fn call(plugin: &Plugin, request: Request<Incoming>) -> Response<Body> {
    if request.method() != Method::POST {
        let why = format!("rpc: POST method required, received {}", request.method());
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, why);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    if let Some(kind) = request.headers().get(CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default();
        let media = kind.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/json") && !media.is_empty() {
            let why = format!("rpc: unrecognized Content-Type: {kind}");
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
        }
    }
    let call = fence::read(request.headers());
    match Limited::new(request.into_body(), LARGEST_REQUEST).collect().await {
        Ok(body) => json(rpc::answer(plugin, &body.to_bytes(), &call).await.unwrap_or_default()),
        Err(_) => text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("rpc: the request has more than {LARGEST_REQUEST} bytes"),
        ),
    }
}

/// A stream of the events that the topic covers; without events, it stays open until the server is stopped.
fn follow(plugin: &Plugin, request: &Request<Incoming>, mut until: watch::Receiver<()>) -> Response<Body> {
    let mut query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let topic =
        query.find(|(key, _)| key == "topic").map(|(_, topic)| topic.into_owned()).unwrap_or_default();
    let stopped = async move { while until.changed().await.is_ok() {} };
    let body = match &plugin.events {
        None => StreamBody::new(stream::pending().take_until(stopped)).boxed_unsync(),
        Some(events) => {
            let subscription = events.subscribe();
            let frames = stream::unfold(subscription, |mut subscription| async move {
                loop {
                    match subscription.recv().await {
                        Ok(event) => return Some((event, subscription)),
                        // A slow reader loses events, and gets the next ones.
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return None,
                    }
                }
            });
            let frames = frames.filter_map(move |event| {
                let sent = covers(&topic, &event.topic).then(|| Ok(Frame::data(Bytes::from(frame(&event)))));
                std::future::ready(sent)
            });
            StreamBody::new(frames.take_until(stopped)).boxed_unsync()
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
    response
}

#[cfg(test)]
mod tests;
