//! The server's clock, between transactions.
//!
//! A transaction asks the server when it begins. What needs the time outside of one
//! (whether the store is looked at without a break) counts on from the last answer by
//! this machine's clock.

use std::sync::atomic::{AtomicI64, Ordering};

use super::TimeSource;
use crate::store::clock::{Clock, Manual};

/// See the module.
#[derive(Debug)]
pub(super) struct ServerClock {
    /// This machine's, which never goes back.
    own: Clock,
    /// The server's minus our own, in milliseconds.
    ahead: AtomicI64,
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
            manual,
        }
    }

    /// Notes what the server said at the beginning of a transaction; its time.
    pub(super) fn begun(&self, server_ms: i64) -> i64 {
        if let Some(manual) = &self.manual {
            return manual.now_ms();
        }
        let ahead = server_ms - self.own.now_ms();
        self.ahead.store(ahead, Ordering::Relaxed);
        server_ms
    }

    /// Unix milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        match &self.manual {
            Some(manual) => manual.now_ms(),
            None => self.own.now_ms() + self.ahead.load(Ordering::Relaxed),
        }
    }
}
