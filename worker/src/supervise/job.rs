//! One job as its supervisor sees it: what was asked, what runs, what must end when.
//!
//! ```text
//!              gate closed                      gate open
//!  engine      any but apply                    any
//!  daemon gone everything is killed             SIGINT, grace, kill; then the worker may
//!                                               save what it has, and is killed
//!  worker gone everything is killed             SIGINT, grace, kill
//!  deadline    nothing                          SIGINT, grace, kill; the worker stays
//! ```
//!
//! Every method takes `now` and blocks for no longer than a jail takes. `turn` is called
//! after each wake-up and brings about what follows from the state; events only note.

use std::os::fd::OwnedFd;
use std::time::Duration;

use proto::v1::exit_record::Record;
use proto::v1::from_supervisor::Message as ToDaemon;
use proto::v1::to_supervisor::Message as FromDaemon;
use proto::v1::to_supervisor_from_worker::Message as FromWorker;
use proto::v1::to_worker_from_supervisor::Message as ToWorker;
use proto::v1::{
    Ended, Heartbeat, InterruptReason, Process, ProcessExited, ToSupervisor,
    ToSupervisorFromWorker, WorkerExited,
};

use super::clock::Instant;
use super::exits::{Durability, Exits};
use super::latch::Latch;
use super::links::Links;
use super::peer::Gone;
use super::reap::{self, Child, Status};
use super::settings::{Mode, Settings};
use super::start::Starter;
use super::tree;

mod orders;

/// How long a supervisor waits to be told what it is for.
const CONFIGURE: Duration = Duration::from_secs(30);

/// A worker that ends closes its link first; one that closed it and stays is killed.
const CLOSING: Duration = Duration::from_secs(1);

/// Between two passes over a tree that is being killed.
const SWEEP: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Job {
    starter: Starter,
    exits: Exits,
    links: Links,
    stage: Stage,
    /// The worker's end to the daemon, until the worker has it.
    workers_daemon: Option<OwnedFd>,
    worker: Option<i32>,
    engine: Option<Engine>,
    last_number: u32,
    /// The lease's end, once the gate is open.
    deadline: Option<Instant>,
    latch: Latch,
    heartbeat_at: Instant,
    /// When a worker that closed its link is killed.
    closing_until: Option<Instant>,
    /// When a worker without a daemon and without an engine is killed.
    worker_until: Option<Instant>,
    sweep_at: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// Not told yet what for.
    New { until: Instant },
    /// At work.
    Running(Box<Settings>),
    /// Everything is being killed.
    Leaving,
    /// Nothing is left.
    Empty,
}

#[derive(Debug)]
struct Engine {
    number: u32,
    process: Process,
    pid: i32,
    /// Why it got its SIGINT.
    interrupted: InterruptReason,
    /// Set when it has ended and what it left behind is being killed.
    ended: Option<Status>,
}

/// Whether this process has children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Children {
    Some,
    None,
}

/// What a start and an end of `process` are worth.
fn durability(process: Process) -> Durability {
    match process {
        Process::Apply => Durability::Synced,
        Process::Unspecified | Process::Version | Process::Init | Process::Plan | Process::Show => {
            Durability::Cached
        }
    }
}

impl Job {
    pub(super) fn new(
        starter: Starter,
        exits: Exits,
        links: Links,
        workers_daemon: OwnedFd,
        now: Instant,
    ) -> Self {
        Self {
            starter,
            exits,
            links,
            stage: Stage::New {
                until: now.after(CONFIGURE),
            },
            workers_daemon: Some(workers_daemon),
            worker: None,
            engine: None,
            last_number: 0,
            deadline: None,
            latch: Latch::default(),
            heartbeat_at: now,
            closing_until: None,
            worker_until: None,
            sweep_at: None,
        }
    }

