//! What worker and supervisor say. The supervisor is trusted; whatever the worker says
//! is checked here and goes no further when it is wrong.

use std::time::Duration;

use proto::limits;
use proto::v1;
use proto::v1::journal_record::Record;
use proto::v1::{
    AskGate, Batch, Credit, FromSupervisor, FromWorker, JobError, LedgerEntries, LedgerEntry,
    LocalCheckpoint, MarkSensitive, Process, StartRefused, from_supervisor, from_worker,
    to_supervisor, to_worker,
};
use tokio::time::Instant;

use super::super::{log, reserve};
use super::Ending;
use super::begin;
use super::pump::{Gate, Pump, Worker};

/// The worker broke a rule that keeps the daemon safe from it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Foul {
    #[error(transparent)]
    Order(#[from] log::Foul),
    #[error("it spoke before it was told to begin")]
    TooEarly,
    #[error("it announced {count} changes of {bytes} bytes")]
    TooMuchIntended { count: usize, bytes: usize },
    #[error("it answered with an analysis, which nobody asked for")]
    NoAnalysis,
}

impl Pump {
    pub(super) fn supervisor_says(&mut self, frame: FromSupervisor) {
        use from_supervisor::Message;
        self.supervisor_heard = Instant::now();
        match frame.message {
            Some(Message::Ready(ready)) => {
                tracing::debug!(
                    worker.pid = ready.worker_pid,
                    job.sandbox = ready.sandbox,
                    "worker started"
                );
                self.sandbox = ready.sandbox;
                self.worker_heard = Instant::now();
            }
            Some(Message::Started(started)) => {
                self.running.insert(started.number);
                self.context.seen.engine_run();
            }
            Some(Message::Exited(exited)) => {
                self.running.remove(&exited.number);
                self.engine_cpu += Duration::from_micros(exited.cpu_us);
                if exited.process() == Process::Apply {
                    // The worker writes the final state next.
                    reserve::give_back(&self.dir);
                }
                self.heard_out();
                self.lost_for_good();
            }
            Some(Message::Interrupted(interrupted)) => tracing::info!(
                job.interrupt = interrupted.reason().as_str_name(),
                "engine interrupted"
            ),
            Some(Message::WorkerExited(exited)) => {
                let how = match (exited.code, exited.signal) {
                    (Some(code), _) => format!("it exited with code {code} and no outcome"),
                    (None, signal) => format!("signal {} ended it", signal.unwrap_or(0)),
                };
                self.worker_lost(&how);
            }
            Some(Message::Refused(refused)) => self.start_refused(&refused),
            Some(Message::Ended(_)) => {
                self.running.clear();
                self.worker_lost("the supervisor ended the job");
                self.lost_for_good();
            }
            Some(Message::Heartbeat(_)) | None => {}
        }
    }

    fn start_refused(&mut self, refused: &StartRefused) {
        let message = format!(
            "the worker could not be started: {} (layer {}, errno {})",
            refused.message, refused.layer, refused.errno
        );
        let error = JobError::internal("WORKER_NOT_STARTED", message)
            .hint("the daemon's log on its host says more");
        tracing::error!(error = error.message, "this host cannot start workers");
        self.stop.blame_host();
        self.ending.get_or_insert(Ending::Failed(error));
    }

    /// What a worker said counts once its last process has ended.
    fn heard_out(&mut self) {
        if self.worker != Worker::Lost
            && self.running.is_empty()
            && let Some((_, outcome)) = self.spoken.take()
        {
            self.ending.get_or_insert(Ending::Worked(outcome));
        }
    }

    pub(super) async fn worker_says(&mut self, frame: FromWorker) {
        use from_worker::Message;
        if self.worker == Worker::Lost {
            return;
        }
        self.worker_heard = Instant::now();
        let Some(message) = frame.message else {
            return;
        };
        if self.worker == Worker::Waits && !matches!(message, Message::Heartbeat(_)) {
            return self.foul(&Foul::TooEarly);
        }
        match message {
            Message::Heartbeat(_) => {}
            Message::Batch(batch) => {
                if let Err(foul) = self.batch(batch) {
                    self.foul(&foul);
                }
            }
            Message::MarkSensitive(mark) => self.keep_secret(mark),
            Message::AskGate(asked) => match check_intended(&asked) {
                Ok(()) => self.gate_asked(asked).await,
                Err(foul) => self.foul(&foul),
            },
            Message::Checkpoint(checkpoint) => self.checkpointed(checkpoint).await,
            Message::Outcome(outcome) => {
                self.spoken = Some((Instant::now(), Box::new(outcome)));
                self.heard_out();
            }
            Message::Analysis(_) => self.foul(&Foul::NoAnalysis),
            Message::LinesEnd(_) => self.lines_ended = true,
        }
    }

    /// A job whose secrets cannot be kept must not go on: here, and in the journal for
    /// whoever reads its log again.
    fn keep_secret(&mut self, mark: MarkSensitive) {
        if let Err(error) = self.record(Record::Sensitive(mark.clone())) {
            tracing::error!(error = %error, "what is secret cannot be journalled: the job goes back");
            self.stop.blame_host();
            self.ending.get_or_insert(Ending::Stopped);
            return;
        }
        let secrets = begin::marked(&self.job, mark);
        if let Err(error) = self.log.redactor.learn(secrets) {
            let error = JobError::user("SECRETS_TOO_LARGE", super::chain(&error))
                .hint("shorten the values of sensitive variables");
            self.ending.get_or_insert(Ending::Failed(error));
        }
    }

    fn foul(&mut self, foul: &Foul) {
        tracing::error!(error = %foul, "the worker broke the protocol");
        self.worker_lost(&foul.to_string());
    }

