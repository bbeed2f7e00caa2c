//! Which daemon may take which job.

use std::collections::BTreeMap;

/// Tags of a job, a daemon or a key.
pub type Tags = BTreeMap<String, String>;