    /// The sockets, for the loop.
    pub(super) fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// Whether nothing is left and everybody who could be told was told.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Empty)
    }

    /// When the loop must turn at the latest.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let configure = match &self.stage {
            Stage::New { until } => Some(*until),
            Stage::Running(_) | Stage::Leaving | Stage::Empty => None,
        };
        let kill_at = self.running_engine().and_then(|_| self.latch.kill_at());
        let deadline = self.deadline;
        let heartbeat = self.links.daemon.is_some().then_some(self.heartbeat_at);
        [
            configure,
            kill_at.filter(|_| self.sweep_at.is_none()),
            deadline,
            heartbeat,
            self.closing_until,
            self.worker_until,
            self.sweep_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // ---- events ----

    /// Frames from the daemon, and its end.
    pub(super) fn on_daemon(
        &mut self,
        frames: Vec<ToSupervisor>,
        rest: Result<(), Gone>,
        now: Instant,
    ) {
        for frame in frames {
            match frame.message {
                Some(FromDaemon::Configure(configure)) => self.configure(configure, now),
                Some(FromDaemon::GateOpen(gate)) => {
                    self.extend(Instant::from_nanos(gate.deadline_boottime_ns));
                }
                // Before the gate a lease may end: nothing can have changed the world.
                Some(FromDaemon::Deadline(deadline)) if self.deadline.is_some() => {
                    self.extend(Instant::from_nanos(deadline.boottime_ns));
                }
                Some(FromDaemon::Interrupt(interrupt)) => self.on_interrupt(&interrupt, now),
                Some(FromDaemon::End(_)) => self.leave(),
                Some(FromDaemon::Deadline(_)) | None => {}
            }
        }
        if let Err(gone) = rest {
            self.links.lose_daemon(&gone);
        }
    }

    /// Frames from the worker, and its end. A worker that speaks out of turn is broken or
    /// no longer ours: it is killed, and its death takes the usual course.
    pub(super) fn on_worker(
        &mut self,
        frames: Vec<ToSupervisorFromWorker>,
        rest: Result<(), Gone>,
        now: Instant,
    ) {
        for frame in frames {
            match frame.message {
                Some(FromWorker::Start(request)) => self.on_start(request, now),
                Some(FromWorker::Heartbeat(_)) | None => {}
            }
        }
        match rest {
            Ok(()) => {}
            Err(Gone::Closed) => self.links.lose_worker(&Gone::Closed),
            Err(gone) => {
                self.links.lose_worker(&gone);
                self.kill_worker();
            }
        }
    }

    /// Children that have ended.
    pub(super) fn on_children(&mut self, now: Instant) -> Children {
        loop {
            let (pid, status) = match reap::next() {
                Child::Ended { pid, status } => (pid, status),
                Child::Running => return Children::Some,
                Child::None => return Children::None,
            };
            if self.worker == Some(pid) {
                self.worker = None;
                self.links.worker = None;
                self.closing_until = None;
                let exited = WorkerExited {
                    code: status.code(),
                    signal: status.signal(),
                };
                self.record(Record::WorkerExited(exited), Durability::Cached);
                self.links.tell_daemon(ToDaemon::WorkerExited(exited));
            } else if let Some(engine) = self.running_engine_mut()
                && engine.pid == pid
            {
                engine.ended = Some(status);
                self.sweep_at = Some(now);
            }
        }
    }

    // ---- what follows ----

    /// Brings about what follows from all that was noted.
    pub(super) fn turn(&mut self, now: Instant) {
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
            let until = *self.closing_until.get_or_insert(now.after(CLOSING));
            if until <= now {
                self.kill_worker();
                self.closing_until = Some(Instant::NEVER);
            }
        }
        self.turn_engine(now);
        let before_gate = !self.gate_is_open() && (daemon_lost || worker_lost);
        if before_gate || (self.engine.is_none() && self.nothing_to_wait_for(now)) {
            self.leave();
        }
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

    fn leave(&mut self) {
        if !matches!(self.stage, Stage::Empty) {
            self.stage = Stage::Leaving;
            self.deadline = None;
            self.closing_until = None;
            self.worker_until = None;
        }
    }

    // ---- small things ----

    fn extend(&mut self, deadline: Instant) {
        self.deadline = self.deadline.max(Some(deadline));
    }

    fn gate_is_open(&self) -> bool {
        self.deadline.is_some()
    }

    fn mode(&self) -> Mode {
        match &self.stage {
            Stage::Running(settings) => settings.mode,
            Stage::New { .. } | Stage::Leaving | Stage::Empty => Mode::Job,
        }
    }

    fn timings_or_default(&self) -> proto::timings::Timings {
        match &self.stage {
            Stage::Running(settings) => settings.timings.clone(),
            Stage::New { .. } | Stage::Leaving | Stage::Empty => proto::timings::Timings::default(),
        }
    }

    fn running_engine(&self) -> Option<&Engine> {
        self.engine.as_ref().filter(|engine| engine.ended.is_none())
    }

    fn running_engine_mut(&mut self) -> Option<&mut Engine> {
        self.engine.as_mut().filter(|engine| engine.ended.is_none())
    }

    fn kill_worker(&self) {
        if let Some(pid) = self.worker {
            reap::end(pid);
        }
    }

    fn record(&mut self, record: Record, durability: Durability) {
        if let Err(error) = self.exits.append(record, durability) {
            self.links
                .complain(format!("cannot write `exits`: {error}"));
        }
    }
}
