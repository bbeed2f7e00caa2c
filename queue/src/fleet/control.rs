//! Control: what a daemon should hear at once.
//!
//! A hint that makes things quick; the truth is in the update's reply. The stream says
//! `alive` every few seconds and tells each cancel once, whether it came as an event or
//! was found in the store (at the opening: what was missed). Cancels are found by the jobs
//! that the store sees in this daemon's hands; the daemon's own list of running jobs is
//! not trusted to end anything, since a job that the store does not know may be a good
//! one that a restored backup has forgotten: its next update says so. When the last
//! stream of a daemon instance ends, the store begins the control grace.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use proto::v1::control_event::Event as Tell;
use proto::v1::{Alive, CancelJob, ControlEvent, ControlRequest, DrainDaemonEvent, KeyRevoked};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tonic::Status;

use super::Replies;
use super::parse::{self, Introduction};
use crate::auth::Daemon;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::model::DaemonRef;
use crate::store::{Event, Store};

/// Events a slow connection may lag behind before it is given up.
const QUEUED_EVENTS: usize = 64;

/// How many control streams each daemon instance has open in this process.
#[derive(Debug, Clone, Default)]
pub struct Controls(Arc<Mutex<HashMap<DaemonRef, usize>>>);

impl Controls {
    fn opened(&self, daemon: &DaemonRef) {
        *self.lock().entry(daemon.clone()).or_default() += 1;
    }

    /// `true` when it was the last one.
    fn closed(&self, daemon: &DaemonRef) -> bool {
        let mut open = self.lock();
        let Some(count) = open.get_mut(daemon) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        open.remove(daemon);
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DaemonRef, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a control stream.
pub async fn open<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    request: ControlRequest,
) -> Result<Replies<ControlEvent>, Status> {
    let says = Introduction {
        version: request.version,
        slots: request.slots,
        tags: request.tags,
        facts: request.facts,
    };
    let contact = parse::contact(&daemon, says)?;
    // Before the question, so that nothing falls between the two.
    let events = shared.store.subscribe();
    shared.store.see_daemon(contact).await?;
    let (replies, stream) = mpsc::channel(QUEUED_EVENTS);
    let session = Session {
        shared: shared.clone(),
        daemon,
        events,
        replies,
        told: HashSet::new(),
    };
    shared.spawn("control", session.run());
    Ok(Replies::new(stream))
}

struct Session<S> {
    shared: Shared<S>,
    daemon: Daemon,
    events: broadcast::Receiver<Event>,
    replies: mpsc::Sender<Result<ControlEvent, Status>>,
    /// Cancels and the drain that this stream has told.
    told: HashSet<(String, i32)>,
}

/// Whether a session goes on.
enum Next {
    Go,
    End,
}

impl<S: Store> Session<S> {
    async fn run(mut self) {
        self.shared.controls.opened(&self.daemon.id);
        self.serve().await;
        let last = self.shared.controls.closed(&self.daemon.id);
        // A queue that goes away says nothing about its daemons.
        if last && !self.shared.stopping.is_cancelled() {
            let lost = self.shared.store.control_lost(self.daemon.id.clone()).await;
            if let Err(error) = lost {
                tracing::warn!(daemon.name = %self.daemon.id.name, error = %error,
                    "the loss of a control stream could not be noted");
            }
        }
    }

    async fn serve(&mut self) {
        let mut alive = tokio::time::interval(self.shared.timings.control_alive);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // All branches are cancel safe; the first tick is at once.
            let next = tokio::select! {
                _ = alive.tick() => self.alive().await,
                event = self.events.recv() => self.event(event).await,
                () = self.replies.closed() => Next::End,
                () = self.shared.stopping.cancelled() => {
                    let _gone = self.replies.try_send(Err(Refusal::restarting().into()));
                    Next::End
                }
            };
            match next {
                Next::Go => {}
                Next::End => return,
            }
        }
    }

    /// Says `alive`, and what the store knows that this stream has not told.
    async fn alive(&mut self) -> Next {
        if let Next::End = self.tell(Tell::Alive(Alive {})) {
            return Next::End;
        }
        if self.daemon.still_allowed(&self.shared.store).await.is_err() {
            let _gone = self.tell(Tell::KeyRevoked(KeyRevoked {}));
            return Next::End;
        }
        match self.shared.store.touch_daemon(self.daemon.id.clone()).await {
            Ok(missed) => {
                for event in missed.into_iter().filter_map(|event| event.event) {
                    if let Next::End = self.tell_once(event) {
                        return Next::End;
                    }
                }
                Next::Go
            }
            Err(error) => {
                let _gone = self.replies.try_send(Err(error.into()));
                Next::End
            }
        }
    }

    async fn event(&mut self, event: Result<Event, RecvError>) -> Next {
        let id = &self.daemon.id;
        match event {
            Ok(Event::CancelRequested {
                job,
                organization,
                daemon,
                kind,
            }) if organization == id.organization && daemon == id.name => {
                self.tell_once(Tell::Cancel(CancelJob {
                    job_id: job.to_string(),
                    kind: kind.into(),
                }))
            }
            Ok(Event::DrainRequested {
                organization,
                daemon,
            }) if organization == id.organization && daemon == id.name => {
                self.tell_once(Tell::Drain(DrainDaemonEvent {}))
            }
            Ok(Event::KeyRevoked { organization, key })
                if organization == id.organization && key == id.key =>
            {
                let _gone = self.tell(Tell::KeyRevoked(KeyRevoked {}));
                Next::End
            }
            Ok(
                Event::CancelRequested { .. }
                | Event::DrainRequested { .. }
                | Event::KeyRevoked { .. }
                | Event::JobReady { .. }
                | Event::JobChanged(_)
                | Event::LogsAppended(_),
            ) => Next::Go,
            Ok(Event::Missed) | Err(RecvError::Lagged(_)) => self.alive().await,
            Err(RecvError::Closed) => Next::End,
        }
    }

    fn tell_once(&mut self, event: Tell) -> Next {
        let mark = match &event {
            Tell::Cancel(cancel) => (cancel.job_id.clone(), cancel.kind),
            Tell::Drain(_) => (String::new(), 0),
            Tell::KeyRevoked(_) | Tell::Alive(_) => return self.tell(event),
        };
        if self.told.insert(mark) {
            self.tell(event)
        } else {
            Next::Go
        }
    }

    /// A connection too slow for its events is dead for this purpose.
    fn tell(&self, event: Tell) -> Next {
        let event = ControlEvent { event: Some(event) };
        match self.replies.try_send(Ok(event)) {
            Ok(()) => Next::Go,
            Err(_) => Next::End,
        }
    }
}
