//! Control: what a daemon should hear at once.
//!
//! A hint that makes things quick; the truth is in the update's reply. The stream says
//! `alive` at intervals and tells each cancel once, whether it came as an event or was
//! found in the store (at the opening: what was missed). Cancels are found by the jobs
//! that the store sees in this daemon's hands; the daemon's own list of running jobs is
//! not trusted to end anything, since a job that the store does not know may be a good
//! one that a restored backup has forgotten: its next update says so. When the last
//! stream of a daemon instance ends, the store begins the control grace.
//!
//! A stream has no task: the router and the background tasks put into its queue what it
//! is to say ([`sessions`]), and its end is the drop of its reply stream.

pub mod now;
pub mod sessions;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::transport::Transport;
use proto::v1::{ControlEvent, ControlRequest};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

use super::parse::{self, Introduction};
use crate::auth::{Daemon, key_deleted};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::{DaemonContact, Drain};
use sessions::{Last, Ticket};

/// Events a slow connection may lag behind before it is given up.
const QUEUED_EVENTS: usize = 64;

/// The events of one stream; its drop is the stream's end.
#[derive(Debug)]
pub struct Events<S: Store> {
    events: mpsc::Receiver<Result<ControlEvent, Status>>,
    shared: Shared<S>,
    contact: Arc<DaemonContact>,
    ticket: Ticket,
}

/// Opens a control stream.
pub async fn open<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    request: ControlRequest,
) -> Result<Events<S>, Status> {
    let contact = Arc::new(introduced(&daemon, request, Transport::Streams)?);
    let (replies, events) = mpsc::channel(QUEUED_EVENTS);
    // Before the question, so that nothing falls between the two.
    let ticket = shared
        .controls
        .open(Arc::clone(&contact), daemon.live, replies);
    let events = Events {
        events,
        shared: shared.clone(),
        contact,
        ticket,
    };
    let (reply, opened) = oneshot::channel();
    // A task of its own: when the daemon goes away meanwhile, the loss of the stream is
    // noted after its opening and not before.
    shared.spawn("open control", async move {
        let opened = events.settle().await;
        let _gone = reply.send(opened);
    });
    opened
        .await
        .map_err(|_| Status::from(Refusal::restarting()))?
}

fn introduced(
    daemon: &Daemon,
    request: ControlRequest,
    by: Transport,
) -> Result<DaemonContact, Refusal> {
    let says = Introduction {
        version: request.version,
        slots: request.slots,
        tags: request.tags,
        facts: request.facts,
        drain: if request.draining {
            Drain::On
        } else {
            Drain::Off
        },
    };
    parse::contact(daemon, says, by)
}

impl<S: Store> Events<S> {
    async fn settle(self) -> Result<Self, Status> {
        let contact = DaemonContact::clone(&self.contact);
        let replica = self.shared.replica.clone();
        let opened = self.shared.store.open_control(contact, replica).await;
        let opened = opened.map_err(key_deleted)?;
        self.shared.controls.settle(&self.ticket, &opened);
        Ok(self)
    }
}

impl<S: Store> Stream for Events<S> {
    type Item = Result<ControlEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(context)
    }
}

impl<S: Store> Unpin for Events<S> {}

impl<S: Store> Drop for Events<S> {
    fn drop(&mut self) {
        // A queue that goes away says nothing about its daemons.
        if self.shared.controls.close(&self.ticket) == Last::No
            || self.shared.stopping.is_cancelled()
        {
            return;
        }
        let shared = self.shared.clone();
        let daemon = self.contact.daemon.clone();
        self.shared.spawn("control lost", async move {
            let name = daemon.name.clone();
            let lost = shared.store.control_lost(daemon, shared.replica.clone());
            if let Err(error) = lost.await {
                tracing::warn!(daemon.name = %name, error = %error,
                    "the loss of a control stream could not be noted");
            }
        });
    }
}
