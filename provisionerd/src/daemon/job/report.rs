//! The job's side of the queue: updates, the gate's answer, blobs in both directions.

use proto::v1::journal_record::Record;
use proto::v1::{
    AskGate, CancelKind, Credit, Deadline, GateOpened, JobError, LocalCheckpoint, Shipped,
    UpdateJobReply, UpdateJobRequest, UpdateVerdict, to_supervisor, to_worker,
};
use tokio::time::Instant;
use tonic::Status;

use super::super::backoff::Backoff;
use super::super::blobs::{self, Fetch};
use super::super::context::{Context, Lease};
use super::super::deliver;
use super::super::last_lines;
use super::super::lease::BootTime;
use super::super::outbox::Batch;
use super::Ending;
use super::begin;
use super::pump::{AtQueue, Done, Gate, Pump, Worker};
use crate::connect::{self, Retry};

/// An update that came back.
pub(super) struct Updated {
    asked: BootTime,
    gate: Gate,
    batch: Batch,
    reply: Result<UpdateJobReply, Status>,
}

impl Pump {
    /// Fetches archive and state beside the loop, so that the lease is kept meanwhile.
    pub(super) fn fetch(&mut self) {
        let context = self.context.clone();
        let lease = self.lease.clone();
        let blobs = [
            (self.job.archive.clone(), self.dir.archive()),
            (self.job.state.clone(), self.dir.state()),
        ];
        self.calls.spawn(async move {
            for (blob, target) in blobs {
                let Some(blob) = blob else { continue };
                let fetched = fetch(&context, &lease, &blob, &target).await;
                if fetched.is_err() {
                    return Done::Fetched(fetched);
                }
            }
            Done::Fetched(Ok(()))
        });
    }

    pub(super) fn send_what_is_due(&mut self) {
        let now = Instant::now();
        if !self.updating && self.log.is_open() && now >= self.log.outbox.due().max(self.not_before)
        {
            self.update(now);
        }
        let ship = !self.shipping && now >= self.ship_after;
        if let Some(checkpoint) = self.to_ship.take_if(|_| ship) {
            self.ship(checkpoint, now);
        }
    }

    fn update(&mut self, now: Instant) {
        self.counter += 1;
        self.updating = true;
        let batch = self.log.outbox.take(now);
        let gate = self.gate;
        // Each question carries it: which of them opens the gate is not known before.
        let announced = match gate {
            Gate::Asked => {
                self.at_queue = AtQueue::Asked;
                self.intended.clone()
            }
            Gate::Closed | Gate::Open | Gate::Refused => AskGate::default(),
        };
        let request = UpdateJobRequest {
            job_id: self.lease.job_id.clone(),
            lease_id: self.lease.lease_id.clone(),
            counter: self.counter,
            phase: self.phase.into(),
            lines: batch.lines.clone(),
            ledger: batch.ledger.clone(),
            checkpoint: batch.checkpoint.clone(),
            gate: matches!(gate, Gate::Asked | Gate::Open),
            intended: announced.intended,
            intended_left_out: announced.intended_left_out,
        };
        let context = self.context.clone();
        self.calls.spawn(async move {
            let asked = BootTime::now();
            let mut client = context.client.clone();
            let update = client.update_job(request);
            let reply = tokio::time::timeout(context.call_timeout(), update)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no reply in time")));
            if let Ok(reply) = &reply {
                context.hear(reply.metadata());
            }
            Done::Updated(Box::new(Updated {
                asked,
                gate,
                batch,
                reply: reply.map(tonic::Response::into_inner),
            }))
        });
    }

