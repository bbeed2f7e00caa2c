//! Concurrency limits, as an admin sets them.

use crate::words::LimitOf;

/// Sets a limit, or lifts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetLimit {
    /// The organization.
    pub organization: String,
    /// What it limits.
    pub of: LimitOf,
    /// The owner's name, or that of a template, which there must be.
    pub name: String,
    /// Jobs that may be in daemons' hands at once; `None` lifts the limit.
    pub most: Option<u32>,
}
