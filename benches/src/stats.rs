//! Percentiles of a series of durations.

use std::time::Duration;

use serde_json::{Value, json};

/// Durations of one kind of event.
#[derive(Debug, Default)]
pub struct Series(Vec<Duration>);

impl Series {
    /// Adds one measurement.
    pub fn push(&mut self, value: Duration) {
        self.0.push(value);
    }

    /// All of another series too.
    pub fn extend(&mut self, other: Series) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which `fraction` of the series lies (nearest rank).
    pub fn quantile(&self, fraction: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let rank = ((sorted.len() as f64 * fraction).ceil() as usize)
            .saturating_sub(1)
            .min(last);
        sorted.get(rank).copied().unwrap_or_default()
    }

    /// Count, p50, p99 and max in milliseconds.
    pub fn summary(&self) -> Value {
        json!({
            "n": self.len(),
            "min_ms": millis(self.quantile(0.0)),
            "p50_ms": millis(self.quantile(0.5)),
            "p99_ms": millis(self.quantile(0.99)),
            "max_ms": millis(self.quantile(1.0)),
        })
    }
}

/// Milliseconds with three decimals.
pub fn millis(value: Duration) -> f64 {
    (value.as_secs_f64() * 1e6).round() / 1e3
}
