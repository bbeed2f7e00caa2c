//! CLOCK_BOOTTIME: the clock of all deadlines, since it goes on while the host sleeps.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// A point on CLOCK_BOOTTIME, in nanoseconds since the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant(i64);

impl Instant {
    /// Later than everything that happens.
    pub(super) const NEVER: Self = Self(i64::MAX);

    /// Now.
    pub(super) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(now.tv_sec * 1_000_000_000 + now.tv_nsec)
    }

    /// From the wire.
    pub(super) fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Later by `wait`.
    pub(super) fn after(self, wait: Duration) -> Self {
        let nanos = i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// One timer that is set anew before each wait.
#[derive(Debug)]
pub(super) struct Timer(TimerFd);

impl Timer {
    pub(super) fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).map(Self)
    }

    /// Becomes readable at `at`, also when that has passed; never without one.
    pub(super) fn set(&self, at: Option<Instant>) -> nix::Result<()> {
        let Some(Instant(nanos)) = at else {
            return self.0.unset();
        };
        // Zero would disarm it.
        let at = TimeSpec::from_duration(Duration::from_nanos(nanos.max(1).unsigned_abs()));
        self.0.set(
            Expiration::OneShot(at),
            TimerSetTimeFlags::TFD_TIMER_ABSTIME,
        )
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn fires(timer: &Timer, within: u16) -> bool {
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(within)).expect("poll") == 1
    }

    #[test]
    fn a_timer_fires_at_its_time_and_at_times_that_have_passed() {
        let timer = Timer::new().expect("timer");
        assert!(!fires(&timer, 0));
        timer.set(Some(Instant::from_nanos(-5))).expect("past");
        assert!(fires(&timer, 1_000));
        timer
            .set(Some(Instant::now().after(Duration::from_secs(600))))
            .expect("far");
        assert!(!fires(&timer, 0));
        timer
            .set(Some(Instant::now().after(Duration::from_millis(5))))
            .expect("near");
        assert!(fires(&timer, 1_000));
    }
}
