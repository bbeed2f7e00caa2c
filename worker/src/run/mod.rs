//! The worker process: the thinking part of one job, in a jail of its own.
//!
//! It reads what a template, an engine and a cloud wrote, asks the supervisor for
//! processes and tells the daemon what happened. It never starts a process, never
//! talks to the queue and never sees a credential of the fleet or the cloud.
//!
//! ```text
//!  steps (template_import, workspace_build)  ── say ──▶ lines ──▶ daemon   waits for credit
//!    └─ engine ── out/ files ──┬──────────────────────▶ lines
//!                              └▶ watch ── ledger ────────────▶ daemon   never waits
//!       work/terraform.tfstate ──▶ checkpoint ────────────────▶ daemon
//! ```

mod agent_scripts;
mod analysis;
mod backend;
mod checkpoint;
mod clock;
mod collect;
mod diagnostic;
mod engine;
mod env;
mod events;
mod files;
mod final_state;
mod grab;
mod intended;
mod ledger;
mod lines;
mod listen;
mod marks;
mod notices;
mod outcome;
mod pace;
mod phases;
mod pieces;
mod plan;
mod prepare;
mod proof;
mod providers;
mod room;
mod session;
mod signals;
mod spool;
mod stream;
mod tail;
mod template_import;
mod thin;
mod vars;
mod verdict;
mod watch;
mod window;
mod wire;
mod workspace_build;

use std::io;
use std::process::ExitCode;

use proto::limits;
use proto::state_index;
use proto::v1::{FromWorker, JobError, JobKind, LinesEnd, from_worker};

use self::listen::Peers;
use self::notices::Notices;
use self::session::{Session, Stop};
use self::spool::Spool;
use crate::jail::{self, Inside};
use crate::job_dir::JobDir;

/// Threads for work that blocks: one long one (archive, extraction), one for checkpoints,
/// one to spare.
const BLOCKING_THREADS: usize = 3;

/// Runs the worker of `job_id`: file descriptor 3 is the daemon, 4 the supervisor, the
/// working directory the job's. Must be called before any thread exists.
#[must_use]
pub fn main(job_id: &str) -> ExitCode {
    let inside = match jail::enter_worker() {
        Ok(inside) => inside,
        Err(error) => {
            tracing::error!(job.id = job_id, %error, "the worker cannot close itself in");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    let work = runtime.and_then(|runtime| runtime.block_on(work(inside)));
    match work {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(job.id = job_id, %error, "the worker gave up");
            ExitCode::FAILURE
        }
    }
}

/// From the first frame to the stored outcome.
async fn work(inside: Inside) -> io::Result<()> {
    let daemon = tokio::net::UnixStream::from_std(inside.daemon)?;
    let supervisor = tokio::net::UnixStream::from_std(inside.supervisor)?;
    let mut peers = Peers::open(daemon, supervisor);
    // The daemon may be fetching a large archive before it says what to do.
    let waiting = peers.beat(None);
    // A daemon that dies before that has no use for an outcome.
    let Some(begin) = peers.begin().await else {
        return Ok(());
    };
    drop(waiting);
    let _heart = peers.beat(begin.timings.as_ref());
    if begin.analysis {
        let analysis = analysis::run(inside.dir, begin.limits).await;
        let message = Some(from_worker::Message::Analysis(analysis));
        peers.tell_daemon(FromWorker { message }).await;
        peers.stored().await;
        return Ok(());
    }
    let backlog = begin
        .limits
        .map_or(limits::LOG_BACKLOG, |it| it.log_backlog_bytes);
    if let Some(left) = begin.reread {
        let last_seq = reread(&peers, &inside.dir, left.after_seq, backlog).await;
        let message = Some(from_worker::Message::LinesEnd(LinesEnd { last_seq }));
        peers.tell_daemon(FromWorker { message }).await;
        peers.stored().await;
        return Ok(());
    }
    let spool = match begin.collect {
        // What a collector says of itself is not part of the job's log.
        Some(_) => Spool::none(&inside.dir),
        None => Spool::begin(&inside.dir),
    };
    let notices = Notices::start(&inside.dir);
    let (ends, cursor) = peers.ends(spool, notices, backlog);
    let daemon = ends.daemon.clone();
    let mut session = Session::new(inside.dir, begin, ends);
    let result = steps(&mut session).await;
    let Some(outcome) = session.outcome(result) else {
        return Err(io::Error::other("the supervisor of the job is gone"));
    };
    let message = Some(from_worker::Message::Outcome(outcome));
    daemon.send(FromWorker { message }).await;
    // With the session its end of the log goes, and the line cursor comes to its end: not
    // before all lines have had credit, for which the outcome must not wait.
    drop(session);
    let last_seq = cursor.await.unwrap_or_default();
    let message = Some(from_worker::Message::LinesEnd(LinesEnd { last_seq }));
    daemon.send(FromWorker { message }).await;
    peers.stored().await;
    Ok(())
}

/// Hands over what a dead worker left of the log.
async fn reread(peers: &Peers, dir: &JobDir, after: u64, backlog: u64) -> u64 {
    let (spool, past) = Spool::again(dir);
    let left = lines::Left {
        dir: dir.clone(),
        past,
        after,
    };
    lines::again(peers.desk(spool, backlog), left).await
}

async fn steps(session: &mut Session) -> Result<(), Stop> {
    if let Some(left) = session.begin.collect.take() {
        return session.collect_left(left).await;
    }
    match session.job.kind() {
        JobKind::TemplateImport => session.template_import().await,
        JobKind::TemplateDryRun => session.dry_run().await,
        JobKind::WorkspaceBuild => session.workspace_build().await,
        JobKind::Unspecified => Err(JobError::internal(
            "JOB_KIND_UNKNOWN",
            "this release does not know the kind of the job",
        )
        .into()),
    }
}
