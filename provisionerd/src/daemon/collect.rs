//! What an earlier daemon left in the data directory, whose lock we hold: the proof
//! that it is dead.
//!
//! | journal says        | then                                                      |
//! |---------------------|-----------------------------------------------------------|
//! | finished            | the directory goes                                        |
//! | finish              | it is sent again                                          |
//! | no gate             | released, counted                                         |
//! | gate asked          | what the apply left is read by a fresh worker: exit 0 and |
//! |                     | a good state = succeeded, other = failed, with both       |
//! | nothing readable    | the job was never begun: the directory goes               |
//!
//! A supervisor that still lives is waited for first: it ends its engine by itself.

use std::sync::Arc;

use proto::v1::{FinishJobRequest, Job, LocalCheckpoint, Outcome, ReleaseReason};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;
use worker::job_dir::JobDir;
use worker::launch;

use super::blobs;
use super::collector::{self, Collected, Left};
use super::context::{Context, Lease};
use super::deliver::{self, Parcel};
use super::job;
use super::journal::{Journal, Past, unix_ms};
use super::last_lines::read_again;
use super::tasks::OnPanic;
use super::{keep_lease, reserve, retained, verdict};
use crate::telemetry;

/// Starts to collect each leftover. A slot is taken for it while its processes may
/// live.
pub fn start(context: &Arc<Context>) {
    let leftovers = match context.data.leftovers() {
        Ok(leftovers) => leftovers,
        Err(error) => {
            tracing::error!(error = %error, "jobs of an earlier daemon cannot be listed");
            return;
        }
    };
    for dir in leftovers {
        let context = context.clone();
        let permit = context.slots.clone().try_acquire_owned().ok();
        context
            .work
            .clone()
            .spawn("collect", OnPanic::LoseJob, collect(context, dir, permit));
    }
}

async fn collect(context: Arc<Context>, dir: JobDir, permit: Option<OwnedSemaphorePermit>) {
    let path = dir.root().display().to_string();
    match Box::pin(read(&context, dir)).await {
        Ok(Some((job, mut parcel))) => {
            drop(permit);
            let span = tracing::info_span!("collect", job.id = job.id);
            telemetry::join(&span, &job.trace_context);
            let delivered = async {
                tokio::select! {
                    () = last_lines(&mut parcel, &job) => {}
                    () = context.closing.cancelled() => {}
                }
                parcel.deliver().await
            };
            delivered.instrument(span).await.clean_up().await;
        }
        Ok(None) => {}
        Err(error) => {
            tracing::error!(path, error = %error, "a job of an earlier daemon cannot be collected");
        }
    }
}

/// What the job printed and the queue does not have goes before the finish.
async fn last_lines(parcel: &mut Parcel, job: &Job) {
    if let Some((mut log, counter)) = read_again(parcel, job, 0).await {
        parcel.finish.lines = log.end();
        parcel.finish.last_seq = log.seq();
        parcel.heartbeat = counter;
    }
}

/// A counter above all that earlier daemons have sent for the job: they count updates, and
/// this counts milliseconds.
fn again() -> u64 {
    u64::try_from(unix_ms()).unwrap_or_default()
}

/// Waits for what lives, then decides. `None` when nothing has to be said.
async fn read(context: &Arc<Context>, dir: JobDir) -> std::io::Result<Option<(Job, Parcel)>> {
    let told = Journal::read(&dir.journal()).unwrap_or_default();
    let lease = told.job.as_ref().map(Lease::of);
    let mut counter = again();
    let reading = Box::pin(read_journal(context, dir));
    let read = match lease.filter(|_| told.gate_asked && told.finished.is_none()) {
        // Nobody else may have it, and its engine may be ending still.
        Some(lease) => keep_lease::during(context, &lease, &mut counter, reading).await,
        None => reading.await,
    };
    Ok(read?.map(|(job, mut parcel)| {
        parcel.heartbeat = counter;
        (job, parcel)
    }))
}

async fn read_journal(
    context: &Arc<Context>,
    dir: JobDir,
) -> std::io::Result<Option<(Job, Parcel)>> {
    end_processes(context, &dir).await?;
    if !dir.journal().exists() {
        deliver::remove(dir).await;
        return Ok(None);
    }
    let (journal, mut past) = Journal::open(&dir.journal())?;
    let Some(job) = past.job.take().filter(|_| past.finished.is_none()) else {
        deliver::remove(dir).await;
        return Ok(None);
    };
    let lease = Lease::of(&job);
    tracing::info!(
        job.id = lease.job_id,
        job.attempt = lease.attempt,
        journal.finish = past.finish.is_some(),
        journal.gate = past.gate_asked,
        "collecting a job of an earlier daemon"
    );
    let fresh = past.finish.is_none();
    let (finish, kept) = match past.finish.take() {
        Some(finish) => {
            let kept = kept(&past, &finish);
            (finish, kept)
        }
        None => conclude(context, &job, &mut past, &dir).await?,
    };
    let parcel = Parcel {
        context: context.clone(),
        kept,
        lease,
        dir,
        journal,
        finish,
        heartbeat: 0,
    };
    if fresh {
        parcel.commit().await?;
    }
    Ok(Some((job, parcel)))
}

/// Nothing of the job lives after this.
async fn end_processes(context: &Context, dir: &JobDir) -> std::io::Result<()> {
    let (waiting, patience) = (dir.clone(), context.options.timings.restart_wait);
    tokio::task::spawn_blocking(move || launch::outlive_supervisor(&waiting, patience))
        .await
        .map_err(std::io::Error::other)??;
    job::sweep(dir, context.options.timings.lease_kill).await;
    Ok(())
}

