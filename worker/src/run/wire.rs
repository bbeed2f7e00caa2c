//! The sending side of the worker's sockets: one task writes each, so that a slow peer
//! never keeps the worker from listening, and frames of all tasks keep one order.

use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::link;

/// Frames that wait for a peer before the sender has to wait too.
const OUTBOX_FRAMES: usize = 64;

/// Queues frames for one peer; clones share one order.
#[derive(Debug)]
pub(super) struct Outbox<M>(mpsc::Sender<M>);

impl<M> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Message + 'static> Outbox<M> {
    /// Starts the task that writes; it ends when the last clone is dropped, after all
    /// frames were written, or when the peer is gone.
    pub(super) fn start(mut sender: link::Sender<M>) -> (Self, JoinHandle<()>) {
        let (outbox, mut frames) = mpsc::channel(OUTBOX_FRAMES);
        let writer = tokio::spawn(async move {
            while let Some(frame) = frames.recv().await {
                if sender.send(&frame).await.is_err() {
                    return;
                }
            }
        });
        (Self(outbox), writer)
    }

    /// Queues one frame, waiting while the peer is slow. A peer that is gone is noticed
    /// by the reading side; what is sent then has no receiver.
    pub(super) async fn send(&self, message: M) {
        let _ = self.0.send(message).await;
    }

    /// Queues one frame unless the peer is behind: for heartbeats, of which any one may
    /// be missing.
    pub(super) fn offer(&self, message: M) {
        let _ = self.0.try_send(message);
    }
}
