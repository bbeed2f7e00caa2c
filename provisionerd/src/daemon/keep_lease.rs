//! A job's lease while something long is done for it and its own loop does not turn: what a
//! lost worker left is read, or a large state is sent.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::v1::{Phase, UpdateJobRequest, UpdateVerdict};

use super::context::{Context, Lease};
use super::deliver::locked_out;
use crate::connect::{self, Retry};

/// Runs `work` and renews the lease as often as an update is due. `counter` is the last
/// update's, before and after.
pub async fn during<T>(
    context: &Context,
    lease: &Lease,
    counter: &mut u64,
    work: impl Future<Output = T>,
) -> T {
    let sent = AtomicU64::new(*counter);
    let done = tokio::select! {
        done = work => done,
        never = beat(context, lease, &sent) => match never {},
    };
    *counter = sent.into_inner();
    done
}

/// One update after the other. A queue that wants no more of them hears no more.
async fn beat(context: &Context, lease: &Lease, counter: &AtomicU64) -> Infallible {
    loop {
        let request = UpdateJobRequest {
            job_id: lease.job_id.clone(),
            lease_id: lease.lease_id.clone(),
            counter: counter.fetch_add(1, Ordering::Relaxed) + 1,
            phase: Phase::Cleanup.into(),
            ..UpdateJobRequest::default()
        };
        let mut client = context.client.clone();
        let update = client.update_job(request);
        // One that is lost is followed by the next one.
        let ours = match tokio::time::timeout(context.call_timeout(), update).await {
            Ok(Ok(reply)) => {
                context.hear(reply.metadata());
                match reply.into_inner().verdict() {
                    UpdateVerdict::Accepted | UpdateVerdict::Unspecified => true,
                    UpdateVerdict::Fenced | UpdateVerdict::UnknownJob => false,
                }
            }
            Ok(Err(status)) => locked_out(&status) || connect::retry(&status) != Retry::Never,
            Err(_) => true,
        };
        if !ours {
            return std::future::pending().await;
        }
        tokio::time::sleep(context.options.timings.update).await;
    }
}
