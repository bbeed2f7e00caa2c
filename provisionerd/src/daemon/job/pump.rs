//! The loop of one running job: everything that happens to it arrives here, in one
//! order, and is answered without waiting.
//!
//! Nothing in here blocks: calls to the queue run beside the loop and come back as
//! events, frames leave through [`Peers`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::{
    self, AskGate, CancelKind, FromSupervisor, FromWorker, LedgerEntry, LocalCheckpoint, Phase,
    to_supervisor, to_worker,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use worker::job_dir::JobDir;
use worker::{launch, link};

use super::super::backoff::Backoff;
use super::super::blobs;
use super::super::context::{Context, Lease, Registered};
use super::super::journal::Journal;
use super::super::lease::Trust;
use super::super::leave::Order;
use super::super::links::{Peers, receive};
use super::super::log::Log;
use super::super::outbox::Outbox;
use super::super::retained::Fate;
use super::begin::{self, Place, Started};
use super::conclude::Concluded;
use super::report::Updated;
use super::spans::Spans;
use super::stop::Stop;
use super::wind_up::{Last, Lines};
use super::{Ending, Given};

/// Where the job stands with the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing that changes the world was announced.
    Closed,
    /// In the journal, and asked for with each update until the queue agrees.
    Asked,
    /// The queue agreed: the world may have changed.
    Open,
    /// Asked for, and refused before it opened.
    Refused,
}

/// What the queue takes the gate of this attempt for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtQueue {
    /// It was not asked, or has said no.
    Shut,
    /// It was asked, and what it made of that is not known.
    Asked,
    /// It has opened it.
    Open,
}

impl AtQueue {
    /// Whether it may be: then only a verdict ends the attempt.
    pub fn is_open(self) -> bool {
        match self {
            Self::Shut => false,
            Self::Asked | Self::Open => true,
        }
    }
}

/// What a call beside the loop brought.
pub(super) enum Done {
    Fetched(Result<(), blobs::Error>),
    Updated(Box<Updated>),
    Shipped(LocalCheckpoint, Result<(), blobs::Error>),
}

enum Event {
    Supervisor(Result<Option<FromSupervisor>, link::Error>),
    Worker(Box<Result<Option<FromWorker>, link::Error>>),
    Done(Done),
    Cancel(CancelKind),
    Order(Order),
    Tick,
}

/// How far the worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worker {
    /// Its blobs are being fetched.
    Waits,
    /// It has been told to begin.
    Works,
    /// It is gone, or not to be listened to any more.
    Lost,
}

/// State of one running job.
pub(super) struct Pump {
    // Constant.
    pub context: Arc<Context>,
    pub lease: Lease,
    pub job: v1::Job,
    pub dir: JobDir,
    pub engine: super::super::engines::Engine,
    pub process: Arc<launch::Supervisor>,
    // What the journal and the queue learn.
    pub journal: Journal,
    pub log: Log,
    /// The worker has handed over its last line.
    pub lines_ended: bool,
    pub ledger: Vec<LedgerEntry>,
    pub phase: Phase,
    pub spans: Spans,
    pub counter: u64,
    pub checkpoint: Option<LocalCheckpoint>,
    pub sandbox: String,
    /// A lost worker left something that could not be read.
    pub unread: bool,
    // Where it stands.
    pub trust: Trust,
    pub gate: Gate,
    /// What was announced with the question to the gate.
    pub intended: AskGate,
    /// What the queue took the gate for when it was last heard.
    pub at_queue: AtQueue,
    /// Whether the job's directory stays.
    pub fate: Fate,
    pub stop: Stop,
    pub worker: Worker,
    pub running: BTreeSet<u32>,
    /// CPU of engines and all they started.
    pub engine_cpu: Duration,
    pub ending: Option<Ending>,
    /// The worker's last word, while the supervisor still knows of a running process.
    pub spoken: Option<(Instant, Box<v1::WorkOutcome>)>,
    // Peers.
    pub peers: Peers,
    pub supervisor_heard: Instant,
    pub worker_heard: Instant,
    /// When the loop last looked for peers that hang.
    pub looked: Instant,
    cancel: watch::Receiver<CancelKind>,
    orders: watch::Receiver<Order>,
    // Calls beside the loop.
    pub calls: JoinSet<Done>,
    pub updating: bool,
    pub not_before: Instant,
    pub backoff: Backoff,
    pub to_ship: Option<LocalCheckpoint>,
    pub shipping: bool,
    pub ship_after: Instant,
}

