//! The control stream: makes cancel and drain quick. The update's reply stays the
//! truth, so nothing here has to arrive.

use std::sync::Arc;
use std::time::Instant;

use proto::v1::control_event::Event;
use proto::v1::{ControlEvent, ControlRequest};
use tokio::time::timeout;
use tonic::Status;

use super::acquire;
use super::backoff::{Backoff, jitter};
use super::context::Context;
use super::deliver::locked_out;
use super::shutdown::{Shutdown, Step};

/// Whether the queue has taken our key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Never,
    Once,
}

/// Holds the stream until the daemon has ended: also while it drains, since its jobs
/// can still be cancelled.
pub async fn run(context: Arc<Context>) {
    let mut backoff = Backoff::new(&context.options.timings);
    let mut known = Known::Never;
    loop {
        context.seen.tries(Instant::now());
        let ended = tokio::select! {
            () = context.closing.cancelled() => return,
            ended = listen(&context, &mut backoff, &mut known) => ended,
        };
        context.seen.lost();
        match ended {
            // It may have been revoked while no stream was there to say so.
            Err(status) if locked_out(&status) && known == Known::Once => key_revoked(&context),
            Err(status) => tracing::debug!(error = %status, "control stream lost"),
            Ok(()) => {}
        }
        let wait = if context.jobs.is_empty() {
            backoff.step()
        } else {
            jitter(context.options.timings.reconnect_busy)
        };
        tokio::select! {
            () = context.closing.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn listen(context: &Context, backoff: &mut Backoff, known: &mut Known) -> Result<(), Status> {
    let options = &context.options;
    let request = ControlRequest {
        running: context.jobs.running(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slots: options.slots,
        tags: options.tags.clone().into_iter().collect(),
        facts: acquire::facts(context),
    };
    let mut events = context.client.clone().control(request).await?.into_inner();
    *known = Known::Once;
    loop {
        // Three missing ones are a dead path.
        let alive = if context.jobs.is_empty() {
            options.timings.control_idle
        } else {
            options.timings.control_alive
        };
        let dead = alive * 3;
        let event = timeout(dead, events.message())
            .await
            .unwrap_or_else(|_| Err(Status::unavailable("the control stream is silent")))?;
        let Some(event) = event else {
            return Ok(());
        };
        backoff.reset();
        context.seen.heard(Instant::now());
        on(context, event);
    }
}

fn on(context: &Context, event: ControlEvent) {
    match event.event {
        Some(Event::Cancel(cancel)) => context.jobs.cancel(&cancel.job_id, cancel.kind()),
        Some(Event::Drain(_)) => {
            tracing::info!("the queue drains this daemon");
            context.trigger.at_least(Step::Drain);
        }
        Some(Event::KeyRevoked(_)) => key_revoked(context),
        Some(Event::Alive(_)) | None => {}
    }
}

/// Jobs before the gate end now, the others as their leases do; their journals wait on
/// disk for a daemon with a valid key.
fn key_revoked(context: &Context) {
    if !context.is_revoked() {
        tracing::error!("the provisioner key was revoked; the daemon takes no more jobs and ends");
    }
    context.revoke();
    context.trigger.at_least(Step::Drain);
}

/// Passes the operator's steps on to the daemon, which may be further down already.
pub async fn forward(context: Arc<Context>, mut outer: Shutdown) {
    for step in [Step::Drain, Step::Cancel, Step::Kill] {
        tokio::select! {
            () = outer.reached(step) => context.trigger.at_least(step),
            () = context.closing.cancelled() => return,
        }
    }
}
