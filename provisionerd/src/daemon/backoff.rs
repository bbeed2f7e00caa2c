//! Waiting before the next try: doubling, capped, and spread so that a fleet does not
//! come back in step.

use std::time::Duration;

use proto::timings::Timings;
use rand::Rng as _;

/// One row of tries. [`Backoff::reset`] after a success.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// From `reconnect_min` to `reconnect_max`.
    #[must_use]
    pub fn new(timings: &Timings) -> Self {
        Self::between(timings.reconnect_min, timings.reconnect_max)
    }

    /// From `first` to `cap`.
    #[must_use]
    pub fn between(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            next: first,
        }
    }

    /// How long to wait before the next try: half of the step is certain, half chance.
    pub fn step(&mut self) -> Duration {
        let step = self.next.min(self.cap);
        self.next = step.saturating_mul(2).min(self.cap);
        step.div_f64(2.0) + step.div_f64(2.0).mul_f64(rand::rng().random::<f64>())
    }

    /// The last try worked.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A random part of `most`.
#[must_use]
pub fn jitter(most: Duration) -> Duration {
    most.mul_f64(rand::rng().random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_are_spread() {
        let (first, cap) = (Duration::from_millis(100), Duration::from_secs(20));
        let mut backoff = Backoff::between(first, cap);
        let mut step = first;
        for _ in 0..20 {
            let wait = backoff.step();
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
            step = (step * 2).min(cap);
        }
        backoff.reset();
        assert!(backoff.step() <= first);
    }

    #[test]
    fn two_daemons_do_not_wait_alike() {
        let waits: std::collections::BTreeSet<Duration> =
            (0..20).map(|_| jitter(Duration::from_secs(1))).collect();
        assert!(waits.len() > 10);
    }
}
