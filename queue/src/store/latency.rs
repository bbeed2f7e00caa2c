//! How long a store has taken to answer, as its callers felt it: waits for a connection or
//! a place in a batch included.

use crate::metrics::Histogram;

/// See the module.
#[derive(Debug, Default)]
pub struct Latency {
    /// Transitions, to their COMMIT.
    pub(crate) writes: Histogram,
    /// Queries.
    pub(crate) reads: Histogram,
}
