//! The search for a job, for as long as its daemon waits for one.
//!
//! A daemon that waits asks the store only when something may be there for it: it was
//! woken, or what is known of pending jobs ([`lanes`](crate::lanes)) does not tell that
//! there is nothing. Its presence is told by its control stream. One that has none, and
//! calls by short calls alone, tells it by each search, which therefore begins with a
//! question.

use std::sync::Arc;
use std::time::Duration;

use proto::transport::Transport;
use proto::v1;
use tokio::time::Instant;

use crate::auth::Daemon;
use crate::credentials::Live;
use crate::metrics::Match;
use crate::refusal::Refusal;
use crate::shared::{Shared, jittered};
use crate::store::Store;
use crate::store::model::{Acquire, Acquired, DaemonContact, Drain};
use crate::waiters::{Domain, Hold, Waiter};
use crate::words::Kind;

/// A daemon whose control stream is not held here is told to the store so often while it
/// waits.
const TICKS_PER_STREAM: u32 = 3;

/// Until then a daemon that has just come has opened its control stream, which tells the
/// store all that an acquire in vain would.
const CONTROL_OPENS: Duration = Duration::from_millis(500);

/// Why there is no job for a daemon that has waited as long as it may.
pub const IDLE: &str = "idle";

/// Whom a search is for, and what it looks at.
pub struct Search<'s, S> {
    /// The queue.
    pub shared: &'s Shared<S>,
    /// Over when the daemon's key is deleted.
    pub live: &'s Live,
}

/// Who waits for the answer.
pub trait Peer: Send {
    /// Returns when it waits no longer. Cancel safe.
    fn left(&mut self) -> impl Future<Output = Result<Waited, Refusal>> + Send;
}

/// Who asks, and for what. Small, since it lasts as long as the waiting.
pub struct Asks {
    /// Shared with the daemon's control stream, once that is open.
    pub contact: Arc<DaemonContact>,
    /// Kinds it takes; empty means all.
    pub kinds: Vec<Kind>,
    /// What it may have at hand.
    pub holds: Box<[Hold]>,
}

/// How the waiting ended.
pub enum Waited {
    /// It is offered.
    Job(Box<v1::Job>),
    /// For this reason.
    None(&'static str),
    /// The daemon went away; there is nobody to answer.
    Gone,
}

/// Why the store may be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The daemon has come.
    Came,
    /// Something is there for it.
    Woken,
    /// Its presence is to be told.
    Tick,
}

impl Reason {
    /// Whether the job came to a daemon that waited, or the daemon to a job.
    fn found(self) -> Match {
        match self {
            Self::Came => Match::Backlog,
            Self::Woken | Self::Tick => Match::Waiting,
        }
    }
}

/// What a question came to.
enum Answer {
    Ends(Waited),
    /// Nothing is there; to be asked again after this time at the latest.
    Wait(Option<Duration>),
}

impl<S: Store> Search<'_, S> {
    /// Searches until there is a job, or `patience` is over.
    ///
    /// # Errors
    /// The daemon is refused, or the store failed.
    pub async fn run(
        &self,
        asks: &mut Asks,
        peer: &mut impl Peer,
        patience: Duration,
    ) -> Result<Waited, Refusal> {
        let deadline = Instant::now() + patience;
        let name = asks.contact.daemon.name.clone();
        let mut waiter = self
            .shared
            .waiters
            .register(domain(asks), &name, &asks.holds);
        let mut reason = Reason::Came;
        loop {
            waiter.begin_to_ask();
            // On the heap, since nearly all of the time nobody asks.
            let tick = match Box::pin(self.ask(asks, &waiter, reason)).await? {
                Answer::Ends(Waited::Job(job)) => {
                    self.shared.counters.matched(reason.found());
                    if let Ok(id) = job.id.parse() {
                        waiter.took(id);
                    }
                    return Ok(Waited::Job(job));
                }
                Answer::Ends(ended) => return Ok(ended),
                Answer::Wait(tick) => tick,
            };
            waiter.found_nothing();
            match self.sleep(&waiter, peer, (deadline, tick)).await? {
                Ok(again) => reason = again,
                Err(ended) => return Ok(ended),
            }
        }
    }

    /// Asks the store, when there is a reason to.
    async fn ask(
        &self,
        asks: &mut Asks,
        waiter: &Waiter,
        reason: Reason,
    ) -> Result<Answer, Refusal> {
        let held = self.shared.controls.held(&asks.contact);
        if let Some(held) = &held {
            asks.contact = Arc::clone(&held.contact);
        }
        let nothing = !self.shared.lanes.may_have(waiter.domain());
        match (reason, asks.contact.transport(), &held) {
            (Reason::Came | Reason::Tick, _, Some(held)) if held.drain == Drain::On => {
                return Ok(Answer::Ends(Waited::None("draining")));
            }
            (Reason::Came | Reason::Tick, _, Some(_)) if nothing => return Ok(Answer::Wait(None)),
            (Reason::Came, Transport::Streams, None) if nothing => {
                return Ok(Answer::Wait(Some(jittered(CONTROL_OPENS))));
            }
            (Reason::Came | Reason::Tick | Reason::Woken, _, _) => {}
        }
        let asked = self.shared.lanes.ask();
        let acquire = Acquire {
            contact: DaemonContact::clone(&asks.contact),
            kinds: asks.kinds.clone(),
        };
        match self.shared.handing.acquire(self.shared, acquire).await? {
            Acquired::Job(job) => Ok(Answer::Ends(Waited::Job(job))),
            Acquired::Draining => Ok(Answer::Ends(Waited::None("draining"))),
            Acquired::Nothing => {
                self.shared.lanes.found_nothing(asked, waiter.domain());
                let tick = self.shared.timings.acquire_min / TICKS_PER_STREAM;
                Ok(Answer::Wait(held.is_none().then(|| jittered(tick))))
            }
        }
    }

    /// Sleeps until there is a reason to ask again, or to end.
    async fn sleep(
        &self,
        waiter: &Waiter,
        peer: &mut impl Peer,
        (deadline, tick): (Instant, Option<Duration>),
    ) -> Result<Result<Reason, Waited>, Refusal> {
        let tick = tick.map(|tick| Instant::now() + tick);
        let until = tick.map_or(deadline, |tick| tick.min(deadline));
        // Biased: a wake-up is looked at before the end, or it would be passed on late.
        // All branches are cancel safe.
        tokio::select! {
            biased;
            () = waiter.woken() => Ok(Ok(Reason::Woken)),
            left = peer.left() => left.map(Err),
            () = self.shared.stopping.cancelled() => Ok(Err(Waited::None("restarting"))),
            () = self.live.over() => Err(Daemon::deleted()),
            () = tokio::time::sleep_until(until) => {
                Ok(if until < deadline { Ok(Reason::Tick) } else { Err(Waited::None(IDLE)) })
            }
        }
    }
}

fn domain(asks: &Asks) -> Domain {
    Domain {
        organization: asks.contact.daemon.organization.clone(),
        tags: asks.contact.tags.clone(),
        facts: asks.contact.facts.clone(),
        kinds: asks.kinds.clone(),
    }
}
