//! How a simulated daemon waits before it dials again: as the real one does, doubling, capped
//! and spread.

use std::time::Duration;

use proto::timings::Timings;

/// See the module.
#[derive(Default)]
pub struct Backoff {
    timings: Timings,
    next: Option<Duration>,
}

impl Backoff {
    /// How long to wait before the next try.
    pub fn step(&mut self) -> Duration {
        let step = self.next.unwrap_or(self.timings.reconnect_min);
        self.next = Some((step * 2).min(self.timings.reconnect_max));
        step.mul_f64(rand::random_range(0.5..1.0))
    }

    /// The same after the loss of a queue that wants its daemons back `within` this time.
    pub fn lost(&mut self, within: Duration) -> Duration {
        let drawn = within.min(self.timings.reconnect_max);
        self.step().max(drawn.mul_f64(rand::random_range(0.0..1.0)))
    }

    /// The same with a job in hand.
    pub fn busy(&mut self) -> Duration {
        self.step();
        self.timings
            .reconnect_busy
            .mul_f64(rand::random_range(0.0..1.0))
    }

    /// Whether a try has failed since the last one that did not.
    pub fn begun(&self) -> bool {
        self.next.is_some()
    }

    /// The last try worked.
    pub fn reset(&mut self) {
        self.next = None;
    }
}
