//! The ways between the daemon and the two peers it has for a job. Frames to them are
//! written by a task of their own: a peer that no longer reads must not stop the job's
//! loop.

use prost::Message;
use proto::limits;
use proto::v1::{
    End, FromSupervisor, FromWorker, OutcomeStored, ToSupervisor, ToWorker, to_supervisor,
    to_worker,
};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use worker::link;

use super::tasks::{OnPanic, Tasks};

/// Frames that a peer has not read yet; more mean that it hangs.
const WAITING: usize = 256;

/// The way to one peer. Dropping it closes the link once all frames are written.
#[derive(Debug)]
pub struct Out<M>(mpsc::Sender<M>);

impl<M: Message + 'static> Out<M> {
    /// Starts the writer.
    pub fn new(tasks: &Tasks, mut sender: link::Sender<M>) -> Self {
        let (queue, mut frames) = mpsc::channel::<M>(WAITING);
        tasks.spawn("link", OnPanic::LoseJob, async move {
            while let Some(frame) = frames.recv().await {
                if let Err(error) = sender.send(&frame).await {
                    // The reading half sees the end of the peer and says what it means.
                    tracing::debug!(error = %error, "peer of a job does not take frames");
                    return;
                }
            }
        });
        Self(queue)
    }

    /// Hands a frame over. One that finds no room, or no peer, is dropped: silence and
    /// death of a peer are noticed where it is listened to.
    pub fn send(&self, frame: M) {
        if self.0.try_send(frame).is_err() {
            tracing::debug!("a frame found no peer");
        }
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
