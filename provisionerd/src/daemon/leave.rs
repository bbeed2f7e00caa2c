//! From "stop" to orders for jobs: when engines are interrupted, when they are killed,
//! and how much time is kept for the last upload.
//!
//! ```text
//!   drain                          SIGINT         SIGKILL        deadline
//!   |-------- jobs run on ------------|--------------|--- uploads ---|
//!                                  drain_interrupt   drain_upload
//!                                  before it         before it (`Timings`)
//! ```
//!
//! A cancel moves SIGINT to now; a kill moves both.

use std::time::Duration;

use proto::timings::Timings;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::shutdown::{Shutdown, Step};

/// What every job is to do because of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    Work,
    /// The engine gets SIGINT and, after this long, SIGKILL.
    Interrupt(Duration),
    /// The engine is killed; what was saved is uploaded.
    Kill,
}

/// When a drain that began at `start` interrupts, kills and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Engines get SIGINT.
    pub interrupt: Instant,
    /// Engines get SIGKILL.
    pub kill: Instant,
    /// The daemon ends, uploaded or not.
    pub end: Instant,
}

impl Plan {
    /// A short deadline keeps the proportions of a long one.
    #[must_use]
    pub fn new(start: Instant, deadline: Duration, timings: &Timings) -> Self {
        let (interrupt, upload) = (timings.drain_interrupt, timings.drain_upload);
        let reserve = |part: Duration| {
            let proportional = deadline.mul_f64(part.as_secs_f64() / interrupt.as_secs_f64());
            deadline - part.min(proportional)
        };
        Self {
            interrupt: start + reserve(interrupt),
            kill: start + reserve(upload),
            end: start + deadline,
        }
    }
}

/// Turns steps into orders until the plan's end, and returns then.
pub async fn lead(
    mut shutdown: Shutdown,
    deadline: Duration,
    timings: Timings,
    orders: watch::Sender<Order>,
) {
    shutdown.reached(Step::Drain).await;
    let plan = Plan::new(Instant::now(), deadline, &timings);
    tokio::select! {
        () = sleep_until(plan.interrupt) => {}
        () = shutdown.reached(Step::Cancel) => {}
    }
    let grace = plan.kill.saturating_duration_since(Instant::now());
    orders.send_replace(Order::Interrupt(grace));
    tokio::select! {
        () = sleep_until(plan.kill) => {}
        () = shutdown.reached(Step::Kill) => {}
    }
    orders.send_replace(Order::Kill);
    // A kill by a second signal does not wait for uploads longer than they may take.
    let end = plan.end.min(Instant::now() + timings.drain_upload);
    sleep_until(end).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(plan: &Plan, start: Instant) -> [u64; 3] {
        [plan.interrupt, plan.kill, plan.end].map(|at| (at - start).as_secs())
    }

    #[test]
    fn the_last_seconds_belong_to_the_upload() {
        let start = Instant::now();
        let plan = Plan::new(start, Duration::from_secs(600), &Timings::default());
        assert_eq!(seconds(&plan, start), [575, 590, 600]);
    }

    #[test]
    fn a_short_deadline_keeps_the_proportions() {
        let start = Instant::now();
        let plan = Plan::new(start, Duration::from_secs(5), &Timings::default());
        assert_eq!(seconds(&plan, start), [0, 3, 5]);
    }

    #[tokio::test]
    async fn signals_come_down_as_orders() {
        let (trigger, shutdown) = crate::daemon::shutdown::channel();
        let (sender, mut orders) = watch::channel(Order::Work);
        let leading = tokio::spawn(lead(
            shutdown,
            Duration::from_secs(600),
            Timings::default(),
            sender,
        ));
        trigger.signal(Step::Cancel);
        let order = *orders.wait_for(|o| *o != Order::Work).await.expect("order");
        let Order::Interrupt(grace) = order else {
            panic!("{order:?}");
        };
        assert!(grace > Duration::from_secs(580));
        trigger.signal(Step::Cancel);
        orders.wait_for(|o| *o == Order::Kill).await.expect("kill");
        leading.abort();
    }
}
