//! Pools as metrics count them.

use crate::words::Status;

/// How many jobs of a status ask for the same tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolDepth {
    /// As JSON, keys in order.
    pub tags: String,
    /// What the jobs are.
    pub status: Status,
    /// How many.
    pub jobs: u64,
}
