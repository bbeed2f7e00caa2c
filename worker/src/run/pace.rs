//! When to look at a file that another process writes: at once when the kernel says that
//! it moved, not again within a short while, and now and then in any case. Without the
//! kernel's word: quickly while it moves, seldom while it does not, never so seldom that a
//! person would notice.

use std::time::Duration;

use tokio::time::Instant;

use super::notices::Notice;

/// Between two looks at an engine's output at least. Lines go on in batches every 250 ms, a
/// ledger entry is to be durable within a second, and each look costs a journal's sync.
pub(super) const GAP: Duration = Duration::from_millis(100);

/// Without notices: right after something moved.
const SHORTEST: Duration = Duration::from_millis(2);

/// Without notices: after a long rest.
const LONGEST: Duration = Duration::from_millis(20);

/// With notices: should one be lost, this is what it costs.
const ANYWAY: Duration = Duration::from_millis(250);

/// Says when to look again.
#[derive(Debug)]
pub(super) struct Pace {
    notice: Option<Notice>,
    /// Between two looks at least: many small writes are worth one look.
    gap: Duration,
    looked: Instant,
    pause: Duration,
}

impl Pace {
    /// With the kernel's word where there is `notice`, and then not within `gap`.
    pub(super) fn new(notice: Option<Notice>, gap: Duration) -> Self {
        Self {
            notice,
            gap,
            looked: Instant::now(),
            pause: SHORTEST,
        }
    }

    /// Waits until it is time for the next look, given whether the last one found
    /// something. Cancel safe: a notice that was taken is a look that comes anyway.
    pub(super) async fn next(&mut self, moved: bool) {
        match &mut self.notice {
            Some(notice) => {
                let heard = tokio::time::timeout(ANYWAY, notice.moved()).await;
                if heard == Ok(false) {
                    // Nobody listens to the kernel any more.
                    self.notice = None;
                }
                tokio::time::sleep_until(self.looked + self.gap).await;
            }
            None => {
                self.pause = if moved {
                    SHORTEST
                } else {
                    (self.pause * 2).min(LONGEST)
                };
                tokio::time::sleep(self.pause).await;
            }
        }
        self.looked = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waited(pace: &mut Pace, moved: bool) -> Duration {
        let began = Instant::now();
        pace.next(moved).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn unnoticed_a_file_at_rest_is_looked_at_less_and_less_until_it_moves() {
        let mut pace = Pace::new(None, Duration::ZERO);
        for _ in 0..10 {
            pace.next(false).await;
        }
        assert_eq!(waited(&mut pace, false).await, LONGEST);
        assert_eq!(waited(&mut pace, true).await, SHORTEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_noticed_file_is_looked_at_when_it_moves_and_now_and_then() {
        let (sender, notice) = Notice::pair();
        let gap = Duration::from_millis(40);
        let mut pace = Pace::new(Some(notice), gap);
        assert_eq!(waited(&mut pace, false).await, ANYWAY);
        sender.send_modify(|count| *count += 1);
        assert_eq!(waited(&mut pace, false).await, gap, "not at once again");
        let moving = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            sender.send_modify(|count| *count += 1);
        };
        let (took, ()) = tokio::join!(waited(&mut pace, false), moving);
        assert_eq!(took, Duration::from_millis(100), "at once after a rest");
    }

    #[tokio::test(start_paused = true)]
    async fn when_notices_end_looking_goes_on() {
        let (sender, notice) = Notice::pair();
        let mut pace = Pace::new(Some(notice), Duration::ZERO);
        drop(sender);
        for _ in 0..10 {
            pace.next(false).await;
        }
        assert_eq!(waited(&mut pace, false).await, LONGEST);
    }
}