    fn batch(&mut self, batch: Batch) -> Result<(), Foul> {
        let phase = batch.phase();
        if phase as i32 > self.phase as i32 {
            self.phase = phase;
            self.context.jobs.reached(&self.lease.job_id, phase);
            self.spans.phase(phase);
            self.log.outbox.hurry();
        }
        self.check_ledger(&batch.ledger)?;
        self.log.take(batch.lines)?;
        if let Some(last) = batch.ledger.last() {
            let entries = batch.ledger.clone();
            let told = Credit {
                line_seq: 0,
                ledger_seq: last.seq,
            };
            // Until then the worker keeps what they were read from.
            match self.record(Record::Ledger(LedgerEntries { entries })) {
                Ok(()) => self.tell_worker(to_worker::Message::Credit(told)),
                Err(error) => {
                    tracing::error!(error = %error, "ledger entries cannot be journalled");
                }
            }
            self.spans.ledger(&batch.ledger);
            self.ledger.extend_from_slice(&batch.ledger);
            self.log.outbox.ledger(batch.ledger);
        }
        Ok(())
    }

    fn check_ledger(&self, entries: &[LedgerEntry]) -> Result<(), log::Foul> {
        let mut last = self.ledger.last().map_or(0, |entry| entry.seq);
        for entry in entries {
            log::in_order("ledger entry", entry.seq, last)?;
            last = entry.seq;
        }
        Ok(())
    }

    /// A good state is on our disk: into the journal, then to the queue.
    async fn checkpointed(&mut self, checkpoint: LocalCheckpoint) {
        let record = Record::Checkpoint(checkpoint.clone());
        if self.journal.commit(record.clone()).await.is_err() {
            reserve::give_back(&self.dir);
            if let Err(error) = self.journal.commit(record).await {
                tracing::error!(error = %error, "a checkpoint cannot be journalled");
            }
        }
        self.checkpoint = Some(checkpoint.clone());
        self.to_ship = Some(checkpoint);
    }

    /// The first step that changes the world is due: from here on a restart must assume
    /// that it happened, so the disk knows before the queue is asked.
    async fn gate_asked(&mut self, asked: AskGate) {
        match self.gate {
            Gate::Asked => return,
            Gate::Open => return self.answer_gate(Gate::Open),
            Gate::Closed if !self.stop.stops() => {}
            Gate::Closed | Gate::Refused => return self.answer_gate(Gate::Refused),
        }
        match self.prepare_for_change(&asked).await {
            Ok(()) => {
                self.intended = asked;
                self.gate = Gate::Asked;
                self.spans.gate_asked();
                self.log.outbox.hurry();
            }
            Err(error) => {
                tracing::error!(error = %error, "the gate cannot be journalled: it stays shut");
                self.stop.blame_host();
                self.answer_gate(Gate::Refused);
            }
        }
    }

    /// The disk holds the job by its name, knows of the gate, and has room for the end.
    async fn prepare_for_change(&self, asked: &AskGate) -> std::io::Result<()> {
        let dir = self.dir.clone();
        let reserve = reserve::size(self.job.state.as_ref());
        tokio::task::spawn_blocking(move || {
            reserve::take(&dir, reserve)?;
            std::fs::File::open(dir.root())?.sync_all()?;
            match dir.root().parent() {
                Some(jobs) => std::fs::File::open(jobs)?.sync_all(),
                None => Ok(()),
            }
        })
        .await
        .map_err(std::io::Error::other)??;
        self.journal
            .commit(Record::GateAsked(v1::GateAsked {
                intended: asked.intended.clone(),
                intended_left_out: asked.intended_left_out,
            }))
            .await
    }

    pub(super) fn answer_gate(&mut self, gate: Gate) {
        self.gate = gate;
        self.spans.gate_answered();
        if gate == Gate::Open {
            let deadline_boottime_ns = self.trust.until().as_nanos();
            self.tell_supervisor(to_supervisor::Message::GateOpen(v1::GateOpen {
                deadline_boottime_ns,
            }));
        }
        self.tell_worker(to_worker::Message::Gate(v1::GateAnswer {
            open: gate == Gate::Open,
        }));
    }

    /// Appends a record, on a full disk with the space that is held back.
    pub(super) fn record(&self, record: Record) -> std::io::Result<()> {
        self.journal.append(record.clone()).or_else(|_| {
            reserve::give_back(&self.dir);
            self.journal.append(record)
        })
    }

    /// The same for a record whose loss costs no more than a question asked twice.
    pub(super) fn try_record(&self, record: Record) {
        if let Err(error) = self.record(record) {
            tracing::error!(error = %error, "a record cannot be journalled");
        }
    }
}

/// What is announced fits an update.
fn check_intended(asked: &AskGate) -> Result<(), Foul> {
    let size = |change: &v1::IntendedChange| change.address.len() + change.id.len();
    let bytes = asked.intended.iter().map(size).sum();
    let count = asked.intended.len();
    if count > limits::INTENDED_CHANGES || bytes > limits::INTENDED_BYTES {
        return Err(Foul::TooMuchIntended { count, bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::IntendedChange;

    #[test]
    fn more_announced_changes_than_an_update_takes_are_foul() {
        let asked = |count: usize, address: usize| AskGate {
            intended: vec![
                IntendedChange {
                    address: "x".repeat(address),
                    ..IntendedChange::default()
                };
                count
            ],
            intended_left_out: 7,
        };
        assert_eq!(check_intended(&asked(limits::INTENDED_CHANGES, 1)), Ok(()));
        assert!(check_intended(&asked(limits::INTENDED_CHANGES + 1, 1)).is_err());
        assert_eq!(check_intended(&asked(1, limits::INTENDED_BYTES)), Ok(()));
        assert!(check_intended(&asked(1, limits::INTENDED_BYTES + 1)).is_err());
    }
}
