//! Durations, counted into fixed buckets without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::exposition::Distribution;

/// Upper bounds in milliseconds: from what a good dispatch takes to what an operator is
/// woken for.
const BOUNDS: [u64; 14] = [
    1, 2, 5, 10, 20, 50, 100, 250, 1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000,
];

/// See the module.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn add(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= bound * 1_000);
        if let Some(bucket) = bucket {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn read<'a>(&self, labels: &'a [(&'a str, &'a str)]) -> Distribution<'a> {
        // First: a value that comes meanwhile must not be in a bucket and not in the count.
        let count = self.count.load(Ordering::Relaxed);
        let mut below = 0;
        let up_to = BOUNDS.iter().zip(&self.buckets).map(|(bound, bucket)| {
            below += bucket.load(Ordering::Relaxed);
            (
                Duration::from_millis(*bound).as_secs_f64(),
                below.min(count),
            )
        });
        Distribution {
            labels,
            up_to: up_to.collect(),
            count,
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_holds_what_is_not_above_it() {
        let histogram = Histogram::default();
        for millis in [1, 2, 3, 7_200_000] {
            histogram.add(Duration::from_millis(millis));
        }
        let read = histogram.read(&[]);
        let at = |seconds: f64| read.up_to.iter().find(|(bound, _)| *bound == seconds);
        assert_eq!(at(0.001), Some(&(0.001, 1)));
        assert_eq!(at(0.002), Some(&(0.002, 2)));
        assert_eq!(at(0.005), Some(&(0.005, 3)));
        assert_eq!(at(3_600.0), Some(&(3_600.0, 3)));
        assert_eq!(read.count, 4);
        assert!((read.sum - 7_200.006).abs() < 0.000_1);
    }
}
