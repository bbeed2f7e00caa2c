//! The way to the queue: streams that stand, or, where something between lets none
//! through, short calls. The daemon finds out by itself and says so.
//!
//! ```text
//!            two silent or three cut in a row,
//!            while a short call is answered
//!  streams ───────────────────────────────────▶ short calls
//!     ▲                                             │ every ten minutes
//!     └───── it stands ◀────── one is tried ◀───────┘
//! ```
//!
//! A queue that is away or slow is none of this: then short calls are not answered either,
//! or the next stream stands.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::limits;
use proto::timings::Timings;
use proto::transport::Transport;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};

/// See the module.
#[derive(Debug)]
pub struct Way {
    now: watch::Sender<Transport>,
    switches: AtomicU64,
    /// Held by whoever asks for a job by a short call, or tries a stream meanwhile: to the
    /// queue the one means that the other is over.
    turn: Mutex<()>,
    /// An acquire stream does not open.
    held_back: Notify,
    /// How long an ask for a job waits at the queue, in milliseconds.
    patience_ms: AtomicU64,
}

/// How a stream went that the queue opens with a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// Nothing came of it.
    Silent,
    /// It ended soon.
    Cut,
    /// It stood for a while.
    Stood,
}

/// What streams have gone like lately.
#[derive(Debug, Default)]
pub struct Doubts {
    last: Option<Went>,
    in_a_row: u32,
}

/// What follows from how the last streams went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    GoOn,
    /// A short call shows whether it is the queue that is away.
    Ask,
    /// The same, and if it is answered streams are given up.
    AskAndLeave,
}

impl Way {
    /// Streams, until they are found not to work.
    #[must_use]
    pub fn new(timings: &Timings) -> Self {
        Self {
            now: watch::Sender::new(Transport::Streams),
            switches: AtomicU64::new(0),
            turn: Mutex::new(()),
            held_back: Notify::new(),
            patience_ms: AtomicU64::new(millis(timings.acquire_poll)),
        }
    }

    /// As it is now.
    #[must_use]
    pub fn now(&self) -> Transport {
        *self.now.borrow()
    }

    /// Changes it, if that is a change.
    pub fn switch(&self, to: Transport) {
        let change = |now: &mut Transport| std::mem::replace(now, to) != to;
        if self.now.send_if_modified(change) {
            self.switches.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it has changed.
    #[must_use]
    pub fn switches(&self) -> u64 {
        self.switches.load(Ordering::Relaxed)
    }

    /// Returns once it is this. Cancel safe.
    pub async fn becomes(&self, transport: Transport) {
        let mut now = self.now.subscribe();
        // The sender is ours, so it is there.
        let _there = now.wait_for(|now| *now == transport).await;
    }

    /// Waits for the turn to ask for a job, or to try a stream. Cancel safe.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// An acquire stream was not opened in time.
    pub fn hold_back(&self) {
        self.held_back.notify_one();
    }

    /// Returns when one was not. Cancel safe.
    pub async fn held_back(&self) {
        self.held_back.notified().await;
    }

    /// How long an ask for a job is to wait at the queue.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms.load(Ordering::Relaxed))
    }

    /// Something between gives up earlier than that.
    pub fn lose_patience(&self) {
        let shorter = millis(self.patience() / 2);
        self.patience_ms.store(shorter, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Doubts {
    /// One more stream.
    pub fn note(&mut self, went: Went) -> Then {
        let same = self.last == Some(went);
        self.in_a_row = if same { self.in_a_row + 1 } else { 1 };
        self.last = Some(went);
        let most = match went {
            Went::Stood => return Then::GoOn,
            Went::Silent => limits::SILENT_STREAMS,
            Went::Cut => limits::CUT_STREAMS,
        };
        match self.in_a_row {
            n if n >= most => Then::AskAndLeave,
            n if n + 1 == most => Then::Ask,
            _ => Then::GoOn,
        }
    }

    /// It is not the streams.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// What was seen, for people.
    #[must_use]
    pub fn seen(&self, timings: &Timings) -> String {
        let n = self.in_a_row;
        match self.last {
            Some(Went::Silent) => format!(
                "{n} streams in a row brought nothing within {:?}",
                timings.first_message
            ),
            Some(Went::Cut) => format!(
                "{n} streams in a row were cut within {:?}",
                timings.stream_cut
            ),
            Some(Went::Stood) | None => "streams stand".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_given_up_after_some_that_fail_alike_in_a_row() {
        use Went::{Cut, Silent, Stood};
        let mut doubts = Doubts::default();
        let mut note = |went| doubts.note(went);
        assert_eq!([note(Cut), note(Cut)], [Then::GoOn, Then::Ask]);
        assert_eq!(note(Stood), Then::GoOn);
        let row = [note(Cut), note(Cut), note(Cut), note(Cut)];
        let leave = Then::AskAndLeave;
        assert_eq!(row, [Then::GoOn, Then::Ask, leave, leave]);
        assert_eq!([note(Silent), note(Silent)], [Then::Ask, leave]);
        assert!(doubts.seen(&Timings::default()).contains("within 4.5s"));
        doubts.forget();
        assert_eq!(doubts.note(Silent), Then::Ask);
    }

    #[tokio::test]
    async fn a_switch_is_seen_and_counted_once() {
        let way = Way::new(&Timings::default());
        way.becomes(Transport::Streams).await;
        way.switch(Transport::Unary);
        way.switch(Transport::Unary);
        way.becomes(Transport::Unary).await;
        assert_eq!((way.now(), way.switches()), (Transport::Unary, 1));
        assert_eq!(way.patience(), Duration::from_secs(3));
        for _ in 0..20 {
            way.lose_patience();
        }
        assert_eq!(way.patience(), Duration::ZERO);
    }
}
