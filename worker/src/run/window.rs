//! How far the line cursor may run ahead of what the daemon has stored.

use std::collections::VecDeque;

use proto::limits::{MIB, UPDATE_LINES};
use tokio::sync::watch;

/// Lines handed out and not stored: a few full updates, so that the round trip to the
/// queue does not hold up a steady stream.
const LINES: u64 = 4 * UPDATE_LINES as u64;

/// The same in bytes of text: what a daemon may have to hold per job.
const BYTES: usize = 8 * MIB as usize;

/// Counts what is on its way.
#[derive(Debug)]
pub(super) struct Window {
    credit: watch::Receiver<u64>,
    on_the_way: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Window {
    pub(super) fn new(credit: watch::Receiver<u64>) -> Self {
        Self {
            credit,
            on_the_way: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Line `seq` was handed out.
    pub(super) fn sent(&mut self, seq: u64, bytes: usize) {
        self.bytes += bytes;
        self.on_the_way.push_back((seq, bytes));
    }

    /// No line may go out before more credit arrives.
    pub(super) fn is_full(&mut self) -> bool {
        self.settle();
        self.on_the_way.len() as u64 >= LINES || self.bytes >= BYTES
    }

    /// Waits until a line may go out. Cancel safe.
    pub(super) async fn wait(&mut self) {
        while self.is_full() {
            if self.credit.changed().await.is_err() {
                return;
            }
        }
    }

    /// Lines up to here are stored.
    pub(super) fn stored(&self) -> u64 {
        *self.credit.borrow()
    }

    fn settle(&mut self) {
        let stored = *self.credit.borrow_and_update();
        while let Some((seq, bytes)) = self.on_the_way.front().copied() {
            if seq > stored {
                return;
            }
            self.bytes -= bytes;
            self.on_the_way.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_wait_for_credit_and_go_on_with_it() {
        let (credit, stored) = watch::channel(0);
        let mut window = Window::new(stored);
        for seq in 1..=LINES {
            assert!(!window.is_full());
            window.sent(seq, 1);
        }
        assert!(window.is_full());
        credit.send_replace(1);
        window.wait().await;
        assert!(!window.is_full());
    }

    #[test]
    fn a_few_huge_lines_fill_it_too() {
        let (_credit, stored) = watch::channel(0);
        let mut window = Window::new(stored);
        window.sent(1, BYTES);
        assert!(window.is_full());
    }
}
