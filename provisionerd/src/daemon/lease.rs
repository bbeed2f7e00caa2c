//! How long a job may be trusted to be ours, by a clock that goes on while the host
//! sleeps.
//!
//! ```text
//!   request leaves              reply arrives               trusted ends
//!   |------------------------------|-----------------------------|
//!   |  the queue renewed somewhere in between: counting from the left end is safe
//! ```
//!
//! After the gate the end of trust is a deadline for the engine, held by the
//! supervisor. It only ever moves forward.

use std::time::Duration;

use proto::v1::Lease;

/// A moment of CLOCK_BOOTTIME, since the host's boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// The present moment.
    #[must_use]
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Self(Duration::new(seconds, nanos))
    }

    /// As it travels to a supervisor.
    #[must_use]
    pub fn as_nanos(self) -> i64 {
        i64::try_from(self.0.as_nanos()).unwrap_or(i64::MAX)
    }

    /// From `earlier` to this, zero when it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

/// Our hold on one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    until: BootTime,
    window: Duration,
}

impl Trust {
    /// From the hand-out, confirmed by a request that left at `asked`.
    #[must_use]
    pub fn new(lease: &Lease, asked: BootTime) -> Self {
        let window = Duration::from_millis(lease.trusted_ms);
        Self {
            until: asked + window,
            window,
        }
    }

    /// A request that left at `asked` renewed the lease.
    pub fn renew(&mut self, lease: &Lease, asked: BootTime) {
        let renewed = Self::new(lease, asked);
        self.until = self.until.max(renewed.until);
        self.window = renewed.window;
    }

    /// Until when the engine may run, once the gate is open.
    #[must_use]
    pub fn until(&self) -> BootTime {
        self.until
    }

    /// Whether an answer to a request that left at `asked` is too old to begin
    /// anything on: less than half of the window would be left.
    #[must_use]
    pub fn is_stale(&self, asked: BootTime, now: BootTime) -> bool {
        now.since(asked) > self.window / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    fn lease(trusted_s: u64) -> Lease {
        Lease {
            trusted_ms: trusted_s * 1_000,
            ..Lease::default()
        }
    }

    #[test]
    fn trust_counts_from_the_start_of_the_request() {
        let mut trust = Trust::new(&lease(10), at(100));
        assert_eq!(trust.until(), at(110));
        trust.renew(&lease(510), at(103));
        assert_eq!(trust.until(), at(613));
    }

    #[test]
    fn a_late_reply_never_shortens_trust() {
        let mut trust = Trust::new(&lease(510), at(100));
        trust.renew(&lease(510), at(50));
        trust.renew(&lease(10), at(101));
        assert_eq!(trust.until(), at(610));
    }

    #[test]
    fn an_answer_older_than_half_the_window_is_stale() {
        let trust = Trust::new(&lease(510), at(0));
        assert!(!trust.is_stale(at(100), at(355)));
        assert!(trust.is_stale(at(100), at(356)));
    }

    #[test]
    fn the_clock_moves_forward() {
        let earlier = BootTime::now();
        assert!(BootTime::now() >= earlier && earlier.as_nanos() > 0);
    }
}
