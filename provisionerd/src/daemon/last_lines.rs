//! The end of a job's log, once its finish is in the journal: lines that still wait for
//! the queue, in the worker's output files and on the way from there. They go before the
//! finish, so that a log is whole when its job has ended.
//!
//! ```text
//!   worker ── lines ──▶ log ── updates ──▶ queue
//!     ▲                                     │
//!     └── credit ◀── cursor in journal ◀────┘   until the worker has told its last line
//! ```
//!
//! The updates keep the lease meanwhile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proto::limits;
use proto::v1::journal_record::Record;
use proto::v1::{
    Begin, Credit, FromWorker, Job, Phase, Reread, UpdateJobReply, UpdateJobRequest, UpdateVerdict,
    from_worker, to_supervisor, to_worker,
};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use worker::job_dir::JobDir;
use worker::launch::{self, Launch};
use worker::link;

use super::backoff::Backoff;
use super::collector;
use super::context::{Context, Lease};
use super::deliver::{Parcel, locked_out};
use super::job::{self, begin};
use super::journal::Journal;
use super::links::{Peers, receive};
use super::log::{Foul, Log};
use super::outbox::{Batch, Outbox};
use super::retained;
use crate::connect::{self, Retry};

/// Why the last line did not come.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The worker ended.
    #[error("the worker ended before its last line")]
    Gone,
    /// It hung.
    #[error("the worker was silent for too long")]
    Silent,
    /// The queue takes nothing of this daemon any more.
    #[error("the provisioner key was revoked")]
    Key,
    /// A frame was broken.
    #[error("the worker's link broke")]
    Link(#[from] link::Error),
    /// It may not be believed.
    #[error(transparent)]
    Foul(#[from] Foul),
    /// What it left cannot be read.
    #[error("the output files cannot be read again")]
    Io(#[from] io::Error),
}

/// Lines on their way.
pub struct LastLines<'a> {
    context: &'a Arc<Context>,
    lease: &'a Lease,
    journal: &'a Journal,
    log: Log,
    /// Of the last update.
    counter: u64,
    calls: JoinSet<(Batch, Result<UpdateJobReply, Status>)>,
    backoff: Backoff,
    not_before: Instant,
    heard: Instant,
}

/// What happened.
enum Event {
    Worker(Box<Result<Option<FromWorker>, link::Error>>),
    Supervisor(bool),
    Replied(Box<(Batch, Result<UpdateJobReply, Status>)>),
    Tick,
}

impl<'a> LastLines<'a> {
    /// With what waits in `log`; `counter` is the last update's.
    pub fn new(
        context: &'a Arc<Context>,
        lease: &'a Lease,
        journal: &'a Journal,
        log: Log,
        counter: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            context,
            lease,
            journal,
            log,
            counter,
            calls: JoinSet::new(),
            backoff: Backoff::new(&context.options.timings),
            not_before: now,
            heard: now,
        }
    }

    /// What has not been sent yet, and the counter of the last update.
    pub fn end(mut self) -> (Log, u64) {
        // One that is in flight brings lines that the finish brings again: stored once.
        self.calls.abort_all();
        (self.log, self.counter)
    }

    /// Takes lines until the worker has told its last one. Those that the queue does not
    /// have then are few, and still in the log.
    ///
    /// # Errors
    /// See [`Error`]: there may be more lines in the worker's files.
    pub async fn listen(&mut self, peers: &mut Peers) -> Result<(), Error> {
        self.heard = Instant::now();
        loop {
            self.send_what_is_due();
            match self.next(peers).await {
                Event::Worker(frame) => {
                    let frame = (*frame)?.ok_or(Error::Gone)?;
                    self.heard = Instant::now();
                    match frame.message {
                        Some(from_worker::Message::Batch(batch)) => self.log.take(batch.lines)?,
                        Some(from_worker::Message::LinesEnd(_)) => return Ok(()),
                        Some(
                            from_worker::Message::Heartbeat(_)
                            | from_worker::Message::Analysis(_)
                            | from_worker::Message::MarkSensitive(_)
                            | from_worker::Message::AskGate(_)
                            | from_worker::Message::Checkpoint(_)
                            | from_worker::Message::Outcome(_),
                        )
                        | None => {}
                    }
                }
                Event::Supervisor(true) => {}
                // Its worker goes with it, whose link says so.
                Event::Supervisor(false) => peers.from_supervisor = None,
                Event::Replied(replied) => {
                    let (batch, reply) = *replied;
                    self.replied(&batch, reply, peers)?;
                }
                Event::Tick if self.heard.elapsed() > self.timings().silent => {
                    return Err(Error::Silent);
                }
                Event::Tick => {}
            }
        }
    }

    /// Cancel safe: links keep what they read, finished calls stay in their set. The
    /// worker is heard last, so that a flood of lines delays no answer.
    async fn next(&mut self, peers: &mut Peers) -> Event {
        let tick = self.wakes_at();
        tokio::select! {
            biased;
            Some(done) = self.calls.join_next() => match done {
                Ok(replied) => Event::Replied(Box::new(replied)),
                Err(error) => {
                    tracing::error!(error = %error, "an update panicked");
                    Event::Tick
                }
            },
            () = sleep_until(tick) => Event::Tick,
            frame = receive(&mut peers.from_supervisor) => {
                Event::Supervisor(matches!(frame, Ok(Some(_))))
            }
            frame = receive(&mut peers.from_worker), if peers.from_worker.is_some() => {
                Event::Worker(Box::new(frame))
            }
        }
    }

    fn wakes_at(&self) -> Instant {
        let look = Instant::now() + self.timings().heartbeat;
        match self.calls.is_empty() && self.log.is_open() {
            true => look.min(self.log.outbox.due().max(self.not_before)),
            false => look,
        }
    }

    fn timings(&self) -> &'a proto::timings::Timings {
        &self.context.options.timings
    }

    fn send_what_is_due(&mut self) {
        let now = Instant::now();
        let due = self.log.outbox.due().max(self.not_before);
        if !self.calls.is_empty() || !self.log.is_open() || now < due {
            return;
        }
        self.counter += 1;
        let batch = self.log.outbox.take(now);
        let request = UpdateJobRequest {
            job_id: self.lease.job_id.clone(),
            lease_id: self.lease.lease_id.clone(),
            counter: self.counter,
            phase: Phase::Cleanup.into(),
            lines: batch.lines.clone(),
            ..UpdateJobRequest::default()
        };
        let mut client = self.context.client.clone();
        let timeout: Duration = self.context.call_timeout();
        self.calls.spawn(async move {
            let reply = tokio::time::timeout(timeout, client.update_job(request)).await;
            let reply = reply.unwrap_or_else(|_| Err(Status::deadline_exceeded("no reply")));
            (batch, reply.map(tonic::Response::into_inner))
        });
    }

    fn replied(
        &mut self,
        batch: &Batch,
        reply: Result<UpdateJobReply, Status>,
        peers: &Peers,
    ) -> Result<(), Error> {
        let now = Instant::now();
        match reply.map(|reply| reply.verdict()) {
            // Also of a job that is no longer ours the lines are kept.
            Ok(UpdateVerdict::Accepted | UpdateVerdict::Fenced | UpdateVerdict::Unspecified) => {
                self.backoff.reset();
                self.log.outbox.stored(batch);
                stored(self.journal, batch);
                if let Some(last) = batch.lines.last() {
                    credit(peers, last.seq);
                }
            }
            Ok(UpdateVerdict::UnknownJob) => self.close(peers),
            Err(status) if locked_out(&status) && self.context.is_revoked() => {
                return Err(Error::Key);
            }
            Err(status) if locked_out(&status) => {
                self.not_before = now + self.timings().reconnect_max;
            }
            Err(status) if connect::retry(&status) == Retry::Never => {
                tracing::error!(job.id = self.lease.job_id, error = %status.message(),
                    "the queue refuses this job's lines");
                self.close(peers);
            }
            Err(status) => {
                tracing::debug!(job.id = self.lease.job_id, error = %status, "lines are sent again");
                self.not_before = now + self.backoff.step();
                self.log.outbox.hurry();
            }
        }
        Ok(())
    }

    /// Nobody takes lines any more: what fits goes with the finish, the rest is counted.
    fn close(&mut self, peers: &Peers) {
        self.log.close();
        credit(peers, u64::MAX);
    }
}

