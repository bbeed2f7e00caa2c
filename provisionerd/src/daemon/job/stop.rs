//! Why and how a job is stopped before its own end: by its user, by the daemon leaving,
//! by a lost lease, by a peer that died or hangs.

use std::time::Duration;

use proto::v1::{CancelKind, CancelWork, Interrupt, InterruptReason, to_supervisor, to_worker};
use tokio::time::Instant;
use worker::link;

use super::super::lease::BootTime;
use super::super::leave::Order;
use super::pump::{Gate, Pump, Worker};
use super::{Ending, Rest};

/// As good as none: zero would mean the reason's own grace.
const NO_GRACE: Duration = Duration::from_millis(1);

/// All that has asked this job to stop.
#[derive(Debug, Default)]
pub(super) struct Stop {
    cancel: Option<CancelKind>,
    leaving: Option<Order>,
    lease_lost: bool,
    lost: Option<String>,
    hosts_fault: bool,
}

impl Stop {
    /// Whether anything has: nothing new may begin then.
    pub fn stops(&self) -> bool {
        self.cancelled()
            || self.leaving()
            || self.lease_lost
            || self.hosts_fault
            || self.lost.is_some()
    }

    /// By a user: the only thing that makes a job `canceled`.
    pub fn cancelled(&self) -> bool {
        self.cancel.is_some()
    }

    /// By the daemon's end.
    pub fn leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// By the queue, which has given the job to somebody else or has ended it.
    pub fn lease_lost(&self) -> bool {
        self.lease_lost
    }

    /// By this host, which cannot do what the job needs: another one has to.
    pub fn hosts_fault(&self) -> bool {
        self.hosts_fault
    }

    /// Whether the next job would fare the same.
    pub fn rest(&self) -> Rest {
        match self.hosts_fault {
            true => Rest::Needed,
            false => Rest::None,
        }
    }

    /// See [`Stop::hosts_fault`].
    pub fn blame_host(&mut self) {
        self.hosts_fault = true;
    }
}

impl Pump {
    /// A user's cancel, from the control stream or an update's reply; both may bring it.
    pub(super) fn cancelled(&mut self, kind: CancelKind) {
        let (reason, grace) = match kind {
            CancelKind::Unspecified | CancelKind::None => return,
            CancelKind::Cancel => (InterruptReason::Cancel, self.context.options.cancel_grace),
            CancelKind::Force => (
                InterruptReason::Force,
                self.context.options.timings.force_grace,
            ),
        };
        if self
            .stop
            .cancel
            .is_some_and(|known| known as i32 >= kind as i32)
        {
            return;
        }
        self.stop.cancel = Some(kind);
        tracing::info!(job.cancel = kind.as_str_name(), "job is cancelled");
        self.interrupt(reason, grace);
    }

    /// The daemon leaves.
    pub(super) fn ordered(&mut self, order: Order) {
        let grace = match order {
            Order::Work => return,
            Order::Interrupt(grace) => grace.max(NO_GRACE),
            Order::Kill => NO_GRACE,
        };
        if self.stop.leaving == Some(order) {
            return;
        }
        self.stop.leaving = Some(order);
        self.interrupt(InterruptReason::Drain, grace);
    }

    /// Nothing we do for this job counts any more: its engine must not run on.
    pub(super) fn lease_lost(&mut self) {
        if self.stop.lease_lost {
            return;
        }
        self.stop.lease_lost = true;
        if self.gate == Gate::Open {
            self.interrupt(
                InterruptReason::Lease,
                self.context.options.timings.lost_grace,
            );
        } else {
            self.ending.get_or_insert(Ending::Stopped);
        }
    }

    fn interrupt(&mut self, reason: InterruptReason, grace: Duration) {
        if self.worker == Worker::Waits {
            self.ending.get_or_insert(Ending::Stopped);
            return;
        }
        self.tell_supervisor(to_supervisor::Message::Interrupt(Interrupt {
            reason: reason.into(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX).max(1),
        }));
        self.tell_worker(to_worker::Message::Cancel(CancelWork {
            reason: reason.into(),
        }));
        if self.gate == Gate::Asked {
            self.answer_gate(Gate::Refused);
        }
    }

    /// The worker is gone without an outcome, or may no longer be believed.
    pub(super) fn worker_lost(&mut self, why: &str) {
        if self.worker == Worker::Lost || self.ending.is_some() {
            return;
        }
        tracing::warn!(job.lost = why, "the worker is lost");
        self.worker = Worker::Lost;
        self.stop.lost = Some(why.to_owned());
        if self.gate == Gate::Open {
            let grace = self.context.options.timings.lost_grace;
            self.interrupt(InterruptReason::WorkerLost, grace);
        }
        self.lost_for_good();
    }

