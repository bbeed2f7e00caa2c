//! The same in short calls: an ask for a job, which the queue answers within seconds, and
//! its confirmation.

use std::time::Duration;

use proto::transport::Transport;
use proto::v1::acquire_now_reply::Message as Reply;
use proto::v1::{self, AcquireNowReply, AcquireNowRequest, ConfirmJobRequest, ReleaseReason};
use tokio::time::{Instant, timeout};
use tonic::{Code, Response, Status};

use super::super::backoff::Backoff;
use super::super::context::{Context, Lease};
use super::super::lease::BootTime;
use super::super::shutdown::{Shutdown, Step};
use super::super::{control, deliver};
use super::{Outcome, in_time, request};
use crate::connect::{self, Retry};

/// One ask, and what comes of it.
pub(super) async fn take(
    context: &Context,
    mut shutdown: Shutdown,
    patience: Option<Duration>,
) -> Result<Outcome, Status> {
    // No stream is tried meanwhile.
    let _turn = tokio::select! {
        turn = context.way.turn() => turn,
        () = shutdown.reached(Step::Drain) => return Ok(Outcome::Stopped),
    };
    if context.way.now() == Transport::Streams {
        return Ok(Outcome::None);
    }
    let begun = Instant::now();
    let wait = context
        .way
        .patience()
        .min(patience.unwrap_or(Duration::MAX));
    let mut client = context.client.clone();
    let asking = timeout(
        wait + context.call_timeout(),
        client.acquire_now(AcquireNowRequest {
            acquire: Some(request(context)),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        }),
    );
    tokio::pin!(asking);
    let replied = tokio::select! {
        biased;
        replied = &mut asking => in_time(replied),
        () = shutdown.reached(Step::Drain) => {
            let late = timeout(context.options.timings.heartbeat, asking).await;
            give_back(context, late.ok().map(in_time)).await;
            return Ok(Outcome::Stopped);
        }
    };
    match replied.map(|reply| reply.into_inner().message) {
        Ok(Some(Reply::Job(job))) => Ok(confirm(context, job).await),
        Ok(Some(Reply::None(none))) => {
            if none.reason == "draining" {
                control::drained(context);
            }
            rest(context, begun, &mut shutdown).await;
            Ok(Outcome::None)
        }
        Ok(None) => Ok(Outcome::None),
        Err(status) if status.code() == Code::Unimplemented => {
            // A replica of an older release.
            context.way.switch(Transport::Streams);
            Ok(Outcome::None)
        }
        Err(status) => {
            if connect::retry(&status) == Retry::Later && begun.elapsed() > wait / 2 {
                context.way.lose_patience();
            }
            Err(status)
        }
    }
}

/// A queue that answers at once is not asked without a break.
async fn rest(context: &Context, begun: Instant, shutdown: &mut Shutdown) {
    let pause = context.options.timings.control_poll / 2;
    tokio::select! {
        () = tokio::time::sleep_until(begun + pause) => {}
        () = shutdown.reached(Step::Drain) => {}
    }
}

/// A job that came when no more were wanted.
async fn give_back(context: &Context, late: Option<Result<Response<AcquireNowReply>, Status>>) {
    if let Some(Ok(reply)) = late
        && let Some(Reply::Job(job)) = reply.into_inner().message
    {
        deliver::release(context, &Lease::of(&job), ReleaseReason::Drain).await;
    }
}

/// Says that we have the job, until that is answered; its lease runs from there.
async fn confirm(context: &Context, mut job: Box<v1::Job>) -> Outcome {
    let timings = &context.options.timings;
    let lease = Lease::of(&job);
    let request = ConfirmJobRequest {
        job_id: lease.job_id,
        lease_id: lease.lease_id,
        trace_context: job.trace_context.clone(),
    };
    let mut backoff = Backoff::new(timings);
    let deadline = Instant::now() + timings.confirm;
    loop {
        let asked = BootTime::now();
        let mut client = context.client.clone();
        let confirming = client.confirm_job(request.clone());
        match in_time(timeout(context.call_timeout(), confirming).await) {
            Ok(reply) => {
                let lease = reply.into_inner().lease;
                job.lease = lease.or(job.lease.take());
                return Outcome::Job(job, asked);
            }
            Err(status) => {
                let over = connect::retry(&status) == Retry::Never || Instant::now() >= deadline;
                if over {
                    // It is offered again, to us or to others.
                    tracing::warn!(error = %status.message(), "a job could not be confirmed");
                    return Outcome::None;
                }
            }
        }
        tokio::time::sleep(backoff.step()).await;
    }
}
