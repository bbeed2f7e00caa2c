//! What all steps of a job share: the job, the ways out, the log, the phase, and what
//! has been found so far. Whatever a step found is kept here at once, so that a failure
//! later on cannot lose it.

use std::sync::{Arc, Mutex};

use proto::v1::{
    Batch, Begin, EngineFacts, Extraction, FromWorker, InterruptReason, Job, JobError, Limits,
    LineSource, LocalCheckpoint, LogLevel, Phase, TemplateFacts, ToSupervisorFromWorker,
    from_worker, to_worker_from_supervisor,
};
use tokio::sync::mpsc;

use super::clock;
use super::engine::Reply;
use super::intended::{self, SharedIntended};
use super::ledger::Ledger;
use super::lines::Segment;
use super::notices::Notices;
use super::phases::Phases;
use super::proof::Habit;
use super::signals::Signals;
use super::spool::Spool;
use super::watch::SharedLedger;
use super::wire::Outbox;
use crate::job_dir::JobDir;

/// Why a step is the last one.
#[derive(Debug, PartialEq)]
pub(super) enum Stop {
    /// The job was told to stop; nothing is wrong with it.
    Interrupted(InterruptReason),
    Failed(JobError),
    /// The supervisor is gone, and with it all that could end the job in order.
    SupervisorLost,
}

impl<E: Into<JobError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What the job has brought so far.
#[derive(Debug, Default)]
pub(super) struct Product {
    pub(super) state: Option<LocalCheckpoint>,
    /// Ledger entries that the reported state proves.
    pub(super) proved_seq: u64,
    pub(super) extraction: Option<Extraction>,
    pub(super) facts: Option<TemplateFacts>,
    /// The engine left something that could not be read or kept.
    pub(super) incomplete: bool,
}

/// See the module.
pub(super) struct Session {
    pub(super) dir: JobDir,
    pub(super) begin: Begin,
    pub(super) job: Job,
    pub(super) limits: Limits,
    pub(super) signals: Signals,
    pub(super) daemon: Outbox<FromWorker>,
    pub(super) supervisor: Outbox<ToSupervisorFromWorker>,
    pub(super) replies: mpsc::Receiver<to_worker_from_supervisor::Message>,
    pub(super) gate: mpsc::Receiver<bool>,
    pub(super) lines: mpsc::UnboundedSender<Segment>,
    pub(super) spool: Arc<Spool>,
    pub(super) notices: Notices,
    pub(super) ledger: SharedLedger,
    pub(super) intended: SharedIntended,
    pub(super) phases: Phases,
    pub(super) processes: u32,
    pub(super) gate_open: bool,
    pub(super) product: Product,
}

/// The ends of the worker's sockets that steps use.
pub(super) struct Ends {
    pub(super) signals: Signals,
    pub(super) daemon: Outbox<FromWorker>,
    pub(super) supervisor: Outbox<ToSupervisorFromWorker>,
    pub(super) replies: mpsc::Receiver<to_worker_from_supervisor::Message>,
    pub(super) gate: mpsc::Receiver<bool>,
    pub(super) lines: mpsc::UnboundedSender<Segment>,
    pub(super) spool: Arc<Spool>,
    pub(super) notices: Notices,
}

impl Session {
    /// For the job in `begin`, in its directory.
    pub(super) fn new(dir: JobDir, mut begin: Begin, ends: Ends) -> Self {
        Self {
            dir,
            job: begin.job.take().unwrap_or_default(),
            limits: begin.limits.unwrap_or_else(proto::limits::for_worker),
            begin,
            signals: ends.signals,
            daemon: ends.daemon,
            supervisor: ends.supervisor,
            replies: ends.replies,
            gate: ends.gate,
            lines: ends.lines,
            spool: ends.spool,
            notices: ends.notices,
            ledger: Mutex::new(Ledger::default()),
            intended: SharedIntended::default(),
            phases: Phases::default(),
            processes: 0,
            gate_open: false,
            product: Product::default(),
        }
    }

