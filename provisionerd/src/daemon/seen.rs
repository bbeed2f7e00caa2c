//! What a daemon counts for those who watch it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two tries to reach the queue there is the longest backoff and a dial, and the
/// queue speaks more often.
pub(super) const SILENT: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Debug, Default)]
pub struct Seen {
    engine_runs: AtomicU64,
    waiting: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Queue {
    tried: Option<Instant>,
    heard: Option<Instant>,
}

/// A finish that is on its way to the queue, until it is dropped.
#[derive(Debug)]
pub struct Waiting<'a>(&'a AtomicU64);

impl Seen {
    /// An engine was started.
    pub fn engine_run(&self) {
        self.engine_runs.fetch_add(1, Ordering::Relaxed);
    }

    /// Engines started so far.
    pub fn engine_runs(&self) -> u64 {
        self.engine_runs.load(Ordering::Relaxed)
    }

    /// A finish is on its way.
    pub fn finish_waits(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// Finishes on their way.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The daemon tries to reach the queue.
    pub fn tries(&self, now: Instant) {
        self.change(|queue| queue.tried = Some(now));
    }

    /// The queue has said something.
    pub fn heard(&self, now: Instant) {
        self.change(|queue| {
            queue.tried = Some(now);
            queue.heard = Some(now);
        });
    }

    /// The stream to the queue has ended.
    pub fn lost(&self) {
        self.change(|queue| queue.heard = None);
    }

    /// Whether the queue speaks to this daemon.
    pub fn reaches_queue(&self) -> bool {
        self.queue().heard.is_some()
    }

    /// Whether the daemon still looks after its stream to the queue.
    pub fn is_alive(&self, now: Instant) -> bool {
        // Before the first try it has only begun.
        let tried = self.queue().tried;
        tried.is_none_or(|tried| now.saturating_duration_since(tried) <= SILENT)
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn queue(&self) -> Queue {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_does_not_try_any_more_is_not_alive() {
        let seen = Seen::default();
        let now = Instant::now();
        assert!(seen.is_alive(now) && !seen.reaches_queue());
        seen.heard(now);
        assert!(seen.is_alive(now + SILENT) && seen.reaches_queue());
        seen.lost();
        assert!(!seen.reaches_queue());
        let late = now + SILENT + Duration::from_secs(1);
        assert!(!seen.is_alive(late));
        seen.tries(late);
        assert!(seen.is_alive(late));
    }
}
