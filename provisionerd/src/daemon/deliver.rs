//! The last word of a job, from the journal to the queue, repeated until it is stored:
//! through reconnects, and at the next start when the daemon ends before.
//!
//! ```text
//!   finish in the journal ──▶ lines that do not fit ──▶ state as a blob ──▶ FinishJob
//!                                                       unless it is small    │ and brings it
//!                                                                             │
//!                       directory removed ◀── finished in the journal ◀───────┘
//! ```

mod state;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::limits;
use proto::v1::finish_job_request::Brought;
use proto::v1::journal_record::Record;
use proto::v1::{
    FinishJobReply, FinishJobRequest, LocalCheckpoint, LogLevel, LogLine, LogSource, Outcome,
    Phase, ReleaseReason, UpdateJobReply, UpdateJobRequest, UpdateVerdict,
};
use tonic::{Code, Status};
use tracing::Instrument as _;
use worker::job_dir::JobDir;

use super::backoff::Backoff;
use super::context::{Context, Lease};
use super::job;
use super::journal::Journal;
use super::reserve;
use super::retained::{self, Fate};
use crate::connect::{self, Retry};
use crate::telemetry;

/// How often a state is given again to a queue that has lost it since, being put back to
/// an older backup, before the finish is left on disk for the next start.
const STATE_LOST: u32 = 3;

/// A finish on its way.
pub struct Parcel {
    /// The daemon.
    pub context: Arc<Context>,
    /// Whose finish it is.
    pub lease: Lease,
    /// Removed when the queue has stored everything.
    pub dir: JobDir,
    /// Of the job.
    pub journal: Journal,
    /// As concluded.
    pub finish: FinishJobRequest,
    /// The file that holds its state.
    pub kept: Option<LocalCheckpoint>,
    /// Counter of the job's last update.
    pub heartbeat: u64,
    /// Whether the directory stays.
    pub fate: Fate,
}

/// The queue will not take it, now or later.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the queue refuses the finish: {}", .0.message())]
    Finish(#[source] Box<Status>),
    #[error("the provisioner key was revoked")]
    Key,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        match locked_out(&status) {
            true => Self::Key,
            false => Self::Finish(Box::new(status)),
        }
    }
}

impl Parcel {
    /// Writes the ending to the journal; the slot is free from then on.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub async fn commit(&self) -> io::Result<()> {
        reserve::give_back(&self.dir);
        if let Some(kept) = &self.kept {
            self.journal.append(Record::Checkpoint(kept.clone()))?;
        }
        self.journal
            .commit(Record::Finish(self.finish.clone()))
            .await
    }

    /// Repeats until the queue has stored all of it, or the daemon's time is over.
    pub async fn deliver(mut self) -> Delivered {
        let context = self.context.clone();
        let closing = context.closing.clone();
        let _waiting = context.seen.finish_waits();
        let span = tracing::info_span!(target: telemetry::TARGET, "deliver");
        let sent = tokio::select! {
            // Nothing is lost by stopping anywhere: the next start begins again.
            () = closing.cancelled() => None,
            sent = self.send().instrument(span) => Some(sent),
        };
        match sent {
            Some(Ok(reply)) => return self.stored(reply),
            Some(Err(refused)) => {
                context.counts.unsent.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    job.id = self.lease.job_id,
                    journal.path = %self.dir.journal().display(),
                    error = job::chain(&refused),
                    "the queue does not take this finish; it stays on disk and is sent at each start"
                );
            }
            None => {
                context.counts.unsent.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    job.id = self.lease.job_id,
                    "the daemon ends before the queue has this finish; the next start sends it"
                );
            }
        }
        Delivered(None)
    }

    async fn send(&mut self) -> Result<FinishJobReply, Refused> {
        let mut left_out = LeftOut::default();
        while let Some(lines) = excess(&mut self.finish.lines) {
            let request = self.update(lines);
            let reply: UpdateJobReply = self
                .repeat(|mut client| {
                    let request = request.clone();
                    async move { client.update_job(request).await }
                })
                .await?;
            if reply.verdict() == UpdateVerdict::UnknownJob {
                left_out.add(&request.lines);
            }
        }
        left_out.tell(&mut self.finish.lines);
        if let Some(brought) = self.brought().await {
            match self.finish(Some(brought)).await {
                Err(status) if !locked_out(&status) => {
                    // As of a replica of an older release, which looks among its blobs.
                    tracing::debug!(error = %status, "the state is sent by itself");
                }
                ended => return Ok(ended?),
            }
        }
        let mut backoff = Backoff::new(&self.context.options.timings);
        for _ in 0..STATE_LOST {
            self.put_state().await?;
            match self.finish(None).await {
                Err(status) if connect::misses_blob(&status) => {
                    tracing::warn!(job.id = self.lease.job_id, "the queue has lost the state");
                    tokio::time::sleep(backoff.step()).await;
                }
                ended => return Ok(ended?),
            }
        }
        Ok(self.finish(None).await?)
    }

    async fn finish(&self, brought: Option<Brought>) -> Result<FinishJobReply, Status> {
        let finish = FinishJobRequest {
            brought,
            ..self.finish.clone()
        };
        self.repeat(|mut client| {
            let finish = finish.clone();
            async move { client.finish_job(finish).await }
        })
        .await
    }

    fn update(&self, lines: Vec<LogLine>) -> UpdateJobRequest {
        UpdateJobRequest {
            job_id: self.lease.job_id.clone(),
            lease_id: self.lease.lease_id.clone(),
            phase: Phase::Cleanup.into(),
            lines,
            ..UpdateJobRequest::default()
        }
    }

    async fn repeat<T, F>(&self, call: impl Fn(super::context::Client) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let timings = &self.context.options.timings;
        let mut backoff = Backoff::new(timings);
        let mut told = false;
        loop {
            // A finish with a large extraction may take its time, a dead path may not.
            let replied = tokio::time::timeout(
                self.context.call_timeout() * 3,
                call(self.context.client.clone()),
            );
            let status = match replied.await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no reply in time"),
            };
            if locked_out(&status) && self.context.is_revoked() {
                return Err(status);
            }
            if locked_out(&status) {
                // The key may come back, and the last word of a job is worth the wait.
                tracing::warn!(job.id = self.lease.job_id, error = %status, "the key is refused");
                tokio::time::sleep(timings.reconnect_max).await;
                continue;
            }
            if connect::retry(&status) == Retry::Never {
                return Err(status);
            }
            if status.code() == Code::ResourceExhausted && !std::mem::replace(&mut told, true) {
                // Somebody has to make room there.
                tracing::warn!(job.id = self.lease.job_id, error = %status,
                    "the queue has no room for this finish; it stays on disk and is repeated");
            }
            tracing::debug!(job.id = self.lease.job_id, error = %status, "finish is repeated");
            tokio::time::sleep(backoff.step()).await;
        }
    }

    fn stored(self, reply: FinishJobReply) -> Delivered {
        tracing::info!(
            job.id = self.lease.job_id,
            job.attempt = self.lease.attempt,
            job.outcome = self.finish.outcome().as_str_name(),
            job.disposition = reply.disposition().as_str_name(),
            job.error = self.finish.error.as_ref().map(|error| error.code.as_str()),
            "job finished"
        );
        self.context.counts.finished.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.journal.append(Record::Finished(reply)) {
            tracing::warn!(error = %error, "the next start sends a stored finish again");
        }
        Delivered(Some((self.dir, self.fate)))
    }
}