/// The finish of a job without one, and the file that holds its state.
async fn conclude(
    context: &Arc<Context>,
    job: &Job,
    past: &mut Past,
    dir: &JobDir,
) -> std::io::Result<(FinishJobRequest, Option<LocalCheckpoint>)> {
    reserve::give_back(dir);
    // A worker whose daemon died went on and may have made room for newer copies.
    past.checkpoints
        .retain(|kept| blobs::check_kept(dir, kept).is_ok());
    let found = if past.gate_asked {
        collected(context, job, past, dir).await
    } else {
        Found::Nothing
    };
    let mut finish = concluded(job, past, dir)?;
    let found = match found {
        Found::Read(found) => found,
        Found::Nothing => {
            let kept = kept(past, &finish);
            return Ok((finish, kept));
        }
        Found::Unreadable => {
            retained::mark(dir, &Lease::of(job), &mut finish);
            let kept = kept(past, &finish);
            return Ok((finish, kept));
        }
    };
    finish.ledger.extend(found.ledger);
    let outcome = found.outcome;
    if outcome.outcome() == Outcome::Succeeded {
        finish.set_outcome(Outcome::Succeeded);
        finish.error = None;
    }
    finish.state = outcome.state.as_ref().and_then(|it| it.checkpoint.clone());
    finish.unconfirmed = outcome.unconfirmed;
    finish.extraction = outcome.extraction;
    if finish.state.is_none() && !finish.unconfirmed.is_empty() {
        retained::mark(dir, &Lease::of(job), &mut finish);
    }
    Ok((finish, outcome.state))
}

/// What a fresh worker makes of the files.
enum Found {
    /// No apply was started.
    Nothing,
    /// There is something that could not be read.
    Unreadable,
    /// The ending.
    Read(Box<Collected>),
}

/// See [`Found`].
async fn collected(context: &Arc<Context>, job: &Job, past: &Past, dir: &JobDir) -> Found {
    let engine = context.engines.pick(&job.engine).await;
    let left = Left {
        job,
        dir,
        engine: engine.map(|engine| engine.facts).unwrap_or_default(),
        ledger: &past.ledger,
        checkpoint: past.checkpoints.last(),
    };
    match collector::run(context, &left).await {
        Ok(found) => Found::Read(Box::new(found)),
        Err(collector::Error::NoApply) => Found::Nothing,
        Err(error) => {
            tracing::error!(
                error = job::chain(&error),
                "what a dead worker left is not read"
            );
            Found::Unreadable
        }
    }
}

fn concluded(job: &Job, past: &Past, dir: &JobDir) -> std::io::Result<FinishJobRequest> {
    let lease = Lease::of(job);
    let mut finish = if past.gate_asked {
        let exits = launch::read_exits(&dir.exits())?;
        let mut finish = verdict::from_ledger(&past.ledger, past.checkpoints.last());
        finish.error = Some(verdict::daemon_restarted(&exits));
        finish.set_outcome(Outcome::Failed);
        finish
    } else {
        let mut finish = FinishJobRequest::default();
        finish.set_outcome(Outcome::Released);
        finish.set_release_reason(ReleaseReason::DaemonRestarted);
        finish
    };
    finish.job_id = lease.job_id;
    finish.lease_id = lease.lease_id;
    finish.attempt = lease.attempt;
    finish.last_seq = past.stored_lines;
    finish.ledger.clone_from(&past.ledger);
    Ok(finish)
}

/// The file that holds the state of `finish`.
fn kept(past: &Past, finish: &FinishJobRequest) -> Option<LocalCheckpoint> {
    let state = finish.state.as_ref()?;
    past.checkpoints
        .iter()
        .rev()
        .find(|kept| kept.checkpoint.as_ref() == Some(state))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{Checkpoint, Lease as WireLease};

    fn job() -> Job {
        Job {
            id: "job".into(),
            lease: Some(WireLease {
                id: vec![1; 16],
                attempt: 2,
                ..WireLease::default()
            }),
            ..Job::default()
        }
    }

    fn dir(jobs: &std::path::Path) -> JobDir {
        JobDir::create(jobs, "a").expect("job directory")
    }

    #[test]
    fn a_job_before_the_gate_is_released_and_counted() {
        let jobs = tempfile::tempdir().expect("dir");
        let finish = concluded(&job(), &Past::default(), &dir(jobs.path())).expect("finish");
        assert_eq!(finish.outcome(), Outcome::Released);
        assert_eq!(finish.release_reason(), ReleaseReason::DaemonRestarted);
        assert_eq!((finish.attempt, finish.lease_id.len()), (2, 16));
    }

    #[test]
    fn a_job_after_the_gate_keeps_its_newest_checkpoint() {
        let jobs = tempfile::tempdir().expect("dir");
        let checkpoint = |serial| LocalCheckpoint {
            file: format!("state-{serial}"),
            checkpoint: Some(Checkpoint {
                serial,
                ..Checkpoint::default()
            }),
        };
        let past = Past {
            gate_asked: true,
            checkpoints: vec![checkpoint(1), checkpoint(2)],
            ..Past::default()
        };
        let finish = concluded(&job(), &past, &dir(jobs.path())).expect("finish");
        assert_eq!(finish.outcome(), Outcome::Failed);
        assert_eq!(
            finish.error.as_ref().expect("error").code,
            "DAEMON_RESTARTED"
        );
        assert_eq!(kept(&past, &finish), Some(checkpoint(2)));
    }
}
