//! Many simulated daemons: each on a connection of its own, made as the real daemon makes
//! it, with its control stream and one acquire stream after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proto::timings::Timings;
use proto::v1::control_event::Event;
use provisionerd::connect::Target;
use provisionerd::daemon::backoff::Backoff;
use provisionerd::daemon::comeback::{Comeback, Hands};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use super::hub::Hub;
use super::job::{self, Way, Work};
use super::world::World;
use crate::sim::{Answer, HandOut, SimDaemon};

/// Handshakes at once when a crew begins; a fleet is not switched on in one instant.
const AT_ONCE: usize = 64;

/// Whom to enlist.
pub struct Recruits {
    /// How many.
    pub count: usize,
    /// Their names begin with it.
    pub name: String,
    /// What they may take.
    pub tags: Vec<(String, String)>,
    /// What they do with it.
    pub work: Work,
}

/// They end with it.
pub struct Crew {
    members: Vec<Arc<Served>>,
    began: Instant,
    _tasks: JoinSet<()>,
}

/// When a daemon's streams were last opened, in milliseconds of the crew's life; 0 is never.
#[derive(Default)]
struct Served {
    control: AtomicU64,
    acquire: AtomicU64,
    /// Acquire streams that the queue has answered.
    renewed: AtomicU64,
    /// It has a job.
    busy: AtomicBool,
    /// The replica that it dialled first.
    home: usize,
}

impl Crew {
    /// Begins with all of them.
    pub fn enlist(world: &World, recruits: &Recruits) -> Self {
        let began = Instant::now();
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let replicas = world.targets().len();
        let member = |number: usize| {
            Arc::new(Served {
                home: number % replicas,
                ..Served::default()
            })
        };
        let members: Vec<Arc<Served>> = (0..recruits.count).map(member).collect();
        let mut tasks = JoinSet::new();
        for (number, served) in members.iter().enumerate() {
            let mut targets = world.targets();
            targets.rotate_left(number % replicas);
            let member = Member {
                targets,
                at: AtomicUsize::new(0),
                channels: (0..replicas).map(|_| std::sync::OnceLock::new()).collect(),
                key: world.key().to_owned(),
                name: format!("{}-{number}", recruits.name),
                tags: recruits.tags.clone(),
                served: served.clone(),
                began,
                comeback: Comeback::default(),
                hub: world.hub.clone(),
            };
            let (member, work) = (Arc::new(member), recruits.work.clone());
            tasks.spawn(member.clone().controls(gate.clone()));
            tasks.spawn(member.acquires(work));
        }
        Self {
            members,
            began,
            _tasks: tasks,
        }
    }

    /// Now, on the crew's clock.
    pub fn now(&self) -> u64 {
        millis_of(self.began)
    }

