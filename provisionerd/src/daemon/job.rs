//! One job, from the confirmed hand-out to the answered finish.
//!
//! ```text
//!   begin ──▶ pump ──▶ conclude ──▶ journal ══▶ slot is free
//!   journal   events    one finish  (fsync)  ──▶ wind up: last lines, then worker and
//!   launch    in order  request                  supervisor end
//!                                            ──▶ deliver: state, finish, repeated
//! ```
//!
//! Whatever happens here ends in exactly one finish in the journal, or, when not even a
//! journal could be made, in a release.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::v1::{self, JobError, ReleaseReason};
use tokio::sync::OwnedSemaphorePermit;
use worker::job_dir::JobDir;
use worker::launch;

use begin::Place;
use pump::Pump;
use wind_up::Left;

pub(super) mod begin;
mod collected;
mod conclude;
mod pump;
mod receive;
mod report;
mod spans;
mod stop;
mod wind_up;

use super::context::{Context, Lease};
use super::deliver;
use super::engines;
use super::lease::BootTime;
use super::redact;
use super::retained::Fate;
use super::tasks::OnPanic;

/// A job that the queue has given us.
pub struct Assignment {
    /// The job and its lease.
    pub given: Given,
    /// The slot.
    pub permit: OwnedSemaphorePermit,
}

/// A confirmed hand-out.
pub struct Given {
    /// As handed out, with the lease that the confirmation brought.
    pub job: v1::Job,
    /// When the confirming request left.
    pub asked: BootTime,
}

/// Whether the slot stays empty for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// The host was at fault: the next job would fare the same.
    Needed,
    /// The next job may come.
    None,
}

impl NotBegun {
    /// Whether any job would fare the same here, so that another host has to try.
    fn is_hosts(&self) -> bool {
        match self {
            Self::Dir(_) | Self::Journal(_) | Self::Bind(_) | Self::Launch(_) => true,
            Self::Incomplete(_) | Self::Engine(_) | Self::Redact(_) => false,
        }
    }
}

/// Why a job could not be begun on this host.
#[derive(Debug, thiserror::Error)]
enum NotBegun {
    #[error("the job's directory cannot be made")]
    Dir(#[from] worker::job_dir::Error),
    #[error("the job's journal cannot be written")]
    Journal(#[source] io::Error),
    #[error("a bind cannot be linked into the job's HOME")]
    Bind(#[source] io::Error),
    #[error("the job's supervisor cannot be started")]
    Launch(#[source] io::Error),
    #[error("the job carries no {0}")]
    Incomplete(&'static str),
    #[error(transparent)]
    Engine(#[from] engines::Error),
    #[error(transparent)]
    Redact(#[from] redact::Error),
}

/// How the pump ended: nothing of the job can change the world any more.
#[derive(Debug)]
enum Ending {
    /// The worker's own word.
    Worked(Box<v1::WorkOutcome>),
    /// Worker or supervisor is gone without one.
    Lost(String),
    /// The same after the gate, and a collector has read what it left.
    Collected(Box<v1::WorkOutcome>, String),
    /// It never got as far as a worker that works.
    Failed(JobError),
    /// Stopped by us before the worker began, or before the gate without a lease.
    Stopped,
}

/// Runs the job to its end.
pub async fn run(context: Arc<Context>, assignment: Assignment) {
    let lease = Lease::of(&assignment.given.job);
    match begin::journal(&context, &assignment.given.job) {
        Ok(place) => Box::pin(run_in(&context, &lease, assignment, place)).await,
        Err(error) => {
            tracing::error!(error = chain(&error), "job cannot be begun; it goes back");
            deliver::release(&context, &lease, ReleaseReason::NeverStarted).await;
            // The slot rests, so that a full disk does not eat the queue's jobs.
            tokio::time::sleep(context.options.timings.reconnect_max).await;
        }
    }
}

async fn run_in(context: &Arc<Context>, lease: &Lease, assignment: Assignment, place: Place) {
    let Assignment { given, permit } = assignment;
    let dir = place.dir.clone();
    let registered = context.register(lease);
    let (concluded, left) = match begin::start(context, &given.job, &dir).await {
        Ok(started) => {
            let (job, process) = (given.job.clone(), started.process.clone());
            let pump = Pump::new(context, &registered, given, place, started);
            let ran = tokio::select! {
                ran = pump.run() => Some(ran),
                () = context.closing.cancelled() => None,
            };
            let Some((concluded, last)) = ran else {
                // The links close: the supervisor ends everything, the next start
                // collects what the journal holds.
                tracing::warn!("the daemon ends before the job; the next start collects it");
                context.counts.unsent.fetch_add(1, Ordering::Relaxed);
                return;
            };
            (concluded, Some(Left { job, process, last }))
        }
        Err(error) if error.is_hosts() => return hosts_fault(context, lease, dir, &error).await,
        Err(error) => (conclude::not_begun(lease, &error, place.journal), None),
    };
    let rests = concluded.rests;
    let mut parcel = concluded.parcel(context, lease, dir);
    if let Err(error) = parcel.commit().await {
        // The queue is then the only place for it: the delivery goes on.
        tracing::error!(error = %error, "the finish cannot be written to the journal");
    }
    drop(registered);
    free(context, permit, rests);
    // The log is whole and nothing of the job runs any more when the queue hears of its
    // end.
    if let Some(left) = left {
        tokio::select! {
            () = left.wind_up(&mut parcel) => {}
            () = context.closing.cancelled() => {}
        }
    }
    parcel.deliver().await.clean_up().await;
}

/// Gives the job back and keeps its slot for a while.
async fn hosts_fault(context: &Arc<Context>, lease: &Lease, dir: JobDir, error: &NotBegun) {
    tracing::error!(
        error = chain(error),
        "this host cannot begin jobs; it goes back"
    );
    deliver::release(context, lease, ReleaseReason::NeverStarted).await;
    deliver::remove(dir, Fate::default()).await;
    tokio::time::sleep(context.options.timings.reconnect_max).await;
}

/// The slot is free, at once or after a rest.
fn free(context: &Context, permit: OwnedSemaphorePermit, rests: Rest) {
    match rests {
        Rest::Needed => {
            // A broken host must not eat the queue's jobs one after the other.
            let rest = context.options.timings.reconnect_max;
            let rested = async move {
                tokio::time::sleep(rest).await;
                drop(permit);
            };
            context.work.clone().spawn("rest", OnPanic::LoseJob, rested);
        }
        Rest::None => drop(permit),
    }
}

/// Ends what a dead supervisor left.
pub(super) async fn sweep(dir: &JobDir, patience: Duration) {
    let dir = dir.clone();
    let swept = tokio::task::spawn_blocking(move || launch::sweep(&dir, patience)).await;
    match swept {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = %error, "processes of a lost job live on"),
        Err(error) => tracing::error!(error = %error, "the sweep panicked"),
    }
}

/// An error with its causes, for a log line or a job's message.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
