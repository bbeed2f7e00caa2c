//! What reaches the worker from outside while it works: the cancel token with its
//! reason, and the daemon's credit for log lines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proto::v1::{InterruptReason, Interrupted};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Shared by all tasks of the worker; clones see the same signals.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    cancel: CancellationToken,
    reason: Arc<Mutex<Option<Interrupted>>>,
    credit: watch::Sender<u64>,
    journalled: Arc<AtomicU64>,
}

impl Signals {
    pub(super) fn new() -> Self {
        Self {
            cancel: CancellationToken::new(),
            reason: Arc::default(),
            credit: watch::Sender::new(0),
            journalled: Arc::default(),
        }
    }

    /// The job is to stop at its next step. The first reason stands: it is the one that
    /// the single SIGINT was sent for.
    pub(super) fn interrupt(&self, reason: InterruptReason) {
        self.interrupt_since(Interrupted {
            reason: reason.into(),
            ..Interrupted::default()
        });
    }

    /// As `interrupt`, on the supervisor's word, which has the figures.
    pub(super) fn interrupt_since(&self, why: Interrupted) {
        self.lock().get_or_insert(why);
        self.cancel.cancel();
    }

    /// Why the job is to stop, `None` while it may go on.
    pub(super) fn interrupted(&self) -> Option<InterruptReason> {
        self.why().map(|why| why.reason())
    }

    /// The same with its figures.
    pub(super) fn why(&self) -> Option<Interrupted> {
        *self.lock()
    }

    /// Resolves once the job is to stop.
    pub(super) async fn wait_interrupted(&self) {
        self.cancel.cancelled().await;
    }

    /// Lines up to `seq` are stored. Credit never shrinks.
    pub(super) fn grant(&self, seq: u64) {
        self.credit.send_if_modified(|stored| {
            let grows = seq > *stored;
            *stored = seq.max(*stored);
            grows
        });
    }

    /// Ledger entries up to `seq` are in the daemon's journal.
    pub(super) fn journal(&self, seq: u64) {
        self.journalled.fetch_max(seq, Ordering::Relaxed);
    }

    /// The last ledger entry that a crash of the daemon cannot lose.
    pub(super) fn journalled(&self) -> u64 {
        self.journalled.load(Ordering::Relaxed)
    }

    /// Follows the credit.
    pub(super) fn credit(&self) -> watch::Receiver<u64> {
        self.credit.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Interrupted>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stands() {
        let signals = Signals::new();
        assert_eq!(signals.interrupted(), None);
        signals.interrupt(InterruptReason::Cancel);
        signals.interrupt(InterruptReason::Lease);
        assert_eq!(signals.interrupted(), Some(InterruptReason::Cancel));
    }

    #[test]
    fn credit_never_shrinks() {
        let signals = Signals::new();
        let credit = signals.credit();
        signals.grant(7);
        signals.grant(3);
        assert_eq!(*credit.borrow(), 7);
    }
}
