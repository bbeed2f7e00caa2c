//! The one way to start a task: named, counted, and with a policy for its panic.

use std::future::Future;

use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::shutdown::{Step, Trigger};

/// What a panic in a task means for the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPanic {
    /// Its job is lost for now: its journal is collected at the next start.
    LoseJob,
    /// The daemon cannot do its work without it: finish the jobs and leave.
    Drain,
}

/// The tasks of one daemon. They are never aborted: each ends by the signals it
/// listens to, and [`Tasks::ended`] waits for all.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    trigger: Trigger,
}

impl Tasks {
    /// No task yet; `trigger` is pulled when one that must not fail does.
    #[must_use]
    pub fn new(trigger: Trigger) -> Self {
        Self {
            tracker: TaskTracker::new(),
            trigger,
        }
    }

    /// Starts `task`.
    pub fn spawn(
        &self,
        name: &'static str,
        on_panic: OnPanic,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let guard = Guard {
            name,
            on_panic,
            trigger: self.trigger.clone(),
        };
        let watched = async move {
            let _guard = guard;
            task.await;
        };
        self.tracker
            .spawn(watched.instrument(tracing::info_span!("task", task.name = name)));
    }

    /// Waits until all tasks have ended; no more may be started then.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

struct Guard {
    name: &'static str,
    on_panic: OnPanic,
    trigger: Trigger,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        tracing::error!(task.name = self.name, "a task of the daemon panicked");
        match self.on_panic {
            OnPanic::LoseJob => {}
            OnPanic::Drain => self.trigger.at_least(Step::Drain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::shutdown;

    #[tokio::test]
    async fn a_panic_in_a_vital_task_drains_the_daemon() {
        let (trigger, mut shutdown) = shutdown::channel();
        let tasks = Tasks::new(trigger);
        tasks.spawn("job", OnPanic::LoseJob, async { panic!("on purpose") });
        tasks.ended().await;
        assert_eq!(shutdown.step(), Step::Run);
        tasks.spawn("acquire", OnPanic::Drain, async { panic!("on purpose") });
        shutdown.reached(Step::Drain).await;
    }
}