    /// A lost worker is the job's end once no engine runs that could change the world.
    pub(super) fn lost_for_good(&mut self) {
        let Some(why) = &self.stop.lost else {
            return;
        };
        if self.gate != Gate::Open || self.running.is_empty() {
            self.ending.get_or_insert(Ending::Lost(why.clone()));
        }
    }

    /// The supervisor's link ended: the kernel ends worker and engine with it, and the
    /// sweep whatever escaped.
    pub(super) async fn supervisor_lost(&mut self, error: Option<link::Error>) {
        if self.ending.is_some() {
            return;
        }
        let patience = self.context.options.timings.lease_kill;
        if let Some(error) = error {
            tracing::error!(error = super::chain(&error), "the supervisor's link broke");
            self.process.kill();
        }
        if tokio::time::timeout(patience, self.process.ended())
            .await
            .is_err()
        {
            self.process.kill();
        }
        super::sweep(&self.dir, patience).await;
        self.running.clear();
        let why = self.stop.lost.clone();
        let why = why.unwrap_or_else(|| "its supervisor ended without a word".to_owned());
        self.ending.get_or_insert(Ending::Lost(why));
    }

    /// While this process stood still (stopped, or starved) it heard nobody: what its
    /// peers said meanwhile waits to be read, and is no silence of theirs.
    fn forgive(&mut self, now: Instant) {
        let deaf = deaf(self.looked, now, self.context.options.timings.heartbeat);
        self.looked = now;
        self.supervisor_heard += deaf;
        self.worker_heard += deaf;
        if let Some((since, _)) = &mut self.spoken {
            *since += deaf;
        }
    }

    /// Looks for peers that hang.
    pub(super) async fn watch(&mut self) {
        let now = Instant::now();
        self.forgive(now);
        if self.context.is_revoked() && self.gate != Gate::Open && !self.stop.lease_lost() {
            tracing::error!("without a key this job cannot change anything; it ends here");
            self.lease_lost();
        }
        let timings = &self.context.options.timings;
        let silent = |heard: Instant| now.saturating_duration_since(heard) > timings.silent;
        let late = is_overdue(BootTime::now(), self.trust.until(), timings.restart_wait);
        let runs_on = self.gate == Gate::Open && !self.running.is_empty();
        if silent(self.supervisor_heard) || (runs_on && late) {
            tracing::error!(
                supervisor.pid = self.process.pid(),
                "the supervisor hangs; it is killed"
            );
            self.process.kill();
            self.stop
                .lost
                .get_or_insert_with(|| "its supervisor hung".to_owned());
            self.supervisor_lost(None).await;
        } else if self
            .spoken
            .as_ref()
            .is_some_and(|(since, _)| now.saturating_duration_since(*since) > timings.lease_kill)
        {
            self.spoken = None;
            self.worker_lost("it gave its outcome while its engine ran");
        } else if self.worker == Worker::Works && silent(self.worker_heard) {
            self.worker_lost("it was silent for too long");
        }
    }
}

/// Whether an engine should have been ended long ago: its supervisor had from the end of the
/// lease on all the time that it takes to interrupt and to kill.
fn is_overdue(now: BootTime, trusted_until: BootTime, patience: Duration) -> bool {
    now > trusted_until + patience
}

/// How much of the time since the last look was no listening. A look is due each
/// heartbeat; one that comes a heartbeat late is nothing to speak of.
fn deaf(looked: Instant, now: Instant, heartbeat: Duration) -> Duration {
    now.saturating_duration_since(looked)
        .saturating_sub(heartbeat * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_overdue_once_it_had_the_time_to_interrupt_and_to_kill() {
        let timings = proto::timings::Timings::default();
        let end = BootTime::now();
        let patience = timings.restart_wait;
        assert!(!is_overdue(
            end + (timings.lost_grace + timings.lease_kill),
            end,
            patience
        ));
        assert!(!is_overdue(end + Duration::from_secs(80), end, patience));
        assert!(is_overdue(
            end + Duration::from_millis(80_001),
            end,
            patience
        ));
    }

    #[test]
    fn only_time_in_which_nobody_listened_is_forgiven() {
        let (start, beat) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(deaf(start, start + beat, beat), Duration::ZERO);
        assert_eq!(deaf(start, start + beat * 2, beat), Duration::ZERO);
        assert_eq!(deaf(start, start + beat * 62, beat), beat * 60);
    }
}
