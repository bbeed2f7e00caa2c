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
//! Every method takes `now` and blocks for no longer than a jail takes. Events, here, only
//! note; `turn` runs after each wake-up and brings about what follows; `orders` is what
//! daemon and worker may ask for.

use std::os::fd::OwnedFd;
use std::time::Duration;

use proto::timings::{self, Timings};
use proto::v1::exit_record::Record;
use proto::v1::from_supervisor::Message as ToDaemon;
use proto::v1::to_supervisor::Message as FromDaemon;
use proto::v1::to_supervisor_from_worker::Message as FromWorker;
use proto::v1::to_worker_from_supervisor::Message as ToWorker;
use proto::v1::{
    GateOpenHere, InterruptReason, Process, ToSupervisor, ToSupervisorFromWorker, WorkerExited,
};

use super::clock::Instant;
use super::exits::{Durability, Exits};
use super::latch::Latch;
use super::links::Links;
use super::order::Parts;
use super::peer::Gone;
use super::pressure::Gauge;
use super::reap::{self, Child, Dead, Status};
use super::settings::{Mode, Settings};
use super::start::Starter;

mod orders;
mod turn;

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
    /// What the worker sent ahead of its next start.
    environment: Parts,
    /// The lease's end, once the gate is open.
    deadline: Option<Instant>,
    latch: Latch,
    heartbeat_at: Instant,
    gauge: Gauge,
    pressure_at: Instant,
    /// Memory or disk ran short and everybody was told.
    pressed: bool,
    /// When a worker that closed its link is killed.
    closing_until: Option<Instant>,
    /// When a worker without a daemon and without an engine is killed.
    worker_until: Option<Instant>,
    sweep_at: Option<Instant>,
}

/// What a supervisor works with.
#[derive(Debug)]
pub(super) struct Means {
    pub starter: Starter,
    pub exits: Exits,
    pub gauge: Gauge,
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
    /// Of it and what it left behind, as far as they have ended.
    cpu: Duration,
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
    pub(super) fn new(means: Means, links: Links, workers_daemon: OwnedFd, now: Instant) -> Self {
        let Means {
            starter,
            exits,
            gauge,
        } = means;
        Self {
            starter,
            exits,
            links,
            stage: Stage::New {
                until: now.after(timings::CONFIGURE),
            },
            workers_daemon: Some(workers_daemon),
            worker: None,
            engine: None,
            last_number: 0,
            environment: Parts::default(),
            deadline: None,
            latch: Latch::default(),
            heartbeat_at: now,
            gauge,
            pressure_at: now,
            pressed: false,
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
        let pressure = self.running_engine().filter(|_| !self.pressed);
        let heartbeat = self.links.daemon.is_some().then_some(self.heartbeat_at);
        [
            configure,
            kill_at.filter(|_| self.sweep_at.is_none()),
            deadline,
            heartbeat,
            pressure.map(|_| self.pressure_at),
            self.closing_until,
            self.worker_until,
            self.sweep_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

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
                    self.links.tell_worker(ToWorker::GateOpen(GateOpenHere {}));
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
                Some(FromWorker::Environment(part)) => self.environment.add(part.env),
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
            let Dead { pid, status, cpu } = match reap::next() {
                Child::Ended(dead) => dead,
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
                engine.cpu += cpu;
                self.sweep_at = Some(now);
            } else if let Some(engine) = &mut self.engine {
                // It had lost its parent.
                engine.cpu += cpu;
            }
        }
    }

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

    fn timings_or_default(&self) -> Timings {
        match &self.stage {
            Stage::Running(settings) => settings.timings.clone(),
            Stage::New { .. } | Stage::Leaving | Stage::Empty => Timings::default(),
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
