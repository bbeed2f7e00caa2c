//! AcquireJob: one stream, one answer.
//!
//! ```text
//!            acquire                  a job is there             confirm
//! daemon ──────────────▶ waiting ────────────────────▶ offered ──────────▶ confirmed
//!                           │ idle, drain, restart,       │ 15 s, stream gone
//!                           ▼ cancel                      ▼
//!                          none                        withdrawn
//! ```
//!
//! A daemon that waits asks the store only when something may be there for it: it was
//! woken, or what is known of pending jobs ([`lanes`](crate::lanes)) does not tell that
//! there is nothing. Its presence is told by its control stream.
//!
//! The stream's task is never aborted: when the daemon goes away in any of these states
//! the job is withdrawn at once, so no other daemon waits for a timeout.

mod offer;

use std::sync::Arc;
use std::time::Duration;

use proto::limits;
use proto::v1::acquire_reply::Message as Reply;
use proto::v1::acquire_request::Message as Ask;
use proto::v1::{self, AcquireReply, AcquireRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::Replies;
use super::parse::{self, Introduction};
use crate::auth::{Daemon, key_deleted};
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

/// Answers an acquire stream.
pub fn acquire<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    requests: Streaming<AcquireRequest>,
) -> Replies<AcquireReply> {
    let (replies, stream) = mpsc::channel(2);
    let exchange = Exchange {
        shared: shared.clone(),
        live: daemon.live.clone(),
        requests,
        replies,
    };
    shared.spawn("acquire", exchange.run(daemon));
    Replies::new(stream)
}

struct Exchange<S> {
    shared: Shared<S>,
    /// Over when the daemon's key is deleted.
    live: Live,
    requests: Streaming<AcquireRequest>,
    replies: mpsc::Sender<Result<AcquireReply, Status>>,
}

/// Who asks, and for what. Small, since it lasts as long as the waiting.
struct Asks {
    /// Shared with the daemon's control stream, once that is open.
    contact: Arc<DaemonContact>,
    kinds: Vec<Kind>,
    /// What it may have at hand.
    holds: Box<[Hold]>,
}

/// How the waiting ended.
enum Waited {
    Job(Box<v1::Job>),
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

impl<S: Store> Exchange<S> {
    async fn run(mut self, daemon: Daemon) {
        let asks = match self.first(daemon).await {
            Ok(Some(asks)) => asks,
            Ok(None) => return,
            Err(refusal) => {
                let _gone = self.replies.send(Err(refusal.into())).await;
                return;
            }
        };
        let daemon = asks.contact.daemon.clone();
        match self.wait(asks).await {
            // On the heap: what comes after the waiting is large, and few do it at a time.
            Ok(Waited::Job(job)) => Box::pin(self.offer(job, daemon)).await,
            Ok(Waited::None(reason)) => {
                let reason = reason.to_owned();
                self.reply(Reply::None(v1::None { reason })).await;
            }
            Ok(Waited::Gone) => {}
            Err(refusal) => {
                let _gone = self.replies.send(Err(refusal.into())).await;
            }
        }
    }

    /// The first message, which must be `acquire`.
    async fn first(&mut self, daemon: Daemon) -> Result<Option<Asks>, Refusal> {
        let limit = self.shared.timings.confirm;
        let message = tokio::time::timeout(limit, self.requests.message()).await;
        let message = message.map_err(|_| first_message())?;
        let Ok(Some(request)) = message else {
            return Ok(None);
        };
        let Some(Ask::Acquire(acquire)) = request.message else {
            return Err(first_message());
        };
        let kinds = acquire.kinds.iter().map(|kind| {
            Kind::from_wire(*kind)
                .ok_or_else(|| Refusal::invalid("INVALID_REQUEST", "an unknown kind of job"))
        });
        let kinds = kinds.collect::<Result<Vec<Kind>, Refusal>>()?;
        let holds = acquire.holds.iter().take(limits::HOLDS);
        let holds = holds.filter_map(|name| Hold::of(name)).collect();
        let says = Introduction {
            version: acquire.version,
            slots: acquire.slots,
            tags: acquire.tags,
            facts: acquire.facts,
        };
        let contact = Arc::new(parse::contact(&daemon, says)?);
        Ok(Some(Asks {
            contact,
            kinds,
            holds,
        }))
    }

    async fn wait(&mut self, mut asks: Asks) -> Result<Waited, Refusal> {
        let deadline = Instant::now() + self.patience();
        let name = asks.contact.daemon.name.clone();
        let mut waiter = self
            .shared
            .waiters
            .register(domain(&asks), &name, &asks.holds);
        let mut reason = Reason::Came;
        loop {
            waiter.begin_to_ask();
            // On the heap, since nearly all of the time nobody asks.
            let tick = match Box::pin(self.ask(&mut asks, &waiter, reason)).await? {
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
            match self.sleep(&waiter, deadline, tick).await? {
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
        match (reason, &held) {
            (Reason::Came | Reason::Tick, Some(held)) if held.drain == Drain::On => {
                return Ok(Answer::Ends(Waited::None("draining")));
            }
            (Reason::Came | Reason::Tick, Some(_)) if nothing => return Ok(Answer::Wait(None)),
            (Reason::Came, None) if nothing => {
                return Ok(Answer::Wait(Some(jittered(CONTROL_OPENS))));
            }
            (Reason::Came | Reason::Tick | Reason::Woken, _) => {}
        }
        let asked = self.shared.lanes.ask();
        let acquire = Acquire {
            contact: DaemonContact::clone(&asks.contact),
            kinds: asks.kinds.clone(),
        };
        match self
            .shared
            .store
            .acquire(acquire)
            .await
            .map_err(key_deleted)?
        {
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
        &mut self,
        waiter: &Waiter,
        deadline: Instant,
        tick: Option<Duration>,
    ) -> Result<Result<Reason, Waited>, Refusal> {
        let tick = tick.map(|tick| Instant::now() + tick);
        let until = tick.map_or(deadline, |tick| tick.min(deadline));
        // Biased: a wake-up is looked at before the end, or it would be passed on late.
        // All branches are cancel safe.
        tokio::select! {
            biased;
            () = waiter.woken() => Ok(Ok(Reason::Woken)),
            () = self.replies.closed() => Ok(Err(Waited::Gone)),
            () = self.shared.stopping.cancelled() => Ok(Err(Waited::None("restarting"))),
            () = self.live.over() => Err(Daemon::deleted()),
            message = self.requests.message() => match message {
                Ok(Some(AcquireRequest { message: Some(Ask::Cancel(_)) })) => {
                    Ok(Err(Waited::None("cancelled")))
                }
                Ok(Some(_)) => Err(first_message()),
                Ok(None) | Err(_) => Ok(Err(Waited::Gone)),
            },
            () = tokio::time::sleep_until(until) => {
                Ok(if until < deadline { Ok(Reason::Tick) } else { Err(Waited::None("idle")) })
            }
        }
    }

    async fn reply(&self, reply: Reply) {
        let reply = AcquireReply {
            message: Some(reply),
        };
        // A daemon that went away is noticed where its answer is awaited.
        let _gone = self.replies.send(Ok(reply)).await;
    }

    fn patience(&self) -> Duration {
        let timings = &self.shared.timings;
        let (shortest, longest) = (timings.acquire_min, timings.acquire_max);
        rand::random_range(shortest..=longest.max(shortest))
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

fn first_message() -> Refusal {
    let message = "an acquire stream begins with `acquire`, then waits";
    Refusal::invalid("INVALID_REQUEST", message)
}
