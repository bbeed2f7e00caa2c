//! A daemon's HTTP port: health, readiness and metrics, for machines that watch it. It
//! carries no credential and shows counts only.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use proto::transport::Transport;
use proto::v1::Phase;
use queue::exposition::Kind::{Counter, Gauge};
use queue::exposition::{MEDIA_TYPE, Page};
use tokio::net::TcpListener;

use super::context::Context;
use super::shutdown::Step;

/// Phases of a job, as they are named elsewhere.
const PHASES: [(Phase, &str); 5] = [
    (Phase::Setup, "setup"),
    (Phase::Init, "init"),
    (Phase::Plan, "plan"),
    (Phase::Apply, "apply"),
    (Phase::Cleanup, "cleanup"),
];

/// Serves until the daemon ends.
pub async fn serve(context: Arc<Context>, listener: TcpListener) {
    let closing = context.closing.clone();
    let router = Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(context);
    queue::http_port::serve(listener, router, closing).await;
}

/// Healthy means: the daemon looks after its stream to the queue, reached or not.
async fn healthy(State(context): State<Arc<Context>>) -> Response {
    if context.seen.is_alive(Instant::now()) {
        return "ok\n".into_response();
    }
    unavailable("the control stream is not looked after\n")
}

/// Ready means: the queue speaks to this daemon, and it takes jobs.
async fn ready(State(context): State<Arc<Context>>) -> Response {
    if context.is_revoked() || context.trigger.step() != Step::Run {
        return unavailable("draining\n");
    }
    if !context.seen.reaches_queue() {
        return unavailable("queue not reachable\n");
    }
    "ready\n".into_response()
}

async fn render(State(context): State<Arc<Context>>) -> Response {
    let text = metrics(&context);
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response()
}

fn unavailable(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

fn metrics(context: &Context) -> String {
    let mut page = Page::default();
    of_jobs(&mut page, context);
    of_the_queue(&mut page, context);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    page.metric(
        Gauge,
        "provisionerd_daemon_build_info",
        "The running release.",
    )
    .value(&version, 1);
    page.into_text()
}

fn of_jobs(page: &mut Page, context: &Context) {
    let free = context.slots.available_permits() as u64;
    page.metric(Gauge, "provisionerd_daemon_slots", "Jobs at once.")
        .value(&[], context.options.slots.into());
    page.metric(
        Gauge,
        "provisionerd_daemon_slots_free",
        "Slots that no job holds.",
    )
    .value(&[], free);
    page.metric(
        Gauge,
        "provisionerd_daemon_jobs",
        "Jobs that run, by phase.",
    );
    let phases = context.jobs.phases();
    for (phase, name) in PHASES {
        let count = phases.iter().filter(|one| **one == phase).count();
        page.value(&[("phase", name)], count as u64);
    }
    page.metric(
        Counter,
        "provisionerd_daemon_engine_runs_total",
        "Engines started for jobs.",
    )
    .value(&[], context.seen.engine_runs());
    page.metric(
        Gauge,
        "provisionerd_daemon_finishes_waiting",
        "Finishes that are in a journal and not yet stored by the queue.",
    )
    .value(&[], context.seen.waiting());
}

fn of_the_queue(page: &mut Page, context: &Context) {
    page.metric(
        Gauge,
        "provisionerd_daemon_queue_reachable",
        "1 while the queue speaks to this daemon.",
    )
    .value(&[], context.seen.reaches_queue().into());
    page.metric(
        Gauge,
        "provisionerd_daemon_transport",
        "1 for the way by which the queue is reached.",
    );
    for way in [Transport::Streams, Transport::Unary] {
        let used = context.way.now() == way;
        page.value(&[("transport", way.as_str())], used.into());
    }
    page.metric(
        Counter,
        "provisionerd_daemon_transport_switches_total",
        "Changes from streams to short calls and back.",
    )
    .value(&[], context.way.switches());
}

#[cfg(test)]
mod tests;
