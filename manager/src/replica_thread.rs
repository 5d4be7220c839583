//! The thread of the replica and the servers, and the way to other threads for work that takes longer.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::error::Error;

/// A thread for the replica and the servers: heartbeats, votes and replies never wait behind the reconcilers,
/// however large a listing they read, and do not move between threads.
pub(crate) struct ReplicaThread(Option<Runtime>);

impl ReplicaThread {
    pub(crate) fn new() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("replica")
            .enable_all()
            .build()
            .map_err(|error| Error::new("a thread cannot be started", error, ""))?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.as_ref().expect("it is taken only when it is dropped").spawn(work)
    }

    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.spawn(work).await.expect("it is neither cancelled nor does it panic")
    }
}

impl Drop for ReplicaThread {
    fn drop(&mut self) {
        // Not from within a runtime's own thread, which may not wait.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The calls that are as cheap as the switch to another thread.
const SMALL: &str = "/infrakit.v1.Variables/";

/// Runs a service on another thread, except for calls that are as cheap as the switch: a call that visits
/// every slot of a large group must not delay a heartbeat.
#[derive(Clone)]
pub(crate) struct Away<S> {
    service: S,
    work: Handle,
}

impl<S> Away<S> {
    /// Runs on the current runtime.
    pub(crate) fn from_here(service: S) -> Self {
        Self { service, work: Handle::current() }
    }
}

impl<S: NamedService> NamedService for Away<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Away<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let small = request.uri().path().starts_with(SMALL);
        let answer = self.service.call(request);
        if small {
            return Box::pin(answer);
        }
        let answer = self.work.spawn(answer);
        Box::pin(async move {
            match answer.await {
                Ok(answer) => answer,
                // It is cancelled only when the manager stops.
                Err(error) => Ok(tonic::Status::unavailable(error.to_string()).into_http()),
            }
        })
    }
}
