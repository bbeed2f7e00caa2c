//! When a daemon that has lost its queue dials again.
//!
//! A fleet that comes back in one instant keeps a queue busy with handshakes for as long as
//! all of them take, and those that carry somebody's job wait among the rest. So a queue tells
//! its daemons how long their return takes ([`Alive`](proto::v1::Alive)); an idle one comes at
//! a random moment of that time, one with jobs at once. Who fails then goes on by backoff.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::timings::Timings;

use super::backoff::jitter;

/// A longer wait than this is worth a line.
const SAID: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Comeback(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// As told by the queue that was last heard; none once its loss has been answered.
    within: Option<Duration>,
    not_before: Option<Instant>,
}

/// Whether somebody waits for this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hands {
    /// It has no job.
    Free,
    /// It has one.
    Full,
}

impl Comeback {
    /// The queue speaks, and tells how long the return of its daemons would take.
    pub fn told(&self, within: Duration) {
        self.change(|state| {
            *state = State {
                within: Some(within),
                not_before: None,
            };
        });
    }

    /// The queue was lost, or not reached again: how long to wait before the next dial, at
    /// least `step` with free hands.
    pub fn lost(&self, hands: Hands, step: Duration, now: Instant, timings: &Timings) -> Duration {
        self.change(|state| {
            let within = state.within.take().unwrap_or_default();
            let wait = match hands {
                Hands::Full => jitter(timings.reconnect_busy),
                Hands::Free => {
                    let drawn = jitter(within.min(timings.reconnect_max));
                    if drawn > SAID {
                        tracing::info!(
                            retry.after_ms = u64::try_from(drawn.as_millis()).unwrap_or(u64::MAX),
                            "the queue was lost; it has many daemons, which come back one after the other"
                        );
                    }
                    drawn.max(step)
                }
            };
            state.not_before = Some(now + wait);
            wait
        })
    }

    /// How long nothing of this daemon may dial yet.
    pub fn left(&self, now: Instant) -> Duration {
        let not_before = self.change(|state| state.not_before);
        not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn idle_daemons_come_back_all_over_the_time_they_were_told() {
        let timings = Timings::default();
        let within = Duration::from_secs(15);
        let now = Instant::now();
        let mut quarters = [0; 4];
        for _ in 0..1_000 {
            let comeback = Comeback::default();
            comeback.told(within);
            let wait = comeback.lost(Hands::Free, STEP, now, &timings);
            assert!(wait >= STEP && wait <= within, "{wait:?}");
            assert_eq!(comeback.left(now), wait);
            assert_eq!(comeback.left(now + within), Duration::ZERO);
            let quarter = wait.as_millis() * 4 / (within.as_millis() + 1);
            quarters[usize::try_from(quarter).expect("small")] += 1;
        }
        // 250 each, give or take five standard deviations.
        assert!(
            quarters.iter().all(|it| (180..320).contains(it)),
            "{quarters:?}"
        );
    }

    #[test]
    fn one_with_jobs_comes_at_once_and_nobody_is_sent_away_for_long() {
        let timings = Timings::default();
        let now = Instant::now();
        let comeback = Comeback::default();
        for _ in 0..100 {
            comeback.told(Duration::from_hours(1));
            let busy = comeback.lost(Hands::Full, STEP, now, &timings);
            assert!(busy <= timings.reconnect_busy, "{busy:?}");
            comeback.told(Duration::from_hours(1));
            let idle = comeback.lost(Hands::Free, STEP, now, &timings);
            assert!(idle <= timings.reconnect_max, "{idle:?}");
        }
    }

    #[test]
    fn a_queue_that_is_not_reached_is_tried_by_backoff() {
        let timings = Timings::default();
        let now = Instant::now();
        let comeback = Comeback::default();
        comeback.told(Duration::from_secs(15));
        comeback.lost(Hands::Free, STEP, now, &timings);
        assert_eq!(comeback.lost(Hands::Free, STEP, now, &timings), STEP);
        // Heard again: there is nothing to wait for.
        comeback.told(Duration::ZERO);
        assert_eq!(comeback.left(now), Duration::ZERO);
    }
}
