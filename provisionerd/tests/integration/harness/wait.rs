//! Waiting for conditions: a deadline that fails the test, and a short poll in between.

use std::time::{Duration, Instant};

/// Long enough for anything that is not broken, on a machine with other things to do.
pub const LONG: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(20);

/// The first `Some` of `probe`.
///
/// # Panics
/// When there is none within `limit`; the message says what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            start.elapsed() < limit,
            "{what}: not within {} s",
            limit.as_secs()
        );
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "the one poll of the harness")]
pub(super) fn pause() {
    std::thread::sleep(POLL);
}
