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
//! the job is withdrawn at once, so no other daemon waits for a timeout.

use std::time::Duration;

use proto::ids::{JobId, LeaseId};
use proto::v1::acquire_reply::Message as Reply;
use proto::v1::acquire_request::Message as Ask;
use proto::v1::{self, AcquireReply, AcquireRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::Replies;
use super::parse::{self, Introduction};
use crate::auth::Daemon;
use crate::metrics::Match;
use crate::refusal::Refusal;
use crate::shared::{Shared, jittered};
use crate::store::Store;
use crate::store::model::{Acquire, DaemonContact};
use crate::trace;
use crate::waiters::{Domain, Waiter};
use crate::words::Kind;

/// Events can be lost only when this process lags behind its own store; then a waiting
/// job is found after a third of an acquire stream's life.
const TICKS_PER_STREAM: u32 = 3;

/// Answers an acquire stream.
pub fn acquire<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    requests: Streaming<AcquireRequest>,
) -> Replies<AcquireReply> {
    let (replies, stream) = mpsc::channel(2);
    let exchange = Exchange {
        shared: shared.clone(),
        daemon,
        requests,
        replies,
    };
    shared.spawn("acquire", exchange.run());
    Replies::new(stream)
}

struct Exchange<S> {
    shared: Shared<S>,
    daemon: Daemon,
    requests: Streaming<AcquireRequest>,
    replies: mpsc::Sender<Result<AcquireReply, Status>>,
}

/// How the waiting ended.
enum Waited {
    Job(Box<v1::Job>),
    None(&'static str),
    /// The daemon went away; there is nobody to answer.
    Gone,
}

/// Whether the daemon took the job.
enum Confirmed {
    Yes,
    No,
}

impl<S: Store> Exchange<S> {
    async fn run(mut self) {
        let waited = match self.first().await {
            Ok(Some(acquire)) => self.wait(acquire).await,
            Ok(None) => Ok(Waited::Gone),
            Err(refusal) => Err(refusal),
        };
        match waited {
            Ok(Waited::Job(job)) => self.offer(*job).await,
            Ok(Waited::None(reason)) => {
                let none = v1::None {
                    reason: reason.to_owned(),
                };
                self.reply(Reply::None(none)).await;
            }
            Ok(Waited::Gone) => {}
            Err(refusal) => {
                let _gone = self.replies.send(Err(refusal.into())).await;
            }
        }
    }

    /// The first message, which must be `acquire`.
    async fn first(&mut self) -> Result<Option<Acquire>, Refusal> {
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
        let says = Introduction {
            version: acquire.version,
            slots: acquire.slots,
            tags: acquire.tags,
            facts: acquire.facts,
        };
        let contact = parse::contact(&self.daemon, says)?;
        Ok(Some(Acquire { contact, kinds }))
    }

    async fn wait(&mut self, acquire: Acquire) -> Result<Waited, Refusal> {
        let deadline = Instant::now() + self.patience();
        let name = self.daemon.id.name.clone();
        let mut waiter = self.shared.waiters.register(domain(&acquire), &name);
        let mut how = Match::Backlog;
        loop {
            waiter.begin_to_ask();
            self.daemon.still_allowed(&self.shared.store).await?;
            if let Some(job) = self.shared.store.acquire(acquire.clone()).await? {
                self.shared.counters.matched(how);
                if let Ok(id) = job.id.parse() {
                    waiter.took(id);
                }
                return Ok(Waited::Job(Box::new(job)));
            }
            waiter.found_nothing();
            how = Match::Waiting;
            if self.drains(&acquire.contact).await? {
                return Ok(Waited::None("draining"));
            }
            if let Some(ended) = self.sleep(&waiter, deadline).await? {
                return Ok(ended);
            }
        }
    }

    /// Sleeps until there is a reason to ask the store again (`None`) or to end.
    async fn sleep(
        &mut self,
        waiter: &Waiter,
        deadline: Instant,
    ) -> Result<Option<Waited>, Refusal> {
        let tick = jittered(self.shared.timings.acquire_min / TICKS_PER_STREAM);
        // Biased: a wake-up is looked at before the end, or it would be passed on late.
        // All branches are cancel safe.
        tokio::select! {
            biased;
            () = waiter.woken() => Ok(None),
            () = self.replies.closed() => Ok(Some(Waited::Gone)),
            () = self.shared.stopping.cancelled() => Ok(Some(Waited::None("restarting"))),
            message = self.requests.message() => match message {
                Ok(Some(AcquireRequest { message: Some(Ask::Cancel(_)) })) => {
                    Ok(Some(Waited::None("cancelled")))
                }
                Ok(Some(_)) => Err(first_message()),
                Ok(None) | Err(_) => Ok(Some(Waited::Gone)),
            },
            () = tokio::time::sleep_until(deadline) => Ok(Some(Waited::None("idle"))),
            () = tokio::time::sleep(tick) => Ok(None),
        }
    }