/// The directory of a job whose last word is stored, `None` when it is not.
#[must_use]
pub struct Delivered(Option<(JobDir, Fate)>);

impl Delivered {
    /// Removes the directory, once nothing of the job runs any more.
    pub async fn clean_up(self) {
        if let Some((dir, fate)) = self.0 {
            remove(dir, fate).await;
        }
    }
}

/// Whether the key is refused: no verdict on the request.
pub(super) fn locked_out(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
}

/// Takes away a directory that is no longer needed; one that is to be kept is moved aside.
pub async fn remove(dir: JobDir, fate: Fate) {
    let path = dir.root().to_owned();
    let removed = tokio::task::spawn_blocking(move || {
        if let Some(place) = retained::take(&dir, &fate)? {
            tracing::error!(path = %place.display(), "a job's files are kept here");
            return Ok(());
        }
        dir.remove().map_err(io::Error::other)
    });
    let error = match removed.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => job::chain(&error),
        Err(error) => error.to_string(),
    };
    tracing::warn!(path = %path.display(), error, "a job's directory cannot be removed");
}

/// Gives back a job of which nothing is on this disk. Tried for as long as its lease
/// lasts; after that the queue has taken it back by itself.
pub async fn release(context: &Context, lease: &Lease, reason: ReleaseReason) {
    let mut request = FinishJobRequest {
        job_id: lease.job_id.clone(),
        lease_id: lease.lease_id.clone(),
        attempt: lease.attempt,
        ..FinishJobRequest::default()
    };
    request.set_outcome(Outcome::Released);
    request.set_release_reason(reason);
    let timings = &context.options.timings;
    let mut backoff = Backoff::new(timings);
    let calls = async {
        loop {
            match context.client.clone().finish_job(request.clone()).await {
                Ok(_) => return,
                Err(status) if connect::retry(&status) == Retry::Never => {
                    tracing::warn!(error = %status, "the queue does not take a release");
                    return;
                }
                Err(_) => tokio::time::sleep(backoff.step()).await,
            }
        }
    };
    let patience: Duration = timings.lease_pending + timings.confirm;
    if tokio::time::timeout(patience, calls).await.is_err() {
        tracing::warn!(job.id = lease.job_id, "a release did not reach the queue");
    }
}

/// Lines that a queue which does not know the job would not take.
#[derive(Debug, Default)]
struct LeftOut {
    lines: u64,
    bytes: usize,
    last: Option<LogLine>,
}

impl LeftOut {
    fn add(&mut self, lines: &[LogLine]) {
        self.lines += lines.len() as u64;
        self.bytes += lines.iter().map(|line| line.text.len()).sum::<usize>();
        self.last = lines.last().cloned().or(self.last.take());
    }

    /// A line in their place, before those that go with the finish.
    fn tell(self, lines: &mut Vec<LogLine>) {
        let Some(last) = self.last else { return };
        let text = format!(
            "{} lines ({} bytes) are left out: the queue does not know this job",
            self.lines, self.bytes
        );
        let gap = LogLine {
            text,
            source: LogSource::Gap.into(),
            level: LogLevel::Warn.into(),
            more: false,
            ..last
        };
        lines.insert(0, gap);
    }
}

/// Takes the first lines away when all of them are too much for one message.
fn excess(lines: &mut Vec<LogLine>) -> Option<Vec<LogLine>> {
    let mut bytes = 0;
    let fits = lines.iter().take(limits::UPDATE_LINES).take_while(|line| {
        bytes += line.text.len();
        bytes <= limits::UPDATE_BYTES
    });
    let fits = fits.count().max(1);
    (fits < lines.len()).then(|| lines.drain(..fits).collect())
}

#[cfg(test)]
mod tests;
