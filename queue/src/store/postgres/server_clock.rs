//! The server's clock, between the times it is asked.
//!
//! From the server's last answer this machine's clock counts on. A transaction asks anew
//! when that is more than a second old, and when it judges others by the time; what needs
//! the time outside of one (whether the store is looked at without a break) never asks.

use std::sync::atomic::{AtomicI64, Ordering};

use super::TimeSource;
use crate::store::clock::{Clock, Manual};

/// For so long, in milliseconds, an answer is counted on from: what two clocks part in that
/// time is far below all that is decided by it.
const FRESH_MS: i64 = 1_000;

/// See the module.
#[derive(Debug)]
pub(super) struct ServerClock {
    /// This machine's, which never goes back.
    own: Clock,
    /// The server's minus our own, in milliseconds.
    ahead: AtomicI64,
    /// When it last said so, by our own.
    said_at: AtomicI64,
    manual: Option<Manual>,
}

impl ServerClock {
    pub(super) fn new(time: TimeSource) -> Self {
        let manual = match time {
            TimeSource::Server => None,
            TimeSource::Manual(manual) => Some(manual),
        };
        Self {
            own: Clock::system(0),
            ahead: AtomicI64::new(0),
            said_at: AtomicI64::new(i64::MIN),
            manual,
        }
    }

    /// Notes what the server said; the time.
    pub(super) fn said(&self, server_ms: i64) -> i64 {
        let own = self.own.now_ms();
        self.ahead.store(server_ms - own, Ordering::Relaxed);
        self.said_at.store(own, Ordering::Relaxed);
        match &self.manual {
            Some(manual) => manual.now_ms(),
            None => server_ms,
        }
    }

    /// The time, unless the server has to be asked for it.
    pub(super) fn fresh(&self) -> Option<i64> {
        let said_at = self.said_at.load(Ordering::Relaxed);
        let age = self.own.now_ms().saturating_sub(said_at);
        (age < FRESH_MS).then(|| self.now_ms())
    }

    /// Unix milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        match &self.manual {
            Some(manual) => manual.now_ms(),
            None => self.own.now_ms() + self.ahead.load(Ordering::Relaxed),
        }
    }
}
