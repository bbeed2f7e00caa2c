//! The ways between the daemon and the two peers it has for a job. Frames to them are
//! written by a task of their own: a peer that no longer reads must not stop the job's
//! loop.
//!
//! No frame is dropped: an interrupt or the last credit that found no room would never be
//! said again. What would gather for a peer that does not read, deadlines and credit, is
//! summed up instead, and of all else a job says only a handful.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message;
use proto::limits;
use proto::v1::{
    End, FromSupervisor, FromWorker, OutcomeStored, ToSupervisor, ToWorker, to_supervisor,
    to_worker,
};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use worker::link;

use super::tasks::{OnPanic, Tasks};

/// A frame that may say what another one behind it says, too.
pub trait Frame: Message + 'static {
    /// Takes over what `newer` says; whether that is all of it.
    fn absorb(&mut self, newer: &Self) -> bool;
}

impl Frame for ToSupervisor {
    fn absorb(&mut self, newer: &Self) -> bool {
        use to_supervisor::Message::Deadline;
        match (&mut self.message, &newer.message) {
            (Some(Deadline(old)), Some(Deadline(new))) => {
                old.boottime_ns = old.boottime_ns.max(new.boottime_ns);
                true
            }
            _ => false,
        }
    }
}

impl Frame for ToWorker {
    fn absorb(&mut self, newer: &Self) -> bool {
        use to_worker::Message::Credit;
        match (&mut self.message, &newer.message) {
            (Some(Credit(old)), Some(Credit(new))) => {
                old.line_seq = old.line_seq.max(new.line_seq);
                old.ledger_seq = old.ledger_seq.max(new.ledger_seq);
                true
            }
            _ => false,
        }
    }
}

/// The way to one peer. Dropping it closes the link once all frames are written.
#[derive(Debug)]
pub struct Out<M>(Arc<Shared<M>>);

#[derive(Debug)]
struct Shared<M> {
    frames: Mutex<Frames<M>>,
    bell: Notify,
}

#[derive(Debug)]
struct Frames<M> {
    waiting: VecDeque<M>,
    /// More may come, and somebody takes them.
    open: bool,
}

impl<M: Frame> Shared<M> {
    fn frames(&self) -> MutexGuard<'_, Frames<M>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next frame, `None` after the last one. Cancel safe.
    async fn next(&self) -> Option<M> {
        loop {
            {
                let mut frames = self.frames();
                if let Some(frame) = frames.waiting.pop_front() {
                    return Some(frame);
                }
                if !frames.open {
                    return None;
                }
            }
            self.bell.notified().await;
        }
    }
}

impl<M: Frame> Out<M> {
    /// Starts the writer.
    pub fn new(tasks: &Tasks, mut sender: link::Sender<M>) -> Self {
        let shared = Arc::new(Shared {
            frames: Mutex::new(Frames {
                waiting: VecDeque::new(),
                open: true,
            }),
            bell: Notify::new(),
        });
        let taken = shared.clone();
        tasks.spawn("link", OnPanic::LoseJob, async move {
            while let Some(frame) = taken.next().await {
                if let Err(error) = sender.send(&frame).await {
                    // The reading half sees the end of the peer and says what it means.
                    tracing::debug!(error = %error, "peer of a job does not take frames");
                    let mut frames = taken.frames();
                    frames.open = false;
                    frames.waiting.clear();
                    return;
                }
            }
        });
        Self(shared)
    }

    /// Hands a frame over. Without a peer it is dropped: the death of a peer is noticed
    /// where it is listened to.
    pub fn send(&self, frame: M) {
        let mut frames = self.0.frames();
        if !frames.open {
            return tracing::debug!("a frame found no peer");
        }
        let said = frames
            .waiting
            .back_mut()
            .is_some_and(|last| last.absorb(&frame));
        if !said {
            frames.waiting.push_back(frame);
        }
        drop(frames);
        self.0.bell.notify_one();
    }
}

impl<M> Drop for Out<M> {
    fn drop(&mut self) {
        let frames = self.0.frames.lock();
        frames.unwrap_or_else(PoisonError::into_inner).open = false;
        self.0.bell.notify_one();
    }
}

