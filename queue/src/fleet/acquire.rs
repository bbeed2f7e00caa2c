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
//! The stream's task is never aborted: when the daemon goes away in any of these states
//! the job is withdrawn at once, so no other daemon waits for a timeout. How a job is
//! waited for is in [`search`]; the same in short calls in [`now`].

pub mod now;
mod offer;
mod search;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use proto::limits;
use proto::transport::Transport;
use proto::v1::acquire_reply::Message as Reply;
use proto::v1::acquire_request::Message as Ask;
use proto::v1::{self, AcquireReply, AcquireRequest};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::Replies;
use super::parse::{self, Introduction};
use crate::auth::Daemon;
use crate::credentials::Live;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::Drain;
use crate::waiters::Hold;
use crate::words::Kind;
use search::{Asks, IDLE, Peer, Search, Waited};

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
        line: Line { requests, replies },
    };
    shared.spawn("acquire", exchange.run(daemon));
    Replies::new(stream)
}

/// Streams that end without a job end together, so much later at most. A processor that
/// was woken for one has what the next one needs at hand.
const ROUND: Duration = Duration::from_millis(200);

struct Exchange<S> {
    shared: Shared<S>,
    /// Over when the daemon's key is deleted.
    live: Live,
    line: Line,
}

/// The stream, both ways.
struct Line {
    requests: Streaming<AcquireRequest>,
    replies: mpsc::Sender<Result<AcquireReply, Status>>,
}

impl Peer for Line {
    /// Cancel safe.
    async fn left(&mut self) -> Result<Waited, Refusal> {
        tokio::select! {
            biased;
            () = self.replies.closed() => Ok(Waited::Gone),
            message = self.requests.message() => match message {
                Ok(Some(AcquireRequest { message: Some(Ask::Cancel(_)) })) => {
                    Ok(Waited::None("cancelled"))
                }
                Ok(Some(_)) => Err(first_message()),
                Ok(None) | Err(_) => Ok(Waited::Gone),
            },
        }
    }
}

impl<S: Store> Exchange<S> {
    async fn run(mut self, daemon: Daemon) {
        let mut asks = match self.first(daemon).await {
            Ok(Some(asks)) => asks,
            Ok(None) => return,
            Err(refusal) => return self.line.refuse(refusal).await,
        };
        let patience = self.patience();
        let search = Search {
            shared: &self.shared,
            live: &self.live,
        };
        match search.run(&mut asks, &mut self.line, patience).await {
            // On the heap: what comes after the waiting is large, and few do it at a time.
            Ok(Waited::Job(job)) => Box::pin(self.offer(job, asks.contact.daemon.clone())).await,
            Ok(Waited::None(reason)) => {
                // After a time that the queue has set: who asks and leaves, again and again,
                // makes nobody say anything.
                if reason == IDLE {
                    let now = tokio::time::Instant::now();
                    let (controls, timings) = (&self.shared.controls, &self.shared.timings);
                    controls.say_alive_beside(&asks.contact, now, timings);
                }
                let reason = reason.to_owned();
                self.line.reply(Reply::None(v1::None { reason })).await;
            }
            Ok(Waited::Gone) => {}
            Err(refusal) => self.line.refuse(refusal).await,
        }
    }

    /// The first message, which must be `acquire`.
    async fn first(&mut self, daemon: Daemon) -> Result<Option<Asks>, Refusal> {
        let limit = self.shared.timings.confirm;
        let message = tokio::time::timeout(limit, self.line.requests.message()).await;
        let message = message.map_err(|_| first_message())?;
        let Ok(Some(request)) = message else {
            return Ok(None);
        };
        let Some(Ask::Acquire(acquire)) = request.message else {
            return Err(first_message());
        };
        asks(&daemon, acquire, Transport::Streams).map(Some)
    }

    fn patience(&self) -> Duration {
        static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        let timings = &self.shared.timings;
        let (shortest, longest) = (timings.acquire_min, timings.acquire_max);
        let drawn = rand::random_range(shortest..=longest.max(shortest));
        to_round(ORIGIN.elapsed(), drawn, ROUND.min(shortest / 100))
    }
}

/// `wait`, made longer so that it ends a whole number of rounds after an origin, since
/// which `elapsed` have passed.
fn to_round(elapsed: Duration, wait: Duration, round: Duration) -> Duration {
    let over = (elapsed + wait).as_nanos().checked_rem(round.as_nanos());
    match over.map(u64::try_from) {
        Some(Ok(over @ 1..)) => wait + round - Duration::from_nanos(over),
        Some(Ok(0) | Err(_)) | None => wait,
    }
}

impl Line {
    async fn reply(&self, reply: Reply) {
        let reply = AcquireReply {
            message: Some(reply),
        };
        // A daemon that went away is noticed where its answer is awaited.
        let _gone = self.replies.send(Ok(reply)).await;
    }

    async fn refuse(&self, refusal: Refusal) {
        let _gone = self.replies.send(Err(refusal.into())).await;
    }
}

/// Checks what a daemon asks for.
fn asks(daemon: &Daemon, acquire: v1::Acquire, by: Transport) -> Result<Asks, Refusal> {
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
        drain: Drain::Off,
    };
    let contact = Arc::new(parse::contact(daemon, says, by)?);
    Ok(Asks {
        contact,
        kinds,
        holds,
    })
}

fn first_message() -> Refusal {
    let message = "an acquire stream begins with `acquire`, then waits";
    Refusal::invalid("INVALID_REQUEST", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_without_a_job_end_together_and_hardly_later() {
        let ms = Duration::from_millis;
        for (elapsed, wait, expected) in [
            (0, 1_000, 1_000),
            (1, 1_000, 1_099),
            (99, 1_000, 1_001),
            (100, 1_000, 1_000),
            (123_456, 45_678, 45_744),
        ] {
            assert_eq!(to_round(ms(elapsed), ms(wait), ms(100)), ms(expected));
        }
        assert_eq!(to_round(ms(7), ms(50), Duration::ZERO), ms(50));
    }
}
