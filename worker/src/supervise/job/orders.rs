//! What daemon and worker may ask for, and what must hold before they get it.

use std::time::Duration;

use proto::v1::exit_record::Record;
use proto::v1::from_supervisor::Message as ToDaemon;
use proto::v1::to_worker_from_supervisor::Message as ToWorker;
use proto::v1::{
    Configure, Interrupt, InterruptReason, Interrupted, ProcessStarted, StartProcess,
    SupervisorReady,
};

use super::super::clock::Instant;
use super::super::exits::Durability;
use super::super::latch::{Tripped, grace};
use super::super::order::Order;
use super::super::reap;
use super::super::settings::{Mode, Settings};
use super::super::start::Refusal;
use super::{Engine, Job, Stage, durability};

impl Job {
    pub(super) fn configure(&mut self, configure: Configure, now: Instant) {
        if !matches!(self.stage, Stage::New { .. }) {
            return self.links.complain("the daemon configures twice");
        }
        let settings = match Settings::parse(configure) {
            Ok(settings) => settings,
            Err(error) => return self.cannot_begin(&Refusal::new("configure", error.to_string())),
        };
        let mode = settings.mode;
        self.heartbeat_at = now;
        self.gauge.limit_memory(settings.memory_limit);
        self.stage = Stage::Running(Box::new(settings.clone()));
        let begun = match mode {
            Mode::Probe => self.start(&settings, &Order::probe()),
            Mode::Job | Mode::Collector => self.start_worker(&settings),
        };
        if let Err(refusal) = begun {
            self.cannot_begin(&refusal);
        }
    }

    pub(super) fn cannot_begin(&mut self, refusal: &Refusal) {
        self.links
            .tell_daemon(ToDaemon::Refused(refusal.to_frame(0)));
        self.leave();
    }

    pub(super) fn start_worker(&mut self, settings: &Settings) -> Result<(), Refusal> {
        let daemon = self
            .workers_daemon
            .take()
            .ok_or_else(|| Refusal::new("spawn", "the worker's socket is gone"))?;
        let started = self.starter.worker(settings, daemon)?;
        self.worker = Some(started.pid);
        self.links
            .meet_worker(started.link)
            .map_err(|error| Refusal::new("spawn", error.to_string()))?;
        self.links.tell_daemon(ToDaemon::Ready(SupervisorReady {
            worker_pid: self.starter.hosts_pid(started.pid),
            sandbox: started.sandbox,
        }));
        Ok(())
    }

    pub(super) fn on_start(&mut self, mut request: StartProcess, now: Instant) {
        let number = request.number;
        request.env = self.environment.complete(request.env);
        // Deadlines that have passed count before the request that came with them.
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.interrupt(InterruptReason::Lease, None, now);
        }
        let started = self
            .permit(request)
            .and_then(|(settings, order)| self.start(&settings, &order));
        if let Err(refusal) = started {
            self.links
                .tell_worker(ToWorker::Refused(refusal.to_frame(number)));
        }
    }

    /// Everything that must hold before a worker's wish becomes a process.
    pub(super) fn permit(&self, request: StartProcess) -> Result<(Box<Settings>, Order), Refusal> {
        let Stage::Running(settings) = &self.stage else {
            return Err(Refusal::new("interrupted", "the job is being ended"));
        };
        if settings.mode != Mode::Job {
            return Err(Refusal::new("invalid", "a collector starts no process"));
        }
        let order =
            Order::parse(request).map_err(|error| Refusal::new("invalid", error.to_string()))?;
        if self.latch.is_set() {
            return Err(Refusal::new("interrupted", "the job was interrupted"));
        }
        if order.command.changes_the_world() && !self.gate_is_open() {
            return Err(Refusal::new("gate", "the gate is not open"));
        }
        if let Some(engine) = &self.engine {
            let message = format!("process {} still runs", engine.number);
            return Err(Refusal::new("busy", message));
        }
        if order.number <= self.last_number {
            let message = format!("number {} is not above {}", order.number, self.last_number);
            return Err(Refusal::new("invalid", message));
        }
        Ok((settings.clone(), order))
    }

    pub(super) fn start(&mut self, settings: &Settings, order: &Order) -> Result<(), Refusal> {
        self.last_number = order.number;
        let begins = ProcessStarted {
            number: order.number,
            process: order.process.into(),
            pid: 0,
        };
        // Before it runs: an apply of which no record tells would be taken for one that
        // never was. And nothing waits for the disk while an engine runs.
        if let Durability::Synced = durability(order.process) {
            self.exits
                .append(Record::Started(begins), Durability::Synced)
                .map_err(|error| Refusal::new("record", error.to_string()))?;
        }
        let pid = self.starter.engine(settings, order)?;
        self.engine = Some(Engine {
            number: order.number,
            process: order.process,
            pid,
            interrupted: InterruptReason::Unspecified,
            cpu: Duration::ZERO,
            ended: None,
        });
        let started = ProcessStarted {
            pid: self.starter.hosts_pid(pid),
            ..begins
        };
        self.record(Record::Started(started), Durability::Cached);
        self.links.tell_daemon(ToDaemon::Started(started));
        self.links.tell_worker(ToWorker::Started(started));
        Ok(())
    }

    pub(super) fn on_interrupt(&mut self, interrupt: &Interrupt, now: Instant) {
        let reason = interrupt.reason();
        if reason == InterruptReason::WorkerLost {
            self.kill_worker();
        }
        let grace = (interrupt.grace_ms > 0).then(|| Duration::from_millis(interrupt.grace_ms));
        self.interrupt(reason, grace, now);
    }

    /// Trips the latch: the only place that sends SIGINT, to the engine's own id.
    pub(super) fn interrupt(
        &mut self,
        reason: InterruptReason,
        own_grace: Option<Duration>,
        now: Instant,
    ) {
        let why = Interrupted {
            reason: reason.into(),
            ..Interrupted::default()
        };
        self.interrupt_since(why, own_grace, now);
    }

    /// As `interrupt`, with the figures of the reason.
    pub(super) fn interrupt_since(
        &mut self,
        why: Interrupted,
        own_grace: Option<Duration>,
        now: Instant,
    ) {
        let reason = why.reason();
        if reason == InterruptReason::Lease {
            self.deadline = self.deadline.map(|_| Instant::NEVER);
        }
        let wait = own_grace.unwrap_or_else(|| grace(reason, &self.timings_or_default()));
        match self.latch.trip(wait, now) {
            Tripped::Interrupt => {
                if let Some(engine) = self.running_engine_mut() {
                    engine.interrupted = reason;
                    reap::interrupt(engine.pid);
                }
            }
            Tripped::Sooner => {}
            Tripped::Nothing => return,
        }
        self.record(Record::Interrupted(why), Durability::Cached);
        self.links.tell_daemon(ToDaemon::Interrupted(why));
        self.links.tell_worker(ToWorker::Interrupted(why));
    }
}