/// Both peers of a job. Dropping them tells both that the daemon is gone.
#[derive(Debug)]
pub struct Peers {
    /// Orders.
    pub to_supervisor: Out<ToSupervisor>,
    /// Answers.
    pub to_worker: Out<ToWorker>,
    /// `None` once it has ended.
    pub from_supervisor: Option<link::Receiver<FromSupervisor>>,
    /// `None` once it has ended.
    pub from_worker: Option<link::Receiver<FromWorker>>,
}

impl Peers {
    /// Over the daemon's ends of both socket pairs.
    pub fn over(tasks: &Tasks, supervisor: UnixStream, worker: UnixStream) -> Self {
        let (from_supervisor, sender) = link::split(supervisor, limits::SUPERVISOR_FRAME);
        let to_supervisor = Out::new(tasks, sender);
        let (from_worker, sender) = link::split(worker, limits::WORKER_FRAME);
        let to_worker = Out::new(tasks, sender);
        Self {
            to_supervisor,
            to_worker,
            from_supervisor: Some(from_supervisor),
            from_worker: Some(from_worker),
        }
    }

    /// Says something to the supervisor.
    pub fn tell_supervisor(&self, message: to_supervisor::Message) {
        self.to_supervisor.send(ToSupervisor {
            message: Some(message),
        });
    }

    /// Says something to the worker.
    pub fn tell_worker(&self, message: to_worker::Message) {
        self.to_worker.send(ToWorker {
            message: Some(message),
        });
    }

    /// Tells both that all is stored and that nothing more is wanted of them.
    pub fn end(&self) {
        self.tell_worker(to_worker::Message::Stored(OutcomeStored {}));
        self.tell_supervisor(to_supervisor::Message::End(End {}));
    }
}

/// The next frame; never when the link has ended. Cancel safe.
pub async fn receive<M: Message + Default>(
    link: &mut Option<link::Receiver<M>>,
) -> Result<Option<M>, link::Error> {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{Credit, Deadline, Interrupt};

    fn to_worker(line_seq: u64, ledger_seq: u64) -> ToWorker {
        ToWorker {
            message: Some(to_worker::Message::Credit(Credit {
                line_seq,
                ledger_seq,
            })),
        }
    }

    fn order(message: to_supervisor::Message) -> ToSupervisor {
        ToSupervisor {
            message: Some(message),
        }
    }

    #[tokio::test]
    async fn a_peer_that_did_not_read_for_long_misses_no_order_and_no_credit() {
        const MANY: u64 = 100_000;
        let (trigger, _) = crate::daemon::shutdown::channel();
        let tasks = Tasks::new(trigger);
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let (workers, theirs_too) = UnixStream::pair().expect("pair");
        let peers = Peers::over(&tasks, ours, workers);
        for n in 1..=MANY {
            let boottime_ns = i64::try_from(n).expect("small");
            peers.tell_supervisor(to_supervisor::Message::Deadline(Deadline { boottime_ns }));
            peers.to_worker.send(to_worker(n, 0));
            peers.to_worker.send(to_worker(0, n * 2));
        }
        let interrupt = Interrupt {
            grace_ms: 7,
            ..Interrupt::default()
        };
        peers.tell_supervisor(to_supervisor::Message::Interrupt(interrupt));
        drop(peers);
        let (mut orders, _keep) = link::split::<ToSupervisor, FromSupervisor>(theirs, 1 << 20);
        let mut heard = Vec::new();
        while let Some(frame) = orders.next().await.expect("frame") {
            heard.push(frame);
        }
        let last = i64::try_from(MANY).expect("small");
        let deadline = order(to_supervisor::Message::Deadline(Deadline {
            boottime_ns: last,
        }));
        let end = order(to_supervisor::Message::Interrupt(interrupt));
        assert_eq!(heard[heard.len() - 2..], [deadline, end]);
        assert!(heard.len() < 10, "{} frames waited", heard.len());
        let (mut words, _keep) = link::split::<ToWorker, FromWorker>(theirs_too, 1 << 20);
        let mut last = None;
        while let Some(frame) = words.next().await.expect("frame") {
            last = Some(frame);
        }
        assert_eq!(last, Some(to_worker(MANY, MANY * 2)));
    }
}
