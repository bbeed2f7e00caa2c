//! How far the ledger cursor has come in an output: the line cursor may not give bytes
//! back that the ledger still needs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes between two marks: the file is given back in pieces of about this size.
const APART: u64 = 256 * 1024;

/// Places between two lines, each with the newest ledger entry before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Arc<Mutex<VecDeque<Mark>>>);

/// See [`Marks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: u64,
    pub(super) ledger_seq: u64,
}

impl Marks {
    /// The ledger has all up to here.
    pub(super) fn set(&self, offset: u64, ledger_seq: u64) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks
            .back()
            .is_none_or(|last| last.offset + APART <= offset)
        {
            marks.push_back(Mark { offset, ledger_seq });
        }
    }

    /// The last mark up to `offset` whose entries the daemon has in its journal.
    pub(super) fn up_to(&self, offset: u64, journalled: u64) -> Option<Mark> {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |mark: &Mark| mark.offset <= offset && mark.ledger_seq <= journalled;
        let count = marks.iter().take_while(|mark| fits(mark)).count();
        marks.drain(..count.saturating_sub(1));
        marks.front().copied().filter(|_| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_that_the_ledger_or_its_journal_lacks() {
        let marks = Marks::default();
        assert_eq!(marks.up_to(u64::MAX, u64::MAX), None);
        for (offset, ledger_seq) in [(APART, 1), (APART + 1, 2), (2 * APART, 3), (3 * APART, 9)] {
            marks.set(offset, ledger_seq);
        }
        let offset = |mark: Option<Mark>| mark.map(|mark| mark.offset);
        assert_eq!(marks.up_to(APART - 1, 9), None);
        assert_eq!(marks.up_to(4 * APART, 0), None);
        assert_eq!(offset(marks.up_to(2 * APART, 9)), Some(2 * APART));
        assert_eq!(offset(marks.up_to(4 * APART, 8)), Some(2 * APART));
        assert_eq!(offset(marks.up_to(4 * APART, 9)), Some(3 * APART));
    }
}