impl Pump {
    pub fn new(
        context: &Arc<Context>,
        registered: &Registered,
        given: Given,
        place: Place,
        started: Started,
    ) -> Self {
        let Given { job, asked } = given;
        let now = Instant::now();
        let peers = Peers::over(&context.tasks, started.supervisor, started.worker);
        let timings = &context.options.timings;
        Self {
            lease: Lease::of(&job),
            trust: Trust::new(&job.lease.clone().unwrap_or_default(), asked),
            log: Log::after(0, started.redactor, Outbox::new(timings, now)),
            lines_ended: false,
            backoff: Backoff::new(timings),
            cancel: registered.cancel.clone(),
            orders: context.orders.clone(),
            context: context.clone(),
            job,
            dir: place.dir,
            engine: started.engine,
            process: started.process,
            journal: place.journal,
            ledger: Vec::new(),
            phase: Phase::Setup,
            spans: Spans::begin(),
            counter: 0,
            checkpoint: None,
            sandbox: String::new(),
            unread: false,
            gate: Gate::Closed,
            intended: AskGate::default(),
            at_queue: AtQueue::Shut,
            fate: Fate::default(),
            stop: Stop::default(),
            worker: Worker::Waits,
            running: BTreeSet::new(),
            engine_cpu: Duration::ZERO,
            ending: None,
            spoken: None,
            peers,
            supervisor_heard: now,
            worker_heard: now,
            looked: now,
            calls: JoinSet::new(),
            updating: false,
            not_before: now,
            to_ship: None,
            shipping: false,
            ship_after: now,
        }
    }

    /// Runs until nothing of the job can change the world any more.
    pub async fn run(mut self) -> (Concluded, Last) {
        let configure = begin::configure(&self.context, &self.engine, &self.dir);
        self.tell_supervisor(to_supervisor::Message::Configure(configure));
        self.fetch();
        self.log.outbox.hurry();
        let ending = loop {
            if let Some(ending) = self.ending.take() {
                break ending;
            }
            self.send_what_is_due();
            let event = self.next().await;
            self.on(event).await;
        };
        self.learn_of_gate().await;
        self.calls.abort_all();
        let ending = self.believed(ending).await;
        let ending = Box::pin(self.with_what_is_left(ending)).await;
        let ending = self.believed(ending).await;
        let lines = self.lines_left(&ending);
        let (finish, kept) = self.conclude(ending);
        self.spans.end(&finish);
        let counter = self.counter;
        let rests = self.stop.rest();
        let concluded = Concluded {
            finish,
            kept,
            counter,
            journal: self.journal,
            rests,
            fate: self.fate,
        };
        let last = Last {
            peers: self.peers,
            log: self.log,
            lines,
            engine_cpu: self.engine_cpu,
        };
        (concluded, last)
    }

    /// Only a worker that has come to its own end goes on to hand over its lines.
    fn lines_left(&self, ending: &Ending) -> Lines {
        match ending {
            _ if self.lines_ended => Lines::Ended,
            Ending::Worked(_) if self.worker == Worker::Works => Lines::Coming,
            Ending::Worked(_)
            | Ending::Lost(_)
            | Ending::Collected(..)
            | Ending::Failed(_)
            | Ending::Stopped => Lines::Left,
        }
    }

    /// The next thing that happens. Cancel safe, and every branch is: links keep what
    /// they read, finished calls stay in their set, watches remember. Biased towards
    /// orders and the supervisor; the worker is heard last, so that a flood from it
    /// delays nothing else.
    async fn next(&mut self) -> Event {
        let tick = self.wakes_at();
        tokio::select! {
            biased;
            Ok(()) = self.orders.changed() => Event::Order(*self.orders.borrow_and_update()),
            Ok(()) = self.cancel.changed() => Event::Cancel(*self.cancel.borrow_and_update()),
            frame = receive(&mut self.peers.from_supervisor) => Event::Supervisor(frame),
            Some(done) = self.calls.join_next() => match done {
                Ok(done) => Event::Done(done),
                Err(error) => {
                    tracing::error!(error = %error, "a call of the job panicked");
                    self.updating = false;
                    self.shipping = false;
                    Event::Tick
                }
            },
            () = sleep_until(tick) => Event::Tick,
            frame = receive(&mut self.peers.from_worker) => Event::Worker(Box::new(frame)),
        }
    }

    async fn on(&mut self, event: Event) {
        match event {
            Event::Supervisor(Ok(Some(frame))) => self.supervisor_says(frame),
            Event::Supervisor(end) => {
                self.peers.from_supervisor = None;
                self.supervisor_lost(end.err()).await;
            }
            Event::Worker(frame) => match *frame {
                Ok(Some(frame)) => self.worker_says(frame).await,
                end => {
                    self.peers.from_worker = None;
                    let why = end.err().map(|error| super::chain(&error));
                    self.worker_lost(why.as_deref().unwrap_or("it ended without an outcome"));
                }
            },
            Event::Done(done) => self.done(done),
            Event::Cancel(kind) => self.cancelled(kind),
            Event::Order(order) => self.ordered(order),
            Event::Tick => self.watch().await,
        }
    }

    /// Every heartbeat the loop looks around, however much it hears.
    fn wakes_at(&self) -> Instant {
        let mut wake = self.looked + self.context.options.timings.heartbeat;
        if !self.updating && self.log.is_open() {
            wake = wake.min(self.log.outbox.due().max(self.not_before));
        }
        if !self.shipping && self.to_ship.is_some() {
            wake = wake.min(self.ship_after);
        }
        wake
    }

    pub fn tell_supervisor(&self, message: to_supervisor::Message) {
        self.peers.tell_supervisor(message);
    }

    pub fn tell_worker(&self, message: to_worker::Message) {
        self.peers.tell_worker(message);
    }
}
