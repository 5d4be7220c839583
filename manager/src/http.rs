//! Health and metrics over plain HTTP, read-only and without secrets: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::monitor::Probe;

/// Limit of open connections: some scrapers, and manual requests.
const CONNECTIONS: usize = 64;
/// Timeout for the headers of a request.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
/// The type of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, probe: Probe) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let routes = TowerToHyperService::new(routes(probe));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Probably too many open files: some will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let routes = routes.clone();
        tokio::spawn(async move {
            let _place = place;
            // axum's own server knows neither of these limits.
            let mut server = http1::Builder::new();
            let server = server.timer(TokioTimer::new()).header_read_timeout(ASKED_WITHIN);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), routes).await {
                tracing::debug!(%error, "a monitoring connection failed");
            }
        });
    }
}

fn routes(probe: Probe) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(async || (StatusCode::NOT_FOUND, "not found; try /metrics, /healthz or /readyz\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"))
        .with_state(probe)
}

async fn metrics(State(probe): State<Probe>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], probe.metrics()).into_response()
}

async fn ready(State(probe): State<Probe>) -> (StatusCode, String) {
    match probe.ready() {
        Ok(what) => (StatusCode::OK, format!("{what}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
