//! The second port: health, readiness and metrics, for machines that watch the queue.
//! It carries no credential and shows no name of a workspace, owner or template.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics;
use crate::shared::Shared;
use crate::store::Store;

/// Serves until the queue stops.
pub async fn serve<S: Store>(shared: Shared<S>, listener: TcpListener) {
    let stopping = shared.stopping.clone();
    let served = axum::serve(listener, router(shared))
        .with_graceful_shutdown(async move { stopping.cancelled().await })
        .await;
    if let Err(error) = served {
        tracing::error!(error = %error, "the HTTP port ended");
    }
}

fn router<S: Store>(shared: Shared<S>) -> Router {
    Router::new()
        .route("/healthz", get(healthy::<S>))
        .route("/readyz", get(ready::<S>))
        .route("/metrics", get(render::<S>))
        .with_state(shared)
}

/// Healthy means: it is not beyond help. A database that is away comes back.
async fn healthy<S: Store>(State(shared): State<Shared<S>>) -> Response {
    // Cancel safe; the first branch that is ready is taken.
    tokio::select! {
        biased;
        () = shared.store.closed() => {
            (StatusCode::SERVICE_UNAVAILABLE, "the store ended\n").into_response()
        }
        () = std::future::ready(()) => "ok\n".into_response(),
    }
}

/// Ready means: a transaction goes through, and the queue is not about to end.
async fn ready<S: Store>(State(shared): State<Shared<S>>) -> Response {
    if shared.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match shared.store.check().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            tracing::error!(error = %crate::refusal::chain(&error), "the store is not reachable");
            (StatusCode::SERVICE_UNAVAILABLE, "store not reachable\n").into_response()
        }
    }
}

async fn render<S: Store>(State(shared): State<Shared<S>>) -> Response {
    const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
    match metrics::render(&shared).await {
        Ok(text) => ([(header::CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = %crate::refusal::chain(&error), "metrics cannot be read");
            (StatusCode::SERVICE_UNAVAILABLE, "store not reachable\n").into_response()
        }
    }
}