/// The log from where the queue has it on, as a fresh worker reads it from the files of a
/// dead one, and the counter of the last update. Nothing of the job may live; the same
/// holds again when this returns. `None` where there is nothing more than was told.
pub async fn read_again(parcel: &Parcel, job: &Job, told_seq: u64) -> Option<(Log, u64)> {
    if !parcel.dir.lines().exists() {
        return None;
    }
    let context = &parcel.context;
    let past = Journal::read(&parcel.dir.journal()).unwrap_or_default();
    let redactor = begin::redactor(context, job, &past.sensitive).ok()?;
    let outbox = Outbox::new(&context.options.timings, Instant::now());
    let log = Log::after(past.stored_lines, redactor, outbox);
    let counter = parcel.heartbeat;
    let mut lines = LastLines::new(context, &parcel.lease, &parcel.journal, log, counter);
    let read = reread(&mut lines, job, &parcel.dir, past.stored_lines).await;
    let (log, counter) = lines.end();
    if let Err(Error::Key) = read {
        // The next start begins again.
        return None;
    }
    if let Err(error) = read {
        tracing::error!(
            job.id = parcel.lease.job_id,
            error = job::chain(&error),
            "a log cannot be read to its end; the job's files are kept"
        );
        retained::keep(&parcel.dir, &parcel.lease, &parcel.fate);
    }
    (log.seq() >= told_seq).then_some((log, counter))
}

