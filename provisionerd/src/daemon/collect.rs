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
//! | nothing             | the job was never begun: the directory goes               |
//! | nothing readable    | the directory is moved aside for a person                 |
//!
//! A supervisor that still lives is waited for first: it ends its engine by itself. What
//! cannot be collected, on a full disk for one, is tried again for as long as the daemon
//! lives. The lease of a job behind its gate is kept all the while.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::v1::journal_record::Record;
use proto::v1::{Collecting, FinishJobRequest, Job, LocalCheckpoint, Outcome, ReleaseReason};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;
use worker::job_dir::JobDir;
use worker::launch;

use super::backoff::Backoff;
use super::blobs;
use super::collector::{self, Collected, Left};
use super::context::{Context, Lease};
use super::deliver::{self, Parcel};
use super::job;
use super::journal::{Journal, Past, unix_ms};
use super::last_lines::read_again;
use super::retained::{self, Fate};
use super::tasks::OnPanic;
use super::{keep_lease, reserve, verdict};
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
    let mut backoff = Backoff::new(&context.options.timings);
    let read = loop {
        match Box::pin(read(&context, dir.clone())).await {
            Ok(read) => break read,
            Err(error) => {
                let path = dir.root().display();
                tracing::error!(path = %path, error = %error,
                    "a job of an earlier daemon cannot be collected; it is tried again");
            }
        }
        tokio::select! {
            () = context.closing.cancelled() => {
                context.counts.unsent.fetch_add(1, Ordering::Relaxed);
                return;
            }
            () = tokio::time::sleep(backoff.step()) => {}
        }
    };
    let Some((job, mut parcel)) = read else {
        return;
    };
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
    Box::pin(delivered.instrument(span)).await.clean_up().await;
}

/// What the job printed and the queue does not have goes before the finish.
async fn last_lines(parcel: &mut Parcel, job: &Job) {
    if let Some((mut log, counter)) = read_again(parcel, job, 0).await {
        parcel.finish.lines = log.end();
        parcel.finish.last_seq = log.seq();
        parcel.heartbeat = counter;
    }
}

/// Updates of one collection at most: at one each second, many lives of a daemon.
const UPDATES: u64 = 1 << 32;

/// A counter above all that earlier daemons have sent for the job. They count updates, and
/// this counts milliseconds, unless the clock was set back since.
fn again(told: &Past) -> u64 {
    let now = u64::try_from(unix_ms()).unwrap_or_default();
    match told.counter {
        0 => now,
        begun => now.max(begun + UPDATES),
    }
}

/// Waits for what lives, then decides. `None` when nothing has to be said.
async fn read(context: &Arc<Context>, dir: JobDir) -> std::io::Result<Option<(Job, Parcel)>> {
    let told = Journal::read(&dir.journal()).unwrap_or_default();
    let lease = told.job.as_ref().map(Lease::of);
    let mut counter = again(&told);
    let reading = Box::pin(read_journal(context, dir, counter));
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
    counter: u64,
) -> std::io::Result<Option<(Job, Parcel)>> {
    end_processes(context, &dir).await?;
    if !was_begun(&dir)? {
        deliver::remove(dir, Fate::default()).await;
        return Ok(None);
    }
    let (journal, mut past) = Journal::open(&dir.journal())?;
    let fate = Fate::default();
    let Some(job) = past.job.take().filter(|_| past.finished.is_none()) else {
        if past.finished.is_none() {
            keep_nameless(&dir, &fate);
        }
        deliver::remove(dir, fate).await;
        return Ok(None);
    };
    let lease = Lease::of(&job);
    let begun = Record::Collecting(Collecting { counter });
    if let Err(error) = journal.append(begun) {
        // Then the clock alone keeps the next counter above this one.
        tracing::warn!(error = %error, "a collection cannot be journalled");
    }
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
        None => conclude(context, &job, &mut past, (&dir, &fate)).await?,
    };
    let parcel = Parcel {
        context: context.clone(),
        kept,
        lease,
        dir,
        journal,
        finish,
        heartbeat: 0,
        fate,
    };
    if fresh {
        parcel.commit().await?;
    }
    Ok(Some((job, parcel)))
}

/// A daemon that dies between the directory and the first record leaves nothing.
fn was_begun(dir: &JobDir) -> std::io::Result<bool> {
    match std::fs::metadata(dir.journal()) {
        Ok(journal) => Ok(journal.len() > 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A journal whose first record is damaged: whose it was is not known any more.
fn keep_nameless(dir: &JobDir, fate: &Fate) {
    let nobody = Lease {
        job_id: dir
            .root()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        lease_id: Vec::new(),
        attempt: 0,
    };
    retained::keep(dir, &nobody, fate);
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
    (dir, fate): (&JobDir, &Fate),
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
            let unheard = verdict::unheard(&past.intended, &past.ledger);
            finish.unconfirmed.extend(unheard);
            retained::mark(dir, &Lease::of(job), fate, &mut finish);
            let kept = kept(past, &finish);
            return Ok((finish, kept));
        }
    };
    finish.ledger.extend(found.ledger);
    finish.ledger_end = Some(verdict::end(&finish.ledger));
    let outcome = found.outcome;
    if outcome.outcome() == Outcome::Succeeded {
        finish.set_outcome(Outcome::Succeeded);
        finish.error = None;
    }
    finish.state = outcome.state.as_ref().and_then(|it| it.checkpoint.clone());
    finish.unconfirmed = outcome.unconfirmed;
    finish.extraction = outcome.extraction;
    let no_state = finish.state.is_none() && !finish.unconfirmed.is_empty();
    if no_state || outcome.incomplete {
        retained::mark(dir, &Lease::of(job), fate, &mut finish);
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
    // Each holds a state in memory.
    let turn = context.collectors.acquire().await;
    let found = collector::run(context, &left).await;
    drop(turn);
    match found {
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
    finish.ledger_end = Some(verdict::end(&finish.ledger));
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
    fn updates_of_a_restarted_daemon_count_on_when_its_clock_was_set_back() {
        let told = |counter| Past {
            counter,
            ..Past::default()
        };
        let first = again(&told(0));
        // As if the last daemon had begun in a year from now.
        let ahead = first + 365 * 24 * 3_600_000;
        assert!(again(&told(ahead)) > ahead + 1_000_000);
        assert!(again(&told(1)) >= first);
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