    /// The phase in force.
    pub(super) fn phase(&self) -> Phase {
        self.phases.current()
    }

    /// Goes on to `phase` and tells the daemon at once; phases never go back.
    pub(super) async fn enter(&mut self, phase: Phase) {
        if self.phases.enter(phase) {
            let batch = Batch {
                phase: phase.into(),
                ..Batch::default()
            };
            let message = Some(from_worker::Message::Batch(batch));
            self.daemon.send(FromWorker { message }).await;
        }
    }

    /// Says something in the job's log.
    pub(super) async fn say(&self, level: LogLevel, text: impl Into<String>) {
        let said = LineSource {
            phase: self.phase().into(),
            level: level.into(),
            text: text.into(),
            time_ms: clock::now_ms(),
            ..LineSource::default()
        };
        let segment = Segment::System(self.spool.source(said.clone()), said);
        // The line cursor outlives the session.
        let _ = self.lines.send(segment);
    }

    /// To be asked between two steps.
    pub(super) fn go_on(&self) -> Result<(), Stop> {
        match self.signals.interrupted() {
            Some(reason) => Err(Stop::Interrupted(reason)),
            None => Ok(()),
        }
    }

    /// Asks to change the world and waits for the answer.
    pub(super) async fn open_gate(&mut self) -> Result<(), Stop> {
        self.go_on()?;
        let asked = intended::lock(&self.intended).ask();
        let message = Some(from_worker::Message::AskGate(asked));
        self.daemon.send(FromWorker { message }).await;
        // Cancel safe: the answer stays in its channel.
        let open = tokio::select! {
            biased;
            () = self.signals.wait_interrupted() => None,
            answer = self.gate.recv() => answer,
        };
        self.go_on()?;
        match open {
            Some(true) => {
                self.gate_open = true;
                self.supervisor_agrees().await
            }
            Some(false) | None => Err(self.refused().await),
        }
    }

    /// The daemon tells the supervisor first, on another socket: what changes the world may
    /// be asked for once the supervisor says that it has heard.
    async fn supervisor_agrees(&mut self) -> Result<(), Stop> {
        loop {
            match self.replies.recv().await {
                Some(Reply::GateOpen(_)) => return Ok(()),
                Some(Reply::Interrupted(interrupted)) => {
                    self.signals.interrupt_since(interrupted);
                    self.go_on()?;
                }
                Some(Reply::Started(_) | Reply::Refused(_) | Reply::Exited(_)) => {}
                None => return Err(Stop::SupervisorLost),
            }
        }
    }

    /// A refusal usually is a cancel, whose frame may come right behind the answer.
    async fn refused(&self) -> Stop {
        let cancel = self.signals.wait_interrupted();
        let _ = tokio::time::timeout(CANCEL_BEHIND_REFUSAL, cancel).await;
        match self.signals.interrupted() {
            Some(reason) => Stop::Interrupted(reason),
            None => Stop::Failed(JobError::internal(
                "GATE_REFUSED",
                "the queue did not let the job change anything",
            )),
        }
    }

    /// When the engine writes its state.
    pub(super) fn habit(&self) -> Habit {
        match self.engine().name.as_str() {
            "tofu" => Habit::Periodic,
            _ => Habit::EachResource,
        }
    }

    /// Which engine runs the job.
    pub(super) fn engine(&self) -> EngineFacts {
        self.begin.engine.clone().unwrap_or_default()
    }
}

/// How long after a refusal its reason may still arrive.
const CANCEL_BEHIND_REFUSAL: std::time::Duration = std::time::Duration::from_millis(500);

/// Runs `work` off the runtime's thread, so that heartbeats go on.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JobError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        JobError::internal(
            "WORKER_PANICKED",
            format!("a step of the worker broke: {error}"),
        )
    })
}