async fn reread(
    lines: &mut LastLines<'_>,
    job: &Job,
    dir: &JobDir,
    after_seq: u64,
) -> Result<(), Error> {
    let context = lines.context;
    let launch = Launch {
        exe: context.options.exe.clone(),
        job_dir: dir.clone(),
        job_id: job.id.clone(),
        namespace: launch::Namespace::Best,
    };
    let launched = tokio::task::spawn_blocking(move || launch::launch(&launch)).await;
    let launched = launched.map_err(io::Error::other)??;
    let mut peers = Peers::over(
        &context.tasks,
        UnixStream::from_std(launched.supervisor)?,
        UnixStream::from_std(launched.worker)?,
    );
    let configure = collector::configure(context);
    peers.tell_supervisor(to_supervisor::Message::Configure(configure));
    peers.tell_worker(to_worker::Message::Begin(Begin {
        job: Some(job.clone()),
        timings: Some((&context.options.timings).into()),
        limits: Some(limits::for_worker()),
        reread: Some(Reread { after_seq }),
        ..Begin::default()
    }));
    let listened = lines.listen(&mut peers).await;
    peers.end();
    collector::wait_for_end(context, dir, &launched.process).await?;
    listened
}

/// Remembers what the queue has, before the worker may forget it.
pub fn stored(journal: &Journal, batch: &Batch) {
    let Some(line_seq) = Log::whole_lines(batch) else {
        return;
    };
    let cursor = Credit {
        line_seq,
        ledger_seq: 0,
    };
    if let Err(error) = journal.append(Record::Cursor(cursor)) {
        // Lines before it are sent again after a restart, and stored once.
        tracing::debug!(error = %error, "the log's cursor cannot be journalled");
    }
}

fn credit(peers: &Peers, line_seq: u64) {
    peers.tell_worker(to_worker::Message::Credit(Credit {
        line_seq,
        ledger_seq: 0,
    }));
}
