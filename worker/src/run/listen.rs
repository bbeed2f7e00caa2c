//! The listening side of the worker: one task per socket turns frames into signals,
//! answers and replies, so that a cancel is noticed whatever a step is doing.

use std::sync::Arc;
use std::time::Duration;

use proto::limits::{SUPERVISOR_FRAME, WORKER_FRAME};
use proto::timings;
use proto::v1::{
    Begin, FromWorker, Heartbeat, InterruptReason, Timings, ToSupervisorFromWorker, ToWorker,
    ToWorkerFromSupervisor, from_worker, to_supervisor_from_worker, to_worker,
    to_worker_from_supervisor,
};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::lines::{self, Desk};
use super::notices::Notices;
use super::session::Ends;
use super::signals::Signals;
use super::spool::Spool;
use super::wire::Outbox;
use crate::link;

/// Replies that wait for a step to look: one process runs at a time.
const REPLIES: usize = 16;

/// Both peers of a worker.
pub(super) struct Peers {
    signals: Signals,
    daemon: Outbox<FromWorker>,
    supervisor: Outbox<ToSupervisorFromWorker>,
    begin: Option<oneshot::Receiver<Begin>>,
    stored: watch::Receiver<bool>,
    gate: Option<mpsc::Receiver<bool>>,
    replies: Option<mpsc::Receiver<to_worker_from_supervisor::Message>>,
}

impl Peers {
    /// Starts listening. The tasks end with their sockets.
    pub(super) fn open(daemon: UnixStream, supervisor: UnixStream) -> Self {
        let (from_daemon, to_daemon) = link::split(daemon, WORKER_FRAME);
        let (from_supervisor, to_supervisor) = link::split(supervisor, SUPERVISOR_FRAME);
        let (daemon, _) = Outbox::start(to_daemon);
        let (supervisor, _) = Outbox::start(to_supervisor);
        let signals = Signals::new();
        let (begin_out, begin) = oneshot::channel();
        let (gate_out, gate) = mpsc::channel(1);
        let (stored_out, stored) = watch::channel(false);
        let ears = Ears {
            signals: signals.clone(),
            begin: Some(begin_out),
            gate: gate_out,
            stored: stored_out,
        };
        tokio::spawn(ears.listen(from_daemon));
        let (reply_out, replies) = mpsc::channel(REPLIES);
        tokio::spawn(relay(from_supervisor, reply_out));
        Self {
            signals,
            daemon,
            supervisor,
            begin: Some(begin),
            stored,
            gate: Some(gate),
            replies: Some(replies),
        }
    }

    /// The job, `None` when the daemon went away first.
    pub(super) async fn begin(&mut self) -> Option<Begin> {
        self.begin.take()?.await.ok()
    }

    /// Tells both peers every so often that this process is alive, until the handle is
    /// dropped.
    pub(super) fn beat(&self, timings: Option<&Timings>) -> AbortOnDropHandle<()> {
        let timings = timings.map_or_else(timings::Timings::default, timings::Timings::from);
        let every = timings.heartbeat.max(Duration::from_millis(1));
        let (daemon, supervisor) = (self.daemon.clone(), self.supervisor.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut tick = tokio::time::interval(every);
            loop {
                tick.tick().await;
                daemon.offer(FromWorker {
                    message: Some(from_worker::Message::Heartbeat(Heartbeat {})),
                });
                supervisor.offer(ToSupervisorFromWorker {
                    message: Some(to_supervisor_from_worker::Message::Heartbeat(Heartbeat {})),
                });
            }
        }))
    }

    /// Says something to the daemon without a session.
    pub(super) async fn tell_daemon(&self, frame: FromWorker) {
        self.daemon.send(frame).await;
    }

    /// What a session needs, and the line cursor's task.
    ///
    /// # Panics
    /// When called twice.
    pub(super) fn ends(
        &mut self,
        spool: Spool,
        notices: Notices,
        backlog: u64,
    ) -> (Ends, JoinHandle<u64>) {
        let desk = Desk {
            notices: notices.clone(),
            ..self.desk(spool, backlog)
        };
        let spool = desk.spool.clone();
        let (lines, cursor) = lines::start(desk);
        let ends = Ends {
            signals: self.signals.clone(),
            daemon: self.daemon.clone(),
            supervisor: self.supervisor.clone(),
            replies: self.replies.take().expect("invariant: taken once"),
            gate: self.gate.take().expect("invariant: taken once"),
            lines,
            spool,
            notices,
        };
        (ends, cursor)
    }

    /// What a line cursor needs of files at rest.
    pub(super) fn desk(&self, spool: Spool, backlog: u64) -> Desk {
        Desk {
            daemon: self.daemon.clone(),
            signals: self.signals.clone(),
            spool: Arc::new(spool),
            notices: Notices::default(),
            backlog,
        }
    }

    /// Waits until the daemon has the outcome in its journal, or is gone.
    pub(super) async fn stored(&mut self) {
        let _ = self.stored.wait_for(|stored| *stored).await;
    }
}

/// What the daemon says.
struct Ears {
    signals: Signals,
    begin: Option<oneshot::Sender<Begin>>,
    gate: mpsc::Sender<bool>,
    stored: watch::Sender<bool>,
}

impl Ears {
    async fn listen(mut self, mut inbox: link::Receiver<ToWorker>) {
        loop {
            match inbox.next().await {
                Ok(Some(frame)) => self.hear(frame),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the link to the daemon broke");
                    break;
                }
            }
        }
        // The engine may still run: its state is saved to the end. Lines have no reader
        // any more, so they must not wait for one.
        self.signals.interrupt(InterruptReason::DaemonLost);
        self.signals.grant(u64::MAX);
    }

    fn hear(&mut self, frame: ToWorker) {
        match frame.message {
            Some(to_worker::Message::Begin(begin)) => {
                if let Some(waiting) = self.begin.take() {
                    let _ = waiting.send(begin);
                }
            }
            Some(to_worker::Message::Credit(credit)) => {
                self.signals.grant(credit.line_seq);
                self.signals.journal(credit.ledger_seq);
            }
            Some(to_worker::Message::Gate(answer)) => {
                let _ = self.gate.try_send(answer.open);
            }
            Some(to_worker::Message::Cancel(cancel)) => self.signals.interrupt(cancel.reason()),
            Some(to_worker::Message::Stored(_)) => {
                self.stored.send_replace(true);
            }
            // A newer daemon says more than this release understands.
            None => {}
        }
    }
}

async fn relay(
    mut inbox: link::Receiver<ToWorkerFromSupervisor>,
    replies: mpsc::Sender<to_worker_from_supervisor::Message>,
) {
    loop {
        match inbox.next().await {
            Ok(Some(frame)) => {
                if let Some(message) = frame.message
                    && replies.send(message).await.is_err()
                {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "the link to the supervisor broke");
                return;
            }
        }
    }
}
