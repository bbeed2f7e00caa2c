//! The second half of an acquire stream: a job is offered, and confirmed or taken back.

use proto::ids::{JobId, LeaseId};
use proto::v1;
use proto::v1::acquire_reply::Message as Reply;
use proto::v1::acquire_request::Message as Ask;
use tokio::time::Instant;

use super::{Exchange, parse};
use crate::refusal::Refusal;
use crate::store::Store;
use crate::store::model::DaemonRef;
use crate::trace;

/// Whether the daemon took the job.
enum Confirmed {
    Yes {
        /// Whether the job begins for the first time.
        first: bool,
    },
    /// The stream is gone.
    No,
    /// The daemon has the job and did not say so: its expiry gives it back, and counts.
    Late,
}

impl<S: Store> Exchange<S> {
    pub(super) async fn offer(&mut self, mut job: Box<v1::Job>, daemon: DaemonRef) {
        let ids = (job.id.parse(), job.lease.as_ref().map(|l| l.id.clone()));
        let (Ok(id), Some(Ok(lease))) = (ids.0, ids.1.map(|id| parse::lease(&id))) else {
            tracing::error!(job.id = %job.id, "the store handed out a job without lease");
            return;
        };
        if let Some(metadata) = &mut job.metadata {
            metadata.access_url.clone_from(&self.shared.access_url);
        }
        let context = job.trace_context.clone();
        self.line.reply(Reply::Job(job)).await;
        match self.confirmation(id, lease, daemon).await {
            Confirmed::Yes { first: true } => {
                self.shared.counters.started(id);
                trace::waited(&context, id);
            }
            Confirmed::Yes { first: false } | Confirmed::Late => {}
            Confirmed::No => self.withdraw(id, lease).await,
        }
    }

    /// Waits for `confirm`. A `cancel` that crossed with the job changes nothing: the
    /// daemon runs the job or releases it.
    async fn confirmation(&mut self, id: JobId, lease: LeaseId, daemon: DaemonRef) -> Confirmed {
        let deadline = Instant::now() + self.shared.timings.confirm;
        loop {
            let message = tokio::select! {
                biased;
                message = self.line.requests.message() => message,
                () = self.line.replies.closed() => return Confirmed::No,
                () = tokio::time::sleep_until(deadline) => return self.too_late().await,
            };
            match message.map(|request| request.and_then(|request| request.message)) {
                Ok(Some(Ask::Confirm(confirm)))
                    if confirm.job_id == id.to_string() && confirm.lease_id == lease.as_bytes() =>
                {
                    return self.confirm(id, lease, daemon).await;
                }
                Ok(Some(Ask::Cancel(_))) => {}
                Ok(Some(Ask::Confirm(_) | Ask::Acquire(_))) => {
                    let message = "after a job only its confirm may follow";
                    let refusal = Refusal::invalid("INVALID_REQUEST", message);
                    self.line.refuse(refusal).await;
                    return Confirmed::Late;
                }
                Ok(None) | Err(_) => return Confirmed::No,
            }
        }
    }

    async fn confirm(&mut self, id: JobId, lease: LeaseId, daemon: DaemonRef) -> Confirmed {
        match self.shared.store.confirm(daemon, id, lease).await {
            Ok(begun) => {
                let confirmed = v1::Confirmed {
                    lease: Some(begun.lease),
                };
                self.line.reply(Reply::Confirmed(confirmed)).await;
                Confirmed::Yes { first: begun.first }
            }
            Err(error) => {
                let _gone = self.line.replies.send(Err(error.into())).await;
                Confirmed::No
            }
        }
    }

    async fn too_late(&self) -> Confirmed {
        let message = "the job was not confirmed in time and went back";
        let refusal = Refusal::invalid("CONFIRM_TOO_LATE", message);
        self.line.refuse(refusal).await;
        Confirmed::Late
    }

    async fn withdraw(&self, id: JobId, lease: LeaseId) {
        if let Err(error) = self.shared.store.withdraw(id, lease).await {
            // Its expiry gives it back as well, later.
            tracing::warn!(job.id = %id, error = %error, "an offer could not be withdrawn");
        }
    }
}
