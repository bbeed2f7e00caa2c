//! Which commands share a transaction: whatever waits, up to [`BATCH`]. Where many have just
//! come together, others are given a moment to come, too.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Commands that share one COMMIT at most.
const BATCH: usize = 128;

/// Where so many have just shared one, as many are likely to come together again: they are
/// waited for. What a transaction costs above its commands, most of all the pages that each
/// of them changes a little, is then paid less often: by a quarter in a load of job cycles.
const MANY: usize = 16;

/// For so long.
const GATHER: Duration = Duration::from_millis(1);

/// What is longer ago says nothing of who comes now.
const JUST: Duration = Duration::from_millis(50);

/// What waits for the writer, and what it did last.
#[derive(Debug)]
pub(super) struct Batches<C> {
    queue: mpsc::Receiver<C>,
    /// How many shared the last transaction.
    last: usize,
}

impl<C> Batches<C> {
    pub(super) fn of(queue: mpsc::Receiver<C>) -> Self {
        Self { queue, last: 0 }
    }

    /// Waits for a command and takes all that share its transaction; `None` when nobody can
    /// send any more. The transaction before it ends with this call. Blocks: where others
    /// are let come, in `sleep`.
    pub(super) fn next(
        &mut self,
        mut now: impl FnMut() -> Instant,
        sleep: impl FnOnce(Duration),
    ) -> Option<Vec<C>> {
        let ended = now();
        let mut batch = vec![self.queue.blocking_recv()?];
        if self.more_are_likely(now() - ended) {
            sleep(GATHER);
        }
        while batch.len() < BATCH
            && let Ok(next) = self.queue.try_recv()
        {
            batch.push(next);
        }
        self.last = batch.len();
        Some(batch)
    }

    fn more_are_likely(&self, waited: Duration) -> bool {
        self.last >= MANY && self.queue.len() < self.last && waited < JUST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches() -> (mpsc::Sender<usize>, Batches<usize>) {
        let (commands, queue) = mpsc::channel(1_024);
        (commands, Batches::of(queue))
    }

    fn send(commands: &mpsc::Sender<usize>, count: usize) {
        for command in 0..count {
            commands.try_send(command).expect("a place");
        }
    }

    /// A clock that goes on by so much between two looks at it.
    fn clock(step: Duration) -> impl FnMut() -> Instant {
        let mut now = Instant::now();
        move || {
            now += step;
            now
        }
    }

    /// What comes next, at once.
    fn taken(batches: &mut Batches<usize>) -> Option<Vec<usize>> {
        batches.next(clock(Duration::ZERO), |_| ())
    }

    /// How many come next, at once, and whether others were let come.
    fn next(batches: &mut Batches<usize>) -> (usize, bool) {
        next_after(Duration::ZERO, batches)
    }

    /// The same, after so long.
    fn next_after(wait: Duration, batches: &mut Batches<usize>) -> (usize, bool) {
        let mut slept = false;
        let batch = batches.next(clock(wait), |_| slept = true);
        (batch.expect("a batch").len(), slept)
    }

    #[test]
    fn what_waits_is_taken_in_its_order_up_to_the_limit() {
        let (commands, mut batches) = batches();
        send(&commands, 300);
        assert_eq!(taken(&mut batches), Some(Vec::from_iter(0..128)));
        assert_eq!(next(&mut batches).0, 128);
        assert_eq!(next(&mut batches).0, 44);
        drop(commands);
        assert_eq!(taken(&mut batches), None);
    }

    #[test]
    fn after_many_the_next_ones_are_waited_for_and_come_along() {
        let (commands, mut batches) = batches();
        send(&commands, 16);
        assert_eq!(next(&mut batches), (16, false));
        send(&commands, 1);
        let together = batches.next(clock(Duration::ZERO), |pause| {
            assert_eq!(pause, Duration::from_millis(1));
            send(&commands, 9);
        });
        assert_eq!(together.map(|batch| batch.len()), Some(10));
        // Ten are not many: nobody waits for the next.
        send(&commands, 1);
        assert_eq!(next(&mut batches), (1, false));
    }

    #[test]
    fn nobody_waits_for_as_many_as_there_are() {
        let (commands, mut batches) = batches();
        send(&commands, 16);
        assert_eq!(next(&mut batches), (16, false));
        send(&commands, 17);
        assert_eq!(next(&mut batches), (17, false));
        send(&commands, 17);
        assert_eq!(next(&mut batches), (17, true));
    }

    #[test]
    fn a_command_long_after_many_waits_for_nobody() {
        let (commands, mut batches) = batches();
        send(&commands, 16);
        assert_eq!(next(&mut batches), (16, false));
        send(&commands, 16);
        let shortly = JUST - Duration::from_millis(1);
        assert_eq!(next_after(shortly, &mut batches), (16, true));
        send(&commands, 1);
        assert_eq!(next_after(JUST, &mut batches), (1, false));
    }
}
