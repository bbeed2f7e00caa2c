//! Takes work: a free slot first, then one stream that waits for a job.
//!
//! ```text
//!   permit ──▶ AcquireJob ──none──▶ again
//!                  │
//!                 job ──confirm──▶ confirmed ──▶ job task holds the permit
//! ```
//!
//! The permit comes first, so that this daemon never holds a job it cannot run. A job
//! that is on its way when the daemon drains goes back untouched.

mod now;

use std::sync::Arc;
use std::time::Duration;

use proto::transport::Transport;
use proto::v1::acquire_reply::Message as Reply;
use proto::v1::acquire_request::Message as Ask;
use proto::v1::{self, Acquire, AcquireReply, AcquireRequest, JobKind};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::backoff::Backoff;
use super::context::{Context, Lease};
use super::job::{self, Assignment, Given};
use super::lease::BootTime;
use super::retained;
use super::shutdown::{Shutdown, Step};
use super::tasks::OnPanic;
use super::{Error, Lifetime};
use crate::connect::{self, Retry};
use crate::telemetry;

/// What one stream brought.
enum Outcome {
    Job(Box<v1::Job>, BootTime),
    None,
    Stopped,
}

/// Takes jobs until the daemon drains, its lifetime is over, or the queue refuses it.
///
/// # Errors
/// [`Error::Refused`]: the queue will not have this daemon. [`Error::Retained`]: too much
/// waits for a person.
pub async fn run(context: Arc<Context>, mut shutdown: Shutdown) -> Result<(), Error> {
    let mut backoff = Backoff::new(&context.options.timings);
    let mut idle = Idle::new(context.options.lifetime);
    loop {
        if !may_dial(&context, &mut shutdown).await {
            return Ok(());
        }
        let Some(permit) = free_slot(&context, &mut shutdown, &mut idle).await else {
            return Ok(());
        };
        if let Err(full) = retained::room(context.data.root()) {
            tracing::error!(error = %full, "no more jobs are taken");
            return Err(full.into());
        }
        let taken = match context.way.now() {
            Transport::Streams => take(&context, shutdown.clone(), idle.left()).await,
            Transport::Unary => now::take(&context, shutdown.clone(), idle.left()).await,
        };
        match taken {
            Ok(Outcome::Job(job, asked)) => {
                backoff.reset();
                idle.reset();
                spawn(&context, *job, asked, permit);
                if context.options.lifetime == Lifetime::Once {
                    return Ok(());
                }
            }
            Ok(Outcome::None) => backoff.reset(),
            Ok(Outcome::Stopped) => return Ok(()),
            Err(status) if connect::retry(&status) == Retry::Never => {
                return Err(Error::Refused(status.message().to_owned()));
            }
            Err(status) => {
                let wait = backoff.step();
                tracing::warn!(
                    error = %status.message(),
                    retry.after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    "the queue cannot be asked for work"
                );
                drop(permit);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shutdown.reached(Step::Drain) => return Ok(()),
                }
            }
        }
        if idle.is_over(&context) {
            tracing::info!("no work for the time given; the daemon ends");
            return Ok(());
        }
    }
}

/// Waits until this daemon may dial the queue that it has lost; `false` when no more work is
/// wanted.
async fn may_dial(context: &Context, shutdown: &mut Shutdown) -> bool {
    let left = context.comeback.left(std::time::Instant::now());
    if left.is_zero() {
        return true;
    }
    tokio::select! {
        biased;
        () = shutdown.reached(Step::Drain) => false,
        () = tokio::time::sleep(left) => true,
    }
}

/// Waits for a slot; `None` when no more work is wanted.
async fn free_slot(
    context: &Context,
    shutdown: &mut Shutdown,
    idle: &mut Idle,
) -> Option<OwnedSemaphorePermit> {
    // The job that has the last slot is off the list before the slot is free.
    let busy = context.slots.available_permits() == 0;
    let waiting = context.slots.clone().acquire_owned();
    let permit = tokio::select! {
        biased;
        () = shutdown.reached(Step::Drain) => return None,
        permit = waiting => permit.ok()?,
    };
    if busy || !context.jobs.is_empty() {
        idle.reset();
    }
    Some(permit)
}

fn spawn(context: &Arc<Context>, job: v1::Job, asked: BootTime, permit: OwnedSemaphorePermit) {
    use tracing::Instrument as _;
    let span = tracing::info_span!(
        "job",
        job.id = job.id,
        job.attempt = job.lease.as_ref().map_or(0, |lease| lease.attempt),
        job.kind = job.kind().as_str_name(),
    );
    context.lately.begins(&job);
    telemetry::join(&span, &job.trace_context);
    span.in_scope(|| tracing::info!(job.template = job.template, "job taken"));
    let given = Given { job, asked };
    let assignment = Assignment { given, permit };
    let running = job::run(context.clone(), assignment).instrument(span);
    context.work.spawn("job", OnPanic::LoseJob, running);
}

