//! The clock that lease arithmetic uses.
//!
//! SQLite has no clock that all replicas share, but there is only one replica. Its time
//! must never run backwards, not within a process (the wall clock may be set) and not
//! across a restart (a lease given yesterday must not look younger today). So a store's
//! time starts at `max(wall clock, high-water mark)` when it opens, and from there moves
//! with `CLOCK_BOOTTIME`, which also counts the host's sleep. Each commit stores the
//! mark.
//!
//! It reads as Unix milliseconds, and stays as right as the wall clock was at the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A source of milliseconds that never goes back.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's.
    System(System),
    /// A test's.
    Manual(Manual),
}

impl Clock {
    /// The machine's clock, not earlier than `high_water_ms`.
    #[must_use]
    pub fn system(high_water_ms: i64) -> Self {
        Self::System(System {
            start_ms: wall_ms().max(high_water_ms),
            boot_ms: boot_ms(),
        })
    }

    /// Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::System(system) => system.start_ms + (boot_ms() - system.boot_ms),
            Self::Manual(manual) => manual.now_ms(),
        }
    }
}

/// The machine's clock since a store was opened.
#[derive(Debug, Clone)]
pub struct System {
    start_ms: i64,
    boot_ms: i64,
}

/// A clock that moves only when told to.
#[derive(Debug, Clone)]
pub struct Manual(Arc<AtomicI64>);

impl Manual {
    /// A clock that stands at `now_ms`.
    #[must_use]
    pub fn at(now_ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(now_ms)))
    }

    /// Moves it forward.
    pub fn advance(&self, by: std::time::Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX / 4);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }

    /// Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn wall_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn boot_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_restart_never_goes_back_behind_the_high_water_mark() {
        let ahead = wall_ms() + 3_600_000;
        assert!(Clock::system(ahead).now_ms() >= ahead);
        assert!(Clock::system(0).now_ms() >= wall_ms() - 1_000);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let manual = Manual::at(1_000);
        let clock = Clock::Manual(manual.clone());
        assert_eq!(clock.now_ms(), 1_000);
        manual.advance(Duration::from_secs(2));
        assert_eq!(clock.now_ms(), 3_000);
    }
}