    /// The newest checkpoint only: an older one that waited is worth nothing.
    fn ship(&mut self, checkpoint: LocalCheckpoint, now: Instant) {
        self.shipping = true;
        self.ship_after = now + self.context.options.timings.checkpoint_ship;
        let client = self.context.bulk.clone();
        let lease = self.lease.clone();
        let dir = self.dir.clone();
        let how = self.context.how();
        self.calls.spawn(async move {
            let shipped = blobs::ship(&client, &lease, &dir, (&checkpoint, how)).await;
            Done::Shipped(checkpoint, shipped)
        });
    }

    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Fetched(fetched) => self.fetched(fetched),
            Done::Updated(updated) => self.updated(&updated),
            Done::Shipped(checkpoint, shipped) => self.shipped(checkpoint, shipped),
        }
    }

    fn fetched(&mut self, fetched: Result<(), blobs::Error>) {
        match fetched {
            Ok(()) if self.worker == Worker::Waits && !self.stop.stops() => {
                self.worker = Worker::Works;
                self.worker_heard = Instant::now();
                let begin = begin::begin(&self.context, &self.job, &self.engine);
                self.tell_worker(to_worker::Message::Begin(begin));
            }
            Ok(()) => {}
            Err(error) => {
                let message = format!(
                    "the job's archive or state could not be fetched: {}",
                    super::chain(&error)
                );
                if matches!(error, blobs::Error::Disk(_)) {
                    tracing::error!(error = message, "this host's disk is full or broken");
                    self.stop.blame_host();
                }
                let error = JobError::internal("BLOB_UNAVAILABLE", message);
                self.ending.get_or_insert(Ending::Failed(error));
            }
        }
    }

    fn updated(&mut self, updated: &Updated) {
        self.updating = false;
        let now = Instant::now();
        match &updated.reply {
            Ok(reply) => {
                self.backoff.reset();
                self.not_before = now;
                self.answered(updated, reply);
            }
            Err(status) => {
                self.not_before = now + self.backoff.step();
                self.log.outbox.hurry();
                tracing::debug!(error = %status, "update was not answered");
                if deliver::locked_out(status) {
                    // The lease ends without renewal, and its deadline the engine; before
                    // the gate others have the job then.
                    if self.gate != Gate::Open && BootTime::now() > self.trust.until() {
                        tracing::error!(error = %status.message(), "the key is refused; the job ends here");
                        self.lease_lost();
                    }
                    self.not_before = now + self.context.options.timings.reconnect_max;
                } else if connect::misses_blob(status) {
                    tracing::warn!("the queue has lost a checkpoint; it is sent again");
                    self.log.outbox.forget_checkpoint();
                    self.to_ship = self.to_ship.take().or_else(|| self.checkpoint.clone());
                } else if connect::retry(status) == Retry::Never {
                    tracing::error!(error = %status.message(), "the queue refuses this job's updates");
                    self.lease_lost();
                    self.updates_end();
                }
            }
        }
    }

    /// Nobody takes lines any more: the worker must not wait for it.
    fn updates_end(&mut self) {
        self.log.close();
        self.tell_worker(to_worker::Message::Credit(Credit {
            line_seq: u64::MAX,
            ledger_seq: 0,
        }));
    }

    fn answered(&mut self, updated: &Updated, reply: &UpdateJobReply) {
        match reply.verdict() {
            UpdateVerdict::Accepted | UpdateVerdict::Unspecified => {
                self.log.outbox.stored(&updated.batch);
                last_lines::stored(&self.journal, &updated.batch);
                self.credit(&updated.batch, reply.stored_seq);
                self.renewed(updated, reply);
            }
            UpdateVerdict::Fenced => {
                tracing::warn!("the job is no longer ours");
                self.log.outbox.stored(&updated.batch);
                last_lines::stored(&self.journal, &updated.batch);
                self.credit(&updated.batch, reply.stored_seq);
                self.lease_lost();
            }
            UpdateVerdict::UnknownJob => {
                tracing::warn!("the queue does not know the job");
                self.lease_lost();
                self.updates_end();
            }
        }
    }

    /// The worker may forget what the queue has.
    fn credit(&self, batch: &Batch, stored_seq: u64) {
        let line_seq = batch
            .lines
            .last()
            .map_or(0, |line| line.seq)
            .max(stored_seq);
        if self.worker == Worker::Works && line_seq > 0 {
            let credit = Credit {
                line_seq,
                ledger_seq: 0,
            };
            self.tell_worker(to_worker::Message::Credit(credit));
        }
    }

    fn renewed(&mut self, updated: &Updated, reply: &UpdateJobReply) {
        if let Some(lease) = &reply.lease {
            self.trust.renew(lease, updated.asked);
        }
        if self.at_queue == AtQueue::Asked {
            self.at_queue = match reply.gate_open {
                true => AtQueue::Open,
                // Its answer to a question counts, and to whatever came behind one.
                false => AtQueue::Shut,
            };
        }
        let cancel = reply.cancel();
        if !matches!(cancel, CancelKind::Unspecified | CancelKind::None) {
            self.cancelled(cancel);
        }
        match self.gate {
            Gate::Open => self.tell_supervisor(to_supervisor::Message::Deadline(Deadline {
                boottime_ns: self.trust.until().as_nanos(),
            })),
            Gate::Asked if updated.gate == Gate::Asked => self.gate_answered(updated, reply),
            Gate::Asked | Gate::Closed | Gate::Refused => {}
        }
    }

    /// A gate that was refused here may have opened at the queue by a question whose reply
    /// was not waited for: it says so when it is asked for nothing.
    pub(super) async fn learn_of_gate(&mut self) {
        const ROUNDS: usize = 2;
        for _ in 0..ROUNDS {
            if self.gate != Gate::Refused || self.at_queue != AtQueue::Asked {
                return;
            }
            if !self.updating && self.log.is_open() {
                self.update(Instant::now());
            }
            let patience = self.context.call_timeout();
            let replied = async {
                while self.updating {
                    match self.calls.join_next().await {
                        Some(Ok(done)) => self.done(done),
                        Some(Err(_)) => {}
                        None => return,
                    }
                }
            };
            if tokio::time::timeout(patience, replied).await.is_err() {
                return;
            }
        }
    }

    fn gate_answered(&mut self, updated: &Updated, reply: &UpdateJobReply) {
        if self.stop.stops() {
            return self.answer_gate(Gate::Refused);
        }
        // Not yet, or too long ago: the next update asks again.
        if !reply.gate_open || self.trust.is_stale(updated.asked, BootTime::now()) {
            self.not_before = Instant::now() + self.backoff.step();
            return self.log.outbox.hurry();
        }
        self.try_record(Record::GateOpened(GateOpened {}));
        self.answer_gate(Gate::Open);
    }

    fn shipped(&mut self, checkpoint: LocalCheckpoint, shipped: Result<(), blobs::Error>) {
        self.shipping = false;
        match shipped {
            Ok(()) => {
                if let Some(checkpoint) = checkpoint.checkpoint {
                    self.try_record(Record::Shipped(Shipped {
                        blob: checkpoint.blob.clone(),
                    }));
                    self.log.outbox.checkpoint(checkpoint);
                }
            }
            Err(error) if error.retry() == Retry::Later => {
                self.ship_after = Instant::now() + self.backoff.step();
                self.to_ship.get_or_insert(checkpoint);
            }
            // Replaced while it was read, as a rule: a newer one is on its way.
            Err(error) => {
                tracing::warn!(error = super::chain(&error), "a checkpoint was not shipped");
            }
        }
    }
}

async fn fetch(
    context: &Context,
    lease: &Lease,
    blob: &proto::v1::BlobRef,
    target: &std::path::Path,
) -> Result<(), blobs::Error> {
    let mut backoff = Backoff::new(&context.options.timings);
    let mut fetch = Fetch::begin(blob, target).await?;
    loop {
        match fetch.go_on(&context.bulk, lease, context.way.now()).await {
            Err(error) if error.retry() == Retry::Later => {
                tracing::debug!(error = %error, "a blob's transfer goes on after a break");
                tokio::time::sleep(backoff.step()).await;
            }
            ended => return ended,
        }
    }
}
