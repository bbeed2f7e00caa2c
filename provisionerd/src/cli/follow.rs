//! Waits for a job and shows it meanwhile. Losing the queue is no reason to stop: both
//! streams are opened again where they broke, until patience ends.

use std::time::{Duration, Instant};

use proto::v1::{
    GetJobRequest, JobStatus, JobView, LogBatch, Phase, StoredLine, StreamLogsRequest,
};
use tonic::{Status, Streaming};

use super::Context;
use crate::client::{Client, is_lost, is_pruned};
use crate::failure::{Exit, Failure};
use crate::render::live::View;
use crate::render::words::has_ended;

/// How long an unreachable queue is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to reach it.
const RETRY: Duration = Duration::from_millis(300);
/// Between two looks at the ledger of an apply.
const LEDGER: Duration = Duration::from_secs(1);
/// Between two frames of the live view.
const FRAME: Duration = Duration::from_millis(100);
/// How long the last log lines are waited for after the job has ended.
const LAST_LINES: Duration = Duration::from_secs(5);

/// How waiting ended.
pub enum Watched {
    /// The job has ended.
    Ended(Box<JobView>),
    /// ^C: the job goes on without us.
    Interrupted,
}

/// What ^C means to the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// Nothing: only this command stops waiting.
    LeavesJob,
    /// The caller ends it.
    EndsJob,
}

/// Follows `job` on stderr until it has ended.
///
/// # Errors
/// The queue refuses or stays unreachable.
pub async fn follow(
    context: &Context,
    client: &Client,
    job: JobView,
    interrupt: Interrupt,
) -> Result<Watched, Failure> {
    let mut view = context.view();
    let id = job.id.clone();
    let mut follower = Follower {
        client: client.clone(),
        job,
        seen: 0,
        ledger_at: Instant::now(),
    };
    let ended = tokio::select! {
        ended = follower.run(&mut view) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            view.close();
            if interrupted.is_ok() && interrupt == Interrupt::LeavesJob {
                context.say(&format!(
                    "job {id} goes on: `provisionerd jobs wait {id}` waits for it, `provisionerd jobs cancel {id}` ends it"
                ));
            }
            return Ok(Watched::Interrupted);
        }
    };
    view.close();
    ended?;
    Ok(Watched::Ended(Box::new(follower.job)))
}

/// The exit code that a job's end deserves.
pub fn exit_of(job: &JobView) -> Exit {
    match job.status() {
        JobStatus::Succeeded => Exit::Done,
        JobStatus::Failed
        | JobStatus::Canceled
        | JobStatus::Unspecified
        | JobStatus::Pending
        | JobStatus::Running
        | JobStatus::Canceling => Exit::Failed,
    }
}

struct Follower {
    client: Client,
    job: JobView,
    /// Public sequence of the last line shown.
    seen: u64,
    ledger_at: Instant,
}

/// What one look at the streams brought.
enum News {
    Job(Box<Result<Option<JobView>, Status>>),
    Lines(Result<Option<LogBatch>, Status>),
    Frame,
}

impl Follower {
    async fn run(&mut self, view: &mut View) -> Result<(), Failure> {
        let mut lost_since: Option<Instant> = None;
        loop {
            view.job(&self.job);
            let broken = match self.streams(view, &mut lost_since).await {
                Ok(()) => return Ok(()),
                Err(status) => status,
            };
            let since = *lost_since.get_or_insert_with(Instant::now);
            if !is_lost(&broken) || since.elapsed() > PATIENCE {
                return Err(self.client.failure(&broken));
            }
            view.lost();
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Until the job has ended, or a stream breaks.
    async fn streams(
        &mut self,
        view: &mut View,
        lost_since: &mut Option<Instant>,
    ) -> Result<(), Status> {
        let mut jobs = self.client.watch_job(&self.job.id).await?;
        let request = StreamLogsRequest {
            job_id: self.job.id.clone(),
            after: self.seen,
            follow: true,
        };
        let mut logs = Some(self.client.stream_logs(request).await?);
        let mut frames = tokio::time::interval(FRAME);
        let mut ended_at: Option<Instant> = None;
        while !(ended_at.is_some() && logs.is_none()) {
            // Cancel safe: `message` keeps a partial message inside the stream.
            let news = tokio::select! {
                job = jobs.message(), if ended_at.is_none() => News::Job(Box::new(job)),
                lines = next(&mut logs), if logs.is_some() => News::Lines(lines),
                _ = frames.tick() => News::Frame,
            };
            match news {
                News::Job(job) => {
                    let job = (*job)?.ok_or_else(|| Status::unavailable("the stream ended"))?;
                    *lost_since = None;
                    // Resources belong above the line that ends their phase.
                    let leaves = self.job.phase() == Phase::Apply && job.phase() != Phase::Apply;
                    self.job = job;
                    if leaves {
                        self.ledger_at = Instant::now() - LEDGER;
                        self.ledger(view).await?;
                    }
                    view.job(&self.job);
                    ended_at = has_ended(self.job.status()).then(Instant::now);
                }
                News::Lines(lines) => match lines {
                    Ok(Some(batch)) => self.lines(view, &batch.lines),
                    Ok(None) => logs = None,
                    // Of a job that ended long ago; the job itself is there.
                    Err(status) if is_pruned(&status) => logs = None,
                    Err(status) => return Err(status),
                },
                News::Frame => {
                    view.frame();
                    if ended_at.is_some_and(|at| at.elapsed() > LAST_LINES) {
                        logs = None;
                    }
                    self.ledger(view).await?;
                }
            }
        }
        self.ledger_at = Instant::now() - LEDGER;
        self.ledger(view).await
    }

    fn lines(&mut self, view: &mut View, lines: &[StoredLine]) {
        for line in lines.iter().filter(|line| line.seq > self.seen) {
            view.line(line);
        }
        let last = lines.iter().map(|line| line.seq).max();
        self.seen = self.seen.max(last.unwrap_or(0));
    }

    async fn ledger(&mut self, view: &mut View) -> Result<(), Status> {
        let applies = self.job.phase() >= Phase::Apply;
        if !view.wants_ledger() || !applies || self.ledger_at.elapsed() < LEDGER {
            return Ok(());
        }
        self.ledger_at = Instant::now();
        let id = self.job.id.clone();
        // A view is decoration: without the ledger it shows the phases only.
        if let Ok(reply) = self.client.get_ledger(GetJobRequest { id }).await {
            view.ledger(&reply.entries);
        }
        Ok(())
    }
}

async fn next(logs: &mut Option<Streaming<LogBatch>>) -> Result<Option<LogBatch>, Status> {
    match logs {
        Some(logs) => logs.message().await,
        None => std::future::pending().await,
    }
}
