//! Wall time for records. Waits use the runtime's monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
