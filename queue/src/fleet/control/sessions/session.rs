//! One open control stream: what it was told, and how it is told more.

use std::sync::Arc;
use std::time::Duration;

use proto::timings::Timings;
use proto::v1::control_event::Event as Tell;
use proto::v1::{Alive, CancelJob, ControlEvent, DrainDaemonEvent, KeyRevoked};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use crate::credentials::Live;
use crate::shared::jittered;
use crate::store::model::{DaemonContact, Drain};

/// One that was told to come back within this has no need to hear of a longer time soon.
const PROMPT: Duration = Duration::from_secs(1);

/// The longest time between two words, as a part of the usual one.
const LATEST: f64 = 1.2;

/// Beyond any time between two words; what is due so late is due with the longest of them.
const FAR: Duration = Duration::from_hours(1);

/// What a stream is fed with.
pub(super) type Replies = mpsc::Sender<Result<ControlEvent, Status>>;

/// One open stream.
#[derive(Debug)]
pub(super) struct Session {
    pub id: u64,
    pub contact: Arc<DaemonContact>,
    pub live: Live,
    replies: Replies,
    pub standing: Standing,
    /// Cancels that it has told.
    told: Vec<CancelJob>,
    next_alive: Instant,
    /// Within which it was told to come back.
    told_return: Duration,
}

/// What the store was last seen to know of the session's daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub store: Known,
    pub drain: Drain,
    pub work: Work,
}

/// Whether the store knows that this replica holds the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    NotYet,
    Yes,
}

/// Whether a job is in the daemon's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Idle,
    Busy,
}

/// Whether a session stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    On,
    Away,
}

impl Work {
    fn alive(self, timings: &Timings) -> Duration {
        match self {
            Self::Idle => timings.control_idle,
            Self::Busy => timings.control_alive,
        }
    }
}

impl Session {
    /// A stream that says `alive` first, with the time `within` which to come back.
    pub fn new(
        id: u64,
        (contact, live): (Arc<DaemonContact>, Live),
        replies: Replies,
        within: Duration,
    ) -> Self {
        let mut session = Self {
            id,
            contact,
            live,
            replies,
            standing: Standing {
                store: Known::NotYet,
                drain: Drain::Off,
                work: Work::Idle,
            },
            told: Vec::new(),
            next_alive: Instant::now() + FAR,
            told_return: within,
        };
        let _queued = session.tell_alive(within);
        session
    }

    /// Says `alive` if it is its turn, or the time `within` which to come back has become
    /// much longer.
    pub fn say_alive(&mut self, now: Instant, timings: &Timings, within: Duration) -> Goes {
        let every = self.standing.work.alive(timings);
        // A daemon that got its job a moment ago counts on the shorter one.
        let due = self.next_alive.min(now + every.mul_f64(LATEST));
        let grown = within > PROMPT.max(self.told_return * 2);
        if due > now && !grown {
            self.next_alive = due;
            return Goes::On;
        }
        self.next_alive = now + jittered(every);
        self.tell_alive(within)
    }

    /// Says `alive` although it is not its turn yet, while it has no job.
    pub fn say_alive_beside(&mut self, now: Instant, timings: &Timings, within: Duration) -> Goes {
        if self.standing.work == Work::Busy {
            return Goes::On;
        }
        self.next_alive = now + timings.control_idle.mul_f64(LATEST);
        self.tell_alive(within)
    }

    fn tell_alive(&mut self, within: Duration) -> Goes {
        self.told_return = within;
        let return_within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.tell(Tell::Alive(Alive { return_within_ms }))
    }

    /// Says it and ends when the key was deleted.
    pub fn end_if_revoked(&mut self) -> Goes {
        if !self.live.is_over() {
            return Goes::On;
        }
        let _last = self.tell(Tell::KeyRevoked(KeyRevoked {}));
        Goes::Away
    }

    /// Ends with this status.
    pub fn end(&mut self, status: &Status) -> Goes {
        let _last = self.replies.try_send(Err(status.clone()));
        Goes::Away
    }

    pub fn told(&mut self, drain: Drain, cancels: &[CancelJob]) -> Goes {
        if drain == Drain::On && self.drain() == Goes::Away {
            return Goes::Away;
        }
        for cancel in cancels {
            if self.cancel(cancel.clone()) == Goes::Away {
                return Goes::Away;
            }
        }
        Goes::On
    }

    pub fn drain(&mut self) -> Goes {
        if std::mem::replace(&mut self.standing.drain, Drain::On) == Drain::On {
            return Goes::On;
        }
        self.tell(Tell::Drain(DrainDaemonEvent {}))
    }

    pub fn cancel(&mut self, cancel: CancelJob) -> Goes {
        if self.told.contains(&cancel) {
            return Goes::On;
        }
        self.told.push(cancel.clone());
        self.tell(Tell::Cancel(cancel))
    }

    /// A connection too slow for its events is dead for this purpose.
    fn tell(&self, event: Tell) -> Goes {
        let event = ControlEvent { event: Some(event) };
        match self.replies.try_send(Ok(event)) {
            Ok(()) => Goes::On,
            Err(_) => Goes::Away,
        }
    }
}
