//! A collector: a fresh worker under a fresh supervisor reads what a dead worker left.
//! Nothing else ever parses such files, and nothing of the old job may live meanwhile.

use std::io;
use std::path::Path;
use std::time::Duration;

use proto::limits;
use proto::unconfirmed::unconfirmed;
use proto::v1::exit_record::Record;
use proto::v1::{
    Begin, Collect, Configure, Credit, End, EngineFacts, ExitRecord, FromSupervisor, FromWorker,
    Job, LedgerEntry, LocalCheckpoint, OutcomeStored, Process, ToSupervisor, ToWorker, WorkOutcome,
    from_worker, to_supervisor, to_worker,
};
use worker::job_dir::JobDir;
use worker::launch::{self, Launch, Launched};
use worker::link;

use super::context::Context;

/// What is known of the job.
pub struct Left<'a> {
    /// As it was handed out.
    pub job: &'a Job,
    /// Its directory.
    pub dir: &'a JobDir,
    /// Which engine ran it.
    pub engine: EngineFacts,
    /// All that was told of its resources.
    pub ledger: &'a [LedgerEntry],
    /// The newest good state that was told.
    pub checkpoint: Option<&'a LocalCheckpoint>,
}

/// What was found.
#[derive(Debug)]
pub struct Collected {
    /// Succeeded when the apply did; its error says nothing.
    pub outcome: WorkOutcome,
    /// Entries that nobody had told of.
    pub ledger: Vec<LedgerEntry>,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No apply was started: there is nothing to find.
    #[error("no apply was started")]
    NoApply,
    /// A system call failed.
    #[error("the collector cannot be run")]
    Io(#[from] io::Error),
    /// A frame was broken.
    #[error("the collector's link broke")]
    Link(#[from] link::Error),
    /// It ended first.
    #[error("the collector ended without an outcome")]
    NoOutcome,
    /// It hung.
    #[error("the collector was silent for too long")]
    Silent,
}

/// Reads what is left. The directory's supervisor and everything below it must be dead;
/// the same holds again when this returns.
///
/// # Errors
/// See [`Error`]; then only what was told before is known.
pub async fn run(context: &Context, left: &Left<'_>) -> Result<Collected, Error> {
    let exits = launch::read_exits(&left.dir.exits())?;
    let collect = collect(&exits, left.ledger).ok_or(Error::NoApply)?;
    let launch = Launch {
        exe: context.options.exe.clone(),
        job_dir: left.dir.clone(),
        job_id: left.job.id.clone(),
        namespace: launch::Namespace::Best,
    };
    let launched = tokio::task::spawn_blocking(move || launch::launch(&launch))
        .await
        .map_err(io::Error::other)??;
    let Launched {
        process,
        supervisor,
        worker,
    } = launched;
    let patience = context.options.timings.restart_wait + extra(left.dir, collect.number);
    let words = Words {
        configure: configure(context),
        begin: begin(context, left, collect),
    };
    let talk = talk(words, supervisor, worker);
    let found = tokio::time::timeout(patience, talk).await;
    // The links are closed: it ends by itself, as a rule.
    wait_for_end(context, left.dir, &process).await?;
    let mut found = found.unwrap_or(Err(Error::Silent))?;
    let ledger = [left.ledger, &found.ledger].concat();
    prefer(&mut found.outcome, &ledger, left.checkpoint);
    Ok(found)
}

/// Waits until nothing of a collector lives, which was told to end; what hangs is killed.
///
/// # Errors
/// Its end cannot be waited for.
pub async fn wait_for_end(
    context: &Context,
    dir: &JobDir,
    process: &launch::Supervisor,
) -> io::Result<()> {
    let patience = context.options.timings.lease_kill;
    if tokio::time::timeout(patience, process.ended())
        .await
        .is_err()
    {
        process.kill();
        process.ended().await?;
    }
    super::job::sweep(dir, patience).await;
    Ok(())
}

/// What a collector may take longer when there is much to read.
fn extra(dir: &JobDir, apply: u32) -> Duration {
    let size = |path: &Path| std::fs::symlink_metadata(path).map_or(0, |meta| meta.len());
    let kept = std::fs::read_dir(dir.keep())
        .into_iter()
        .flatten()
        .flatten();
    let kept: u64 = kept.map(|entry| size(&entry.path())).sum();
    let work = std::fs::read_dir(dir.work())
        .into_iter()
        .flatten()
        .flatten();
    let states = work.filter(|entry| entry.file_name().to_string_lossy().ends_with(".tfstate"));
    let states: u64 = states.map(|entry| size(&entry.path())).sum();
    let bytes = size(&dir.stdout(apply, Process::Apply)) + kept + states;
    Duration::from_secs(bytes / limits::COLLECTED_PER_SECOND)
}

/// The apply and how it ended; `None` when none was started.
fn collect(exits: &[ExitRecord], ledger: &[LedgerEntry]) -> Option<Collect> {
    let number = exits.iter().rev().find_map(|exit| match &exit.record {
        Some(Record::Started(started)) if started.process() == Process::Apply => {
            Some(started.number)
        }
        _ => None,
    })?;
    let exit_code = exits.iter().rev().find_map(|exit| match &exit.record {
        Some(Record::Exited(exited)) if exited.number == number => exited.code,
        _ => None,
    });
    Some(Collect {
        ledger: ledger.to_vec(),
        number,
        exit_code,
    })
}

/// What supervisor and worker are told first.
struct Words {
    configure: Configure,
    begin: Begin,
}

async fn talk(
    words: Words,
    supervisor: std::os::unix::net::UnixStream,
    worker: std::os::unix::net::UnixStream,
) -> Result<Collected, Error> {
    let supervisor = tokio::net::UnixStream::from_std(supervisor)?;
    let worker = tokio::net::UnixStream::from_std(worker)?;
    let (_from_supervisor, mut to_supervisor) =
        link::split::<FromSupervisor, ToSupervisor>(supervisor, limits::SUPERVISOR_FRAME);
    let (mut from_worker, mut to_worker) =
        link::split::<FromWorker, ToWorker>(worker, limits::WORKER_FRAME);
    let configure = to_supervisor::Message::Configure(words.configure);
    to_supervisor.send(&order(configure)).await?;
    let begin = to_worker::Message::Begin(words.begin);
    to_worker.send(&word(begin)).await?;
    // What it says of itself is not part of the job's log, so nothing waits for credit.
    let credit = Credit {
        line_seq: u64::MAX,
        ledger_seq: u64::MAX,
    };
    to_worker
        .send(&word(to_worker::Message::Credit(credit)))
        .await?;
    let mut ledger = Vec::new();
    while let Some(frame) = from_worker.next().await? {
        match frame.message {
            Some(from_worker::Message::Batch(batch)) => ledger.extend(batch.ledger),
            Some(from_worker::Message::Outcome(outcome)) => {
                // Both may end before they have read this: all that they are for is here.
                let stored = to_worker::Message::Stored(OutcomeStored {});
                let _ = to_worker.send(&word(stored)).await;
                let end = to_supervisor::Message::End(End {});
                let _ = to_supervisor.send(&order(end)).await;
                return Ok(Collected { outcome, ledger });
            }
            Some(
                from_worker::Message::Heartbeat(_)
                | from_worker::Message::Analysis(_)
                | from_worker::Message::MarkSensitive(_)
                | from_worker::Message::AskGate(_)
                | from_worker::Message::Checkpoint(_)
                | from_worker::Message::LinesEnd(_),
            )
            | None => {}
        }
    }
    Err(Error::NoOutcome)
}

/// For a supervisor that may start nothing but its worker.
pub fn configure(context: &Context) -> Configure {
    Configure {
        timings: Some((&context.options.timings).into()),
        collector: true,
        nofile: limits::ENGINE_NOFILE,
        ..Configure::default()
    }
}

fn begin(context: &Context, left: &Left<'_>, collect: Collect) -> Begin {
    Begin {
        job: Some(left.job.clone()),
        timings: Some((&context.options.timings).into()),
        engine: Some(left.engine.clone()),
        limits: Some(limits::for_worker()),
        has_state: left.job.state.is_some(),
        collect: Some(collect),
        ..Begin::default()
    }
}

fn order(message: to_supervisor::Message) -> ToSupervisor {
    ToSupervisor {
        message: Some(message),
    }
}

fn word(message: to_worker::Message) -> ToWorker {
    ToWorker {
        message: Some(message),
    }
}

/// What was told before counts when nothing newer was found, and says what it proves.
fn prefer(outcome: &mut WorkOutcome, ledger: &[LedgerEntry], told: Option<&LocalCheckpoint>) {
    let Some(told_state) = told.and_then(|told| told.checkpoint.as_ref()) else {
        return;
    };
    let found = outcome.state.as_mut().and_then(|it| it.checkpoint.as_mut());
    let proved = match found {
        Some(found) if found.serial > told_state.serial => return,
        Some(found) if found.blob == told_state.blob => {
            found.ledger_seq = found.ledger_seq.max(told_state.ledger_seq);
            found.ledger_seq
        }
        Some(_) | None => {
            outcome.state = told.cloned();
            told_state.ledger_seq
        }
    };
    outcome.unconfirmed = unconfirmed(ledger, proved);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{Checkpoint, ProcessExited, ProcessStarted};

    fn record(record: Record) -> ExitRecord {
        ExitRecord {
            record: Some(record),
            time_ms: 0,
        }
    }

    fn started(number: u32, process: Process) -> ExitRecord {
        record(Record::Started(ProcessStarted {
            number,
            process: process.into(),
            pid: 1,
        }))
    }

    #[test]
    fn a_collector_knows_the_apply_and_how_it_ended() {
        assert_eq!(collect(&[started(1, Process::Plan)], &[]), None);
        let apply = started(2, Process::Apply);
        let open = collect(std::slice::from_ref(&apply), &[]).expect("an apply");
        assert_eq!((open.number, open.exit_code), (2, None));
        let exited = record(Record::Exited(ProcessExited {
            number: 2,
            code: Some(0),
            ..ProcessExited::default()
        }));
        let ended = collect(&[apply, exited], &[]).expect("an apply");
        assert_eq!(ended.exit_code, Some(0));
    }

    #[test]
    fn a_collector_gets_a_second_for_each_mebibyte_that_it_reads() {
        let jobs = tempfile::tempdir().expect("dir");
        let dir = JobDir::create(jobs.path(), "a").expect("job directory");
        assert_eq!(extra(&dir, 3), Duration::ZERO);
        let sized = |path: &Path, mib: u64| {
            let file = std::fs::File::create(path).expect("file");
            file.set_len(mib * limits::MIB).expect("size");
        };
        sized(&dir.stdout(3, Process::Apply), 5);
        sized(&dir.work().join("terraform.tfstate"), 50);
        sized(&dir.work().join("something.iso"), 500);
        sized(&dir.keep().join("checkpoint-1.tfstate"), 40);
        assert_eq!(extra(&dir, 3), Duration::from_secs(95));
    }

    #[tokio::test]
    async fn a_collector_that_ends_before_it_is_told_to_has_still_spoken() {
        use std::net::Shutdown;
        use std::os::unix::net::UnixStream;
        let (supervisor, supervisors) = UnixStream::pair().expect("pair");
        let (worker, workers) = UnixStream::pair().expect("pair");
        for end in [&supervisor, &worker, &workers] {
            end.set_nonblocking(true).expect("nonblocking");
        }
        let words = Words {
            configure: Configure::default(),
            begin: Begin::default(),
        };
        let talking = tokio::spawn(talk(words, supervisor, worker));
        let workers = tokio::net::UnixStream::from_std(workers).expect("stream");
        let (mut heard, mut say) = link::split::<ToWorker, FromWorker>(workers, 1 << 20);
        let credit = async {
            while let Some(frame) = heard.next().await.expect("frame") {
                if matches!(frame.message, Some(to_worker::Message::Credit(_))) {
                    return;
                }
            }
        };
        credit.await;
        // Whatever is said from here on finds nobody.
        supervisors.shutdown(Shutdown::Both).expect("shutdown");
        drop(supervisors);
        let outcome = WorkOutcome {
            engine_processes: 7,
            ..WorkOutcome::default()
        };
        let message = Some(from_worker::Message::Outcome(outcome.clone()));
        say.send(&FromWorker { message }).await.expect("said");
        drop((heard, say));
        let collected = talking.await.expect("no panic").expect("collected");
        assert_eq!(collected.outcome, outcome);
    }

    #[test]
    fn a_told_state_counts_unless_a_newer_one_is_found() {
        let kept = |serial, ledger_seq| LocalCheckpoint {
            file: format!("{serial}"),
            checkpoint: Some(Checkpoint {
                blob: Some(proto::v1::BlobRef {
                    sha256: Vec::new(),
                    size: serial,
                }),
                serial,
                ledger_seq,
                ..Checkpoint::default()
            }),
        };
        for (found, told, wanted) in [
            (None, kept(3, 1), 3),
            (Some(kept(4, 0)), kept(3, 9), 4),
            (Some(kept(2, 9)), kept(3, 0), 3),
        ] {
            let mut outcome = WorkOutcome {
                state: found,
                ..WorkOutcome::default()
            };
            prefer(&mut outcome, &[], Some(&told));
            assert_eq!(outcome.state.expect("a state").file, wanted.to_string());
        }
    }
}