/// One stream, from `acquire` to a confirmed job or none.
async fn take(
    context: &Context,
    mut shutdown: Shutdown,
    patience: Option<Duration>,
) -> Result<Outcome, Status> {
    let (asks, requests) = mpsc::channel(4);
    send(&asks, Ask::Acquire(request(context))).await;
    let mut client = context.client.clone();
    let opening = client.acquire_job(ReceiverStream::new(requests));
    let mut replies = tokio::select! {
        opened = timeout(context.options.timings.first_message * 2, opening) => match opened {
            Ok(opened) => opened?.into_inner(),
            Err(_) => {
                // Something between waits for the end of what we say.
                if context.seen.reaches_queue() {
                    context.way.hold_back();
                }
                return Ok(Outcome::None);
            }
        },
        () = shutdown.reached(Step::Drain) => return Ok(Outcome::Stopped),
        () = context.way.becomes(Transport::Unary) => return Ok(Outcome::None),
    };
    let stop = async {
        tokio::select! {
            () = shutdown.reached(Step::Drain) => Outcome::Stopped,
            () = sleep_for(patience) => Outcome::None,
            () = context.way.becomes(Transport::Unary) => Outcome::None,
        }
    };
    // Cancel safe: a reply that arrived stays in the stream.
    let stopped = tokio::select! {
        biased;
        reply = timeout(dead(context), replies.message()) => {
            return answered(context, &asks, &mut replies, in_time(reply)?).await;
        }
        stopped = stop => stopped,
    };
    // A job that crosses with the cancel is never confirmed: with the end of the stream
    // the queue takes it back at once, uncounted.
    send(&asks, Ask::Cancel(v1::CancelAcquire {})).await;
    // The answer says that the cancel was heard; without one the stream's end says it.
    let _ = timeout(context.options.timings.heartbeat, replies.message()).await;
    Ok(stopped)
}

async fn answered(
    context: &Context,
    asks: &mpsc::Sender<AcquireRequest>,
    replies: &mut Streaming<AcquireReply>,
    reply: Option<AcquireReply>,
) -> Result<Outcome, Status> {
    match reply.and_then(|reply| reply.message) {
        Some(Reply::Job(job)) => match confirm(context, asks, replies, job).await {
            Ok(outcome) => Ok(outcome),
            // The hand-out failed, not the daemon: without a confirmation the queue
            // takes the job back, at once or when its short lease ends.
            Err(status) => {
                tracing::warn!(error = %status.message(), "a job could not be confirmed");
                Ok(Outcome::None)
            }
        },
        Some(Reply::None(none)) => {
            tracing::trace!(acquire.reason = none.reason, "no job");
            Ok(Outcome::None)
        }
        Some(Reply::Confirmed(_)) | None => Ok(Outcome::None),
    }
}

/// Says that we have the job; its lease runs from here.
async fn confirm(
    context: &Context,
    asks: &mpsc::Sender<AcquireRequest>,
    replies: &mut Streaming<AcquireReply>,
    mut job: Box<v1::Job>,
) -> Result<Outcome, Status> {
    let lease = Lease::of(&job);
    let asked = BootTime::now();
    let confirm = v1::Confirm {
        job_id: lease.job_id,
        lease_id: lease.lease_id,
    };
    send(asks, Ask::Confirm(confirm)).await;
    let reply = in_time(timeout(context.options.timings.confirm, replies.message()).await)?;
    match reply.and_then(|reply| reply.message) {
        Some(Reply::Confirmed(confirmed)) => {
            if confirmed.lease.is_some() {
                job.lease = confirmed.lease;
            }
            Ok(Outcome::Job(job, asked))
        }
        // Too late, or cancelled meanwhile: the queue has taken it back.
        Some(Reply::None(_) | Reply::Job(_)) | None => Ok(Outcome::None),
    }
}

fn request(context: &Context) -> Acquire {
    let options = &context.options;
    Acquire {
        tags: options.tags.clone().into_iter().collect(),
        facts: facts(context),
        slots: options.slots,
        kinds: [
            JobKind::TemplateImport,
            JobKind::TemplateDryRun,
            JobKind::WorkspaceBuild,
        ]
        .map(Into::into)
        .to_vec(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        holds: context.lately.names(),
    }
}

/// Reserved facts about this daemon.
pub(super) fn facts(context: &Context) -> std::collections::HashMap<String, String> {
    [
        ("engine".to_owned(), context.engines.names().join(",")),
        ("engine_version".to_owned(), context.engines.version()),
        ("sandbox".to_owned(), context.sandbox.clone()),
    ]
    .into()
}

/// A stream that outlives this has lost its queue without noticing.
fn dead(context: &Context) -> Duration {
    context.options.timings.acquire_max * 2
}

fn in_time<T>(reply: Result<Result<T, Status>, tokio::time::error::Elapsed>) -> Result<T, Status> {
    reply.unwrap_or_else(|_| Err(Status::unavailable("the queue does not answer")))
}

async fn send(asks: &mpsc::Sender<AcquireRequest>, message: Ask) {
    // The stream's own error says why when nobody takes it.
    let _ = asks
        .send(AcquireRequest {
            message: Some(message),
        })
        .await;
}

async fn sleep_for(patience: Option<Duration>) {
    match patience {
        Some(patience) => tokio::time::sleep(patience).await,
        None => std::future::pending().await,
    }
}

/// How long no job has run.
struct Idle {
    limit: Option<Duration>,
    since: Instant,
}

impl Idle {
    fn new(lifetime: Lifetime) -> Self {
        Self {
            limit: match lifetime {
                Lifetime::Idle(limit) => Some(limit),
                Lifetime::Unlimited | Lifetime::Once => None,
            },
            since: Instant::now(),
        }
    }

    fn reset(&mut self) {
        self.since = Instant::now();
    }

    fn left(&self) -> Option<Duration> {
        self.limit
            .map(|limit| (self.since + limit).saturating_duration_since(Instant::now()))
    }

    fn is_over(&mut self, context: &Context) -> bool {
        if !context.jobs.is_empty() {
            self.reset();
        }
        self.left() == Some(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests;