    async fn drains(&self, contact: &DaemonContact) -> Result<bool, Refusal> {
        let seen = self.shared.store.see_daemon(contact.clone()).await?;
        Ok(seen.status == "draining")
    }

    async fn offer(&mut self, mut job: v1::Job) {
        let ids = (job.id.parse(), job.lease.as_ref().map(|l| l.id.clone()));
        let (Ok(id), Some(Ok(lease))) = (ids.0, ids.1.map(|id| parse::lease(&id))) else {
            tracing::error!(job.id = %job.id, "the store handed out a job without lease");
            return;
        };
        if let Some(metadata) = &mut job.metadata {
            metadata.access_url.clone_from(&self.shared.access_url);
        }
        let context = job.trace_context.clone();
        let attempt = job.lease.as_ref().map_or(1, |lease| lease.attempt);
        self.reply(Reply::Job(job)).await;
        match self.confirmation(id, lease).await {
            Confirmed::Yes => {
                self.shared.counters.started(id, attempt);
                trace::waited(&context, id, attempt);
            }
            Confirmed::No => self.withdraw(id, lease).await,
        }
    }

    /// Waits for `confirm`. A `cancel` that crossed with the job changes nothing: the
    /// daemon runs the job or releases it.
    async fn confirmation(&mut self, id: JobId, lease: LeaseId) -> Confirmed {
        let deadline = Instant::now() + self.shared.timings.confirm;
        loop {
            let message = tokio::select! {
                biased;
                message = self.requests.message() => message,
                () = self.replies.closed() => return Confirmed::No,
                () = tokio::time::sleep_until(deadline) => return self.too_late().await,
            };
            match message.map(|request| request.and_then(|request| request.message)) {
                Ok(Some(Ask::Confirm(confirm)))
                    if confirm.job_id == id.to_string() && confirm.lease_id == lease.as_bytes() =>
                {
                    return self.confirm(id, lease).await;
                }
                Ok(Some(Ask::Cancel(_))) => {}
                Ok(Some(Ask::Confirm(_) | Ask::Acquire(_))) => {
                    let message = "after a job only its confirm may follow";
                    let refusal = Refusal::invalid("INVALID_REQUEST", message);
                    let _gone = self.replies.send(Err(refusal.into())).await;
                    return Confirmed::No;
                }
                Ok(None) | Err(_) => return Confirmed::No,
            }
        }
    }

    async fn confirm(&mut self, id: JobId, lease: LeaseId) -> Confirmed {
        let daemon = self.daemon.id.clone();
        match self.shared.store.confirm(daemon, id, lease).await {
            Ok(lease) => {
                let confirmed = v1::Confirmed { lease: Some(lease) };
                self.reply(Reply::Confirmed(confirmed)).await;
                Confirmed::Yes
            }
            Err(error) => {
                let _gone = self.replies.send(Err(error.into())).await;
                Confirmed::No
            }
        }
    }

    async fn too_late(&self) -> Confirmed {
        let message = "the job was not confirmed in time and went back";
        let refusal = Refusal::invalid("CONFIRM_TOO_LATE", message);
        let _gone = self.replies.send(Err(refusal.into())).await;
        Confirmed::No
    }

    async fn withdraw(&self, id: JobId, lease: LeaseId) {
        if let Err(error) = self.shared.store.withdraw(id, lease).await {
            // Its expiry gives it back as well, later.
            tracing::warn!(job.id = %id, error = %error, "an offer could not be withdrawn");
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

fn domain(acquire: &Acquire) -> Domain {
    Domain {
        organization: acquire.contact.daemon.organization.clone(),
        tags: acquire.contact.tags.clone(),
        facts: acquire.contact.facts.clone(),
        kinds: acquire.kinds.clone(),
    }
}

fn first_message() -> Refusal {
    let message = "an acquire stream begins with `acquire`, then waits";
    Refusal::invalid("INVALID_REQUEST", message)
}
