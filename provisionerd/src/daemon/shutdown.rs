//! How a daemon is told to stop: drain, then cancel, then kill. Steps only go down.

use tokio::sync::watch;

/// How far the daemon is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Takes and runs jobs.
    Run,
    /// Takes no more jobs and finishes those it has.
    Drain,
    /// Interrupts its jobs and saves what they made.
    Cancel,
    /// Kills its jobs and saves what it can.
    Kill,
}

impl Step {
    /// One further down.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Run => Self::Drain,
            Self::Drain => Self::Cancel,
            Self::Cancel | Self::Kill => Self::Kill,
        }
    }
}

/// Held by whoever hears signals.
#[derive(Debug, Clone)]
pub struct Trigger(watch::Sender<Step>);

/// Held by the daemon.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Step>);

/// A connected pair, not stopping yet.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Step::Run);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Goes to `step`, or one further down when that is no news: a second signal is
    /// an impatient one. Returns where the daemon is now heading.
    pub fn signal(&self, step: Step) -> Step {
        self.0.send_modify(|now| {
            *now = if step > *now { step } else { now.next() };
        });
        *self.0.borrow()
    }

    /// Somebody else who hears of it.
    #[must_use]
    pub fn watch(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }

    /// Where the daemon is on its way down.
    #[must_use]
    pub fn step(&self) -> Step {
        *self.0.borrow()
    }

    /// Goes down to at least `step`; repeating it changes nothing.
    pub fn at_least(&self, step: Step) {
        self.0.send_if_modified(|now| {
            let lower = step > *now;
            *now = step.max(*now);
            lower
        });
    }
}

impl Shutdown {
    /// Where the daemon is heading now.
    #[must_use]
    pub fn step(&self) -> Step {
        *self.0.borrow()
    }

    /// Waits until the daemon is at `step` or further down; for ever when nobody is
    /// left who could say so. Cancel safe.
    pub async fn reached(&mut self, step: Step) {
        if self.0.wait_for(|now| *now >= step).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_signal_goes_one_step_further_down() {
        let (trigger, mut shutdown) = channel();
        assert_eq!(shutdown.step(), Step::Run);
        assert_eq!(trigger.signal(Step::Drain), Step::Drain);
        shutdown.reached(Step::Drain).await;
        assert_eq!(trigger.signal(Step::Drain), Step::Cancel);
        assert_eq!(trigger.signal(Step::Drain), Step::Kill);
        assert_eq!(trigger.signal(Step::Drain), Step::Kill);
        shutdown.reached(Step::Cancel).await;
    }

    #[test]
    fn a_drain_from_the_queue_does_not_count_as_impatience() {
        let (trigger, shutdown) = channel();
        trigger.at_least(Step::Drain);
        trigger.at_least(Step::Drain);
        assert_eq!(shutdown.step(), Step::Drain);
    }
}
