//! Frames to supervisor and worker, written by a task of their own: a peer that no
//! longer reads must not stop the job's loop.

use prost::Message;
use tokio::sync::mpsc;
use worker::link;

use super::super::tasks::{OnPanic, Tasks};

/// Frames that a peer has not read yet; more mean that it hangs.
const WAITING: usize = 256;

/// The way to one peer. Dropping it closes the link once all frames are written.
#[derive(Debug)]
pub(super) struct Out<M>(mpsc::Sender<M>);

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