    /// How many have opened both streams at or after `since`.
    pub fn serve_since(&self, since: u64) -> usize {
        let both = |served: &&Arc<Served>| {
            let streams = [&served.control, &served.acquire];
            streams
                .iter()
                .all(|at| at.load(Ordering::Relaxed) >= since.max(1))
        };
        self.members.iter().filter(both).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// How many serve, of those that were with the replica `home` when they opened their
    /// streams again after `mark`; a daemon with a job needs no stream for another.
    pub fn back_since(&self, mark: u64, home: usize) -> usize {
        let back = |served: &&Arc<Served>| {
            let after = |at: &AtomicU64| at.load(Ordering::Relaxed) >= mark.max(1);
            let has_job = served.busy.load(Ordering::Relaxed);
            served.home != home || after(&served.control) && (has_job || after(&served.acquire))
        };
        self.members.iter().filter(back).count()
    }

    /// Acquire streams that the queue has answered so far.
    pub fn renewed(&self) -> u64 {
        let count = |served: &Arc<Served>| served.renewed.load(Ordering::Relaxed);
        self.members.iter().map(count).sum()
    }

    /// Waits until all have opened both streams.
    pub async fn all_serve(&self, within: Duration) -> Result<()> {
        self.all_serve_since(0, within).await?;
        Ok(())
    }

    /// The same at or after `since`; how long it took from now.
    pub async fn all_serve_since(&self, since: u64, within: Duration) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let serve = self.serve_since(since);
            if serve == self.members.len() {
                return Ok(start.elapsed());
            }
            let all = self.members.len();
            ensure!(start.elapsed() < within, "{serve} of {all} daemons serve");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn millis_of(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

struct Member {
    /// Where to dial; the next one when one fails.
    targets: Vec<Target>,
    at: AtomicUsize,
    /// One for each target, made when it is dialled first.
    channels: Vec<std::sync::OnceLock<Channel>>,
    key: String,
    name: String,
    tags: Vec<(String, String)>,
    served: Arc<Served>,
    began: Instant,
    comeback: Comeback,
    hub: Arc<Hub>,
}

impl Member {
    fn daemon_at(&self, at: usize) -> Result<SimDaemon> {
        let at = at % self.targets.len();
        let channel = match self.channels[at].get() {
            Some(channel) => channel,
            None => {
                let channel = self.targets[at].channel()?;
                self.channels[at].get_or_init(|| channel)
            }
        };
        let daemon = SimDaemon::over(channel.clone(), &self.key, &self.name)?;
        Ok(daemon.tagged(&self.tags))
    }

    /// Goes to the next target, unless the other stream has done so.
    fn turn_from(&self, at: usize) {
        let relaxed = Ordering::Relaxed;
        let _other = self.at.compare_exchange(at, at + 1, relaxed, relaxed);
    }

    fn note(&self, stream: &AtomicU64) {
        stream.store(millis_of(self.began).max(1), Ordering::Relaxed);
    }

    async fn controls(self: Arc<Self>, gate: Arc<Semaphore>) {
        let mut first = gate.acquire_owned().await.ok();
        let timings = Timings::default();
        let mut backoff = Backoff::new(&timings);
        let mut was_lost = false;
        loop {
            let at = self.at.load(Ordering::Relaxed);
            let listened = async {
                let mut daemon = self
                    .daemon_at(at)
                    .map_err(|e| Status::unknown(e.to_string()))?;
                let mut events = daemon.control().await?;
                while let Some(event) = events.message().await? {
                    if let Some(Event::Alive(alive)) = event.event {
                        let within = Duration::from_millis(alive.return_within_ms);
                        self.comeback.told(within);
                    }
                    if first.take().is_some() || std::mem::take(&mut was_lost) {
                        self.note(&self.served.control);
                    }
                    backoff.reset();
                }
                Ok::<(), Status>(())
            };
            let _lost = listened.await;
            self.turn_from(at);
            was_lost = true;
            let (hands, step) = match self.served.busy.load(Ordering::Relaxed) {
                true => (Hands::Full, Duration::ZERO),
                false => (Hands::Free, backoff.step()),
            };
            let wait = self.comeback.lost(hands, step, Instant::now(), &timings);
            tokio::time::sleep(wait).await;
        }
    }

    async fn acquires(self: Arc<Self>, work: Work) {
        while self.served.control.load(Ordering::Relaxed) == 0 {
            // Behind its control stream, which waits for its turn to dial.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut backoff = Backoff::new(&Timings::default());
        loop {
            tokio::time::sleep(self.comeback.left(Instant::now())).await;
            let at = self.at.load(Ordering::Relaxed);
            match self.acquire(at).await {
                Ok(hand_out) => {
                    backoff.reset();
                    if let Some(hand_out) = hand_out {
                        self.work(hand_out, work.clone()).await;
                    }
                }
                Err(_status) => {
                    self.turn_from(at);
                    tokio::time::sleep(backoff.step()).await;
                }
            }
        }
    }

    async fn acquire(&self, at: usize) -> Result<Option<HandOut>> {
        let mut daemon = self.daemon_at(at)?;
        let waiting = daemon.acquire().await?;
        self.note(&self.served.acquire);
        let answer = waiting.answer().await?;
        self.served.renewed.fetch_add(1, Ordering::Relaxed);
        match answer {
            Answer::Job(hand_out) => Ok(Some(*hand_out)),
            Answer::None => Ok(None),
        }
    }

    async fn work(&self, hand_out: HandOut, mut work: Work) {
        let id = hand_out.job.id.clone();
        self.hub.arrived(&id, hand_out.at);
        // An offer that is not confirmed goes back: not this daemon's.
        let Ok(job) = hand_out.confirm().await else {
            return;
        };
        self.hub.confirmed(&id);
        self.served.busy.store(true, Ordering::Relaxed);
        match job::run(self, &job, &mut work).await {
            Ok(()) => self.hub.ended(&id),
            Err(error) => self.hub.went_wrong(format!("{error:#}")),
        }
        self.served.busy.store(false, Ordering::Relaxed);
    }
}

impl Way for Member {
    fn daemon(&self) -> Result<SimDaemon> {
        self.daemon_at(self.at.load(Ordering::Relaxed))
    }

    fn failed(&self) {
        self.turn_from(self.at.load(Ordering::Relaxed));
    }
}
