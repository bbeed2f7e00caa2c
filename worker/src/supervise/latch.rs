//! The one-SIGINT latch: when the engine is interrupted, why, and when it is killed.
//!
//! Pure: the caller sends the signals. Once set it stays set, nothing new starts, and no
//! engine process gets a second SIGINT (a second one makes engines exit without writing
//! their state). A later reason may only bring the kill forward.

use std::time::Duration;

use proto::timings::Timings;
use proto::v1::InterruptReason;

use super::clock::Instant;

/// What tripping the latch asks the caller to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tripped {
    /// First reason: SIGINT goes out.
    Interrupt,
    /// The kill was brought forward.
    Sooner,
    /// Nothing changed.
    Nothing,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Latch {
    /// Set: when what still runs is killed.
    kill_at: Option<Instant>,
}

impl Latch {
    /// Sets the latch, or shortens the grace of one that is set.
    pub(super) fn trip(&mut self, grace: Duration, now: Instant) -> Tripped {
        let kill_at = now.after(grace);
        let before = self.kill_at;
        if before.is_some_and(|before| before <= kill_at) {
            return Tripped::Nothing;
        }
        self.kill_at = Some(kill_at);
        match before {
            None => Tripped::Interrupt,
            Some(_) => Tripped::Sooner,
        }
    }

    /// Whether it is set.
    pub(super) fn is_set(&self) -> bool {
        self.kill_at.is_some()
    }

    /// When what still runs is killed.
    pub(super) fn kill_at(&self) -> Option<Instant> {
        self.kill_at
    }
}

/// SIGINT to SIGKILL, unless the daemon named another grace.
pub(super) fn grace(reason: InterruptReason, timings: &Timings) -> Duration {
    match reason {
        InterruptReason::Unspecified | InterruptReason::Cancel => timings.cancel_grace,
        InterruptReason::Force => timings.force_grace,
        InterruptReason::Lease | InterruptReason::DaemonLost | InterruptReason::WorkerLost => {
            timings.lost_grace
        }
        // A drain without a deadline of its own ends as a lost daemon would.
        InterruptReason::Drain => timings.lost_grace,
        InterruptReason::Memory | InterruptReason::Disk => timings.pressure_grace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn only_the_first_reason_interrupts() {
        let mut latch = Latch::default();
        let now = Instant::from_nanos(0);
        assert!(!latch.is_set());
        assert_eq!(latch.trip(S * 600, now), Tripped::Interrupt);
        assert_eq!(latch.trip(S * 5, now), Tripped::Sooner);
        assert_eq!(latch.kill_at(), Some(now.after(S * 5)));
    }

    #[test]
    fn a_later_reason_never_lengthens_the_grace() {
        let mut latch = Latch::default();
        let now = Instant::from_nanos(0);
        latch.trip(S * 5, now);
        let later = now.after(S);
        assert_eq!(latch.trip(S * 60, later), Tripped::Nothing);
        assert_eq!(
            latch.trip(S * 5, later),
            Tripped::Nothing,
            "the same reason again is no more time"
        );
        assert_eq!(latch.kill_at(), Some(now.after(S * 5)));
    }

    #[test]
    fn graces_are_those_of_the_table() {
        let timings = Timings::default();
        let table = [
            (InterruptReason::Cancel, 600),
            (InterruptReason::Force, 5),
            (InterruptReason::Lease, 60),
            (InterruptReason::DaemonLost, 60),
            (InterruptReason::WorkerLost, 60),
            (InterruptReason::Drain, 60),
            (InterruptReason::Memory, 15),
            (InterruptReason::Disk, 15),
        ];
        for (reason, seconds) in table {
            assert_eq!(grace(reason, &timings), S * seconds, "{reason:?}");
        }
    }
}
