//! Stacks of transitions that run side by side.

use std::sync::{Mutex, MutexGuard, PoisonError};

use corosensei::stack::DefaultStack;

use crate::line::TOGETHER;

/// What a transition may use of its stack: what a thread that may block has.
const STACK: usize = 2 << 20;

/// Stacks that have been used and will be again: the system would take and give their pages
/// each time.
#[derive(Default)]
pub(super) struct Stacks(Mutex<Vec<DefaultStack>>);

impl Stacks {
    pub(super) fn take(&self) -> std::io::Result<DefaultStack> {
        let used = self.lock().pop();
        used.map_or_else(|| DefaultStack::new(STACK), Ok)
    }

    pub(super) fn keep(&self, stack: DefaultStack) {
        let mut kept = self.lock();
        if kept.len() < TOGETHER {
            kept.push(stack);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<DefaultStack>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Stacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stacks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_kept_than_one_transaction_needs() {
        let stacks = Stacks::default();
        let taken: Vec<_> = (0..TOGETHER + 2).map(|_| stacks.take()).collect();
        for stack in taken {
            stacks.keep(stack.expect("a stack"));
        }
        assert_eq!(stacks.lock().len(), TOGETHER);
    }
}
