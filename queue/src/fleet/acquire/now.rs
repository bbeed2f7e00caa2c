//! AcquireNow and ConfirmJob: an acquire stream in two short calls.
//!
//! An offer whose answer is lost is not withdrawn but offered again to the same daemon
//! instance, in the transaction of its next question: nobody can tell here whether an
//! answer has arrived.

use std::time::Duration;

use proto::transport::Transport;
use proto::v1::acquire_now_reply::Message as Reply;
use proto::v1::{self, AcquireNowReply, AcquireNowRequest, ConfirmJobReply, ConfirmJobRequest};
use tonic::Status;

use super::super::parse;
use super::search::{IDLE, Peer, Search, Waited};
use crate::auth::Daemon;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::trace;

/// Whoever waits for a short call's answer ends the call itself by going away.
struct Caller;

impl Peer for Caller {
    async fn left(&mut self) -> Result<Waited, Refusal> {
        std::future::pending().await
    }
}

/// Answers within the time that the daemon gives, and the queue.
pub async fn acquire<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    request: AcquireNowRequest,
) -> Result<AcquireNowReply, Status> {
    let acquire = request
        .acquire
        .ok_or_else(|| Refusal::invalid("INVALID_REQUEST", "an ask for a job says who asks"))?;
    let mut asks = super::asks(&daemon, acquire, Transport::Unary)?;
    let patience = Duration::from_millis(request.wait_ms).min(shared.timings.acquire_poll);
    let search = Search {
        shared,
        live: &daemon.live,
    };
    let message = match search.run(&mut asks, &mut Caller, patience).await? {
        Waited::Job(mut job) => {
            if let Some(metadata) = &mut job.metadata {
                metadata.access_url.clone_from(&shared.access_url);
            }
            Reply::Job(job)
        }
        Waited::None(reason) => Reply::None(none(reason)),
        Waited::Gone => Reply::None(none(IDLE)),
    };
    Ok(AcquireNowReply {
        message: Some(message),
    })
}

/// The daemon has the job.
pub async fn confirm<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    request: ConfirmJobRequest,
) -> Result<ConfirmJobReply, Status> {
    let job = parse::job(&request.job_id)?;
    let lease = parse::lease(&request.lease_id)?;
    let begun = shared.store.confirm(daemon.id, job, lease).await?;
    if begun.first {
        shared.counters.started(job);
        trace::waited(&request.trace_context, job);
    }
    Ok(ConfirmJobReply {
        lease: Some(begun.lease),
    })
}

fn none(reason: &str) -> v1::None {
    v1::None {
        reason: reason.to_owned(),
    }
}
