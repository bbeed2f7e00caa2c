//! What follows from what was noted: the tables of `PROCESSES.md` as code.

use std::time::Duration;

use proto::v1::exit_record::Record;
use proto::v1::from_supervisor::Message as ToDaemon;
use proto::v1::to_worker_from_supervisor::Message as ToWorker;
use proto::v1::{Ended, Heartbeat, InterruptReason, ProcessExited};

use super::super::clock::Instant;
use super::super::pressure::Pressure;
use super::super::reap::Status;
use super::super::settings::Mode;
use super::super::tree;
use super::{Children, Engine, Job, Stage, durability};

/// Between two passes over a tree that is being killed.
const SWEEP: Duration = Duration::from_millis(10);

impl Job {
    /// Brings about what follows from all that was noted.
    pub(in super::super) fn turn(&mut self, now: Instant) {
        if self.links.daemon.is_some() && self.heartbeat_at <= now {
            let every = self.timings_or_default().heartbeat;
            self.heartbeat_at = now.after(every.max(Duration::from_millis(1)));
            self.links.tell_daemon(ToDaemon::Heartbeat(Heartbeat {}));
        }
        match &self.stage {
            Stage::New { until } if *until <= now || self.links.daemon.is_none() => self.leave(),
            Stage::Running(_) => self.turn_running(now),
            Stage::New { .. } | Stage::Leaving | Stage::Empty => {}
        }
        if matches!(self.stage, Stage::Leaving) {
            self.turn_leaving(now);
        }
    }

    fn turn_running(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.interrupt(InterruptReason::Lease, None, now);
        }
        let daemon_lost = self.links.daemon.is_none();
        let worker_lost = self.worker.is_none() && self.mode() != Mode::Probe;
        if self.gate_is_open() && daemon_lost {
            self.interrupt(InterruptReason::DaemonLost, None, now);
        }
        if self.gate_is_open() && worker_lost && self.engine.is_some() {
            self.interrupt(InterruptReason::WorkerLost, None, now);
        }
        if self.worker.is_some() && self.links.worker.is_none() {
            let until = *self
                .closing_until
                .get_or_insert(now.after(self.timings_or_default().worker_close));
            if until <= now {
                self.kill_worker();
                self.closing_until = Some(Instant::NEVER);
            }
        }
        self.turn_pressure(now);
        self.turn_engine(now);
        let before_gate = !self.gate_is_open() && (daemon_lost || worker_lost);
        if before_gate || (self.engine.is_none() && self.nothing_to_wait_for(now)) {
            self.leave();
        }
    }

    /// While something runs that could take it: looks at memory and disk. One word is
    /// enough; the latch does the rest.
    fn turn_pressure(&mut self, now: Instant) {
        if self.pressed || self.running_engine().is_none() || self.pressure_at > now {
            return;
        }
        let every = self.timings_or_default().pressure;
        self.pressure_at = now.after(every.max(SWEEP));
        let Some(pressure) = self.gauge.read(self.worker, now) else {
            return;
        };
        self.pressed = true;
        if let Pressure::Disk { .. } = pressure {
            self.starter.give_back_reserve();
        }
        self.links.complain(pressure);
        self.interrupt_since(pressure.to_frame(), None, now);
    }

    /// Without an engine: whether no worker is left to wait for.
    fn nothing_to_wait_for(&mut self, now: Instant) -> bool {
        if self.worker.is_none() {
            return true;
        }
        if self.links.daemon.is_some() {
            return false;
        }
        let patience = self.timings_or_default().lease_kill;
        *self.worker_until.get_or_insert(now.after(patience)) <= now
    }

    fn turn_engine(&mut self, now: Instant) {
        let Some(engine) = &self.engine else { return };
        let killed = self.latch.kill_at().is_some_and(|at| at <= now);
        if engine.ended.is_none() && !killed {
            return;
        }
        self.starter.kill_run();
        let left = tree::kill_descendants(self.worker);
        match (left, engine.ended) {
            (tree::Left::Nobody, Some(status)) => self.engine_is_over(status),
            (tree::Left::Nobody | tree::Left::Somebody, _) => {
                self.sweep_at = Some(now.after(SWEEP));
            }
        }
    }

    fn engine_is_over(&mut self, status: Status) {
        self.sweep_at = None;
        let Some(engine) = self.engine.take() else {
            return;
        };
        let exited = ProcessExited {
            number: engine.number,
            process: engine.process.into(),
            code: status.code(),
            signal: status.signal(),
            interrupted: engine.interrupted.into(),
            cpu_us: u64::try_from(engine.cpu.as_micros()).unwrap_or(u64::MAX),
        };
        let durability = durability(engine.process);
        self.record(Record::Exited(exited), durability);
        self.links.tell_daemon(ToDaemon::Exited(exited));
        self.links.tell_worker(ToWorker::Exited(exited));
    }

    fn turn_leaving(&mut self, now: Instant) {
        self.starter.kill_run();
        tree::kill_descendants(None);
        // Everything whose parent has died is a child of ours: no child, nobody.
        if self.on_children(now) == Children::None {
            if let Some(Engine { ended, .. }) = &self.engine {
                let status = ended.unwrap_or(Status::Killed(libc::SIGKILL));
                self.engine_is_over(status);
            }
            self.links.tell_daemon(ToDaemon::Ended(Ended {}));
            self.stage = Stage::Empty;
        } else {
            self.sweep_at = Some(now.after(SWEEP));
        }
    }

    pub(super) fn leave(&mut self) {
        if !matches!(self.stage, Stage::Empty) {
            self.stage = Stage::Leaving;
            self.deadline = None;
            self.closing_until = None;
            self.worker_until = None;
        }
    }
}
