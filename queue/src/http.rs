//! What the second port says: health, readiness and metrics, for machines that watch the
//! queue. It carries no credential and shows no name of a workspace, owner or template,
//! unless a tag is one. Whoever reaches it can ask as often as they like, so the store is
//! asked once at a time, and about readiness once a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::shared::Shared;
use crate::store::Store;
use crate::{exposition, http_port, metrics};

/// A store that does not answer in this time is not ready: a balancer asks somebody else.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long an answer about readiness is good.
const FRESH: Duration = Duration::from_secs(1);

/// Serves until the queue stops.
pub async fn serve<S: Store>(shared: Shared<S>, listener: TcpListener) {
    let stopping = shared.stopping.clone();
    let asked = Asked {
        shared,
        ready: Arc::default(),
        scrape: Arc::default(),
    };
    let router = Router::new()
        .route("/healthz", get(healthy::<S>))
        .route("/readyz", get(ready::<S>))
        .route("/metrics", get(render::<S>))
        .with_state(asked);
    http_port::serve(listener, router, stopping).await;
}

/// What the handlers share.
#[derive(Clone)]
struct Asked<S> {
    shared: Shared<S>,
    /// The last answer of the store; locked while it is asked.
    ready: Arc<Mutex<Option<Answer>>>,
    scrape: Arc<Mutex<()>>,
}

#[derive(Clone, Copy)]
struct Answer {
    at: Instant,
    store: Reach,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Reached,
    Lost,
}

/// Healthy means: no task of the queue's own has ended or stands still. A database that is
/// away does not make a restart useful, and shows in readiness.
async fn healthy<S: Store>(State(asked): State<Asked<S>>) -> Response {
    // Cancel safe; the first branch that is ready is taken.
    tokio::select! {
        biased;
        () = asked.shared.store.closed() => unavailable("the store ended\n".to_owned()),
        pulse = std::future::ready(asked.shared.pulse.check(Instant::now())) => match pulse {
            Ok(()) => "ok\n".into_response(),
            Err(sick) => unavailable(format!("{sick}\n")),
        },
    }
}

/// Ready means: a transaction went through a moment ago, and the queue is not about to end.
async fn ready<S: Store>(State(asked): State<Asked<S>>) -> Response {
    if asked.shared.stopping.is_cancelled() {
        return unavailable("stopping\n".to_owned());
    }
    let mut last = asked.ready.lock().await;
    let store = match *last {
        Some(answer) if answer.at.elapsed() < FRESH => answer.store,
        Some(_) | None => {
            let store = reach(&asked.shared).await;
            let at = Instant::now();
            *last = Some(Answer { at, store });
            store
        }
    };
    match store {
        Reach::Reached => "ready\n".into_response(),
        Reach::Lost => unavailable("store not reachable\n".to_owned()),
    }
}

async fn reach<S: Store>(shared: &Shared<S>) -> Reach {
    match tokio::time::timeout(PATIENCE, shared.store.check()).await {
        Ok(Ok(())) => Reach::Reached,
        Ok(Err(error)) => {
            tracing::error!(error = %crate::refusal::chain(&error), "the store is not reachable");
            Reach::Lost
        }
        Err(_) => {
            tracing::error!(limit.s = PATIENCE.as_secs(), "the store does not answer");
            Reach::Lost
        }
    }
}

async fn render<S: Store>(State(asked): State<Asked<S>>) -> Response {
    let _one_at_a_time = asked.scrape.lock().await;
    let text = metrics::render(&asked.shared).await;
    ([(header::CONTENT_TYPE, exposition::MEDIA_TYPE)], text).into_response()
}

fn unavailable(why: String) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}
