//! Hand-outs of this process, a transaction at a time: daemons that ask meanwhile are
//! served together by the next one ([`crate::line`]). Looking at the lanes costs as much for
//! one daemon as for many.

use proto::ids::{JobId, LeaseId};
use proto::v1::Job;
use tokio::sync::oneshot;

use crate::auth::key_deleted;
use crate::line::{Line, Serving};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::model::{Acquire, Acquired, HandedOut};
use crate::store::{self, Store};

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct HandOuts(Line<Asking>);

#[derive(Debug)]
struct Asking {
    acquire: Acquire,
    tell: oneshot::Sender<Result<Acquired, Refusal>>,
}

impl Asking {
    fn new(acquire: Acquire) -> (Self, Told) {
        let (tell, told) = oneshot::channel();
        (Self { acquire, tell }, told)
    }
}

/// What gives jobs: the store.
trait Gives: Send + Sync + 'static {
    fn give(&self, asks: Vec<Acquire>) -> impl Future<Output = store::Result<HandedOut>> + Send;
    fn take_back(
        &self,
        job: JobId,
        lease: LeaseId,
    ) -> impl Future<Output = store::Result<()>> + Send;
}

impl<S: Store> Gives for S {
    async fn give(&self, asks: Vec<Acquire>) -> store::Result<HandedOut> {
        self.acquire_all(asks).await
    }

    async fn take_back(&self, job: JobId, lease: LeaseId) -> store::Result<()> {
        self.withdraw(job, lease).await
    }
}

type Told = oneshot::Receiver<Result<Acquired, Refusal>>;

impl HandOuts {
    /// The best job for this daemon, as [`Store::acquire`] tells. Cancel safe: what is
    /// handed out to nobody goes back at once.
    ///
    /// # Errors
    /// The daemon is refused, or the store failed.
    pub async fn acquire<S: Store>(
        &self,
        shared: &Shared<S>,
        acquire: Acquire,
    ) -> Result<Acquired, Refusal> {
        let (asking, told) = Asking::new(acquire);
        let serve = |serving| shared.spawn("hand out", all(serving, shared.store.clone()));
        // Dropped only by a task that has panicked.
        self.0.stand(asking, told, serve).await.unwrap_or_else(|_| {
            let message = "the hand-out broke off";
            Err(Refusal::internal("HAND_OUT", message.to_owned()))
        })
    }
}

/// Serves until nobody is left.
async fn all(mut serving: Serving<Asking>, from: impl Gives) {
    serving.gather().await;
    while let Some(asking) = serving.next() {
        for left in some(&serving, &from, asking).await {
            // What failed may be the matter with one of them, or with a job of its
            // organization: that is nobody else's.
            some(&serving, &from, vec![left]).await;
        }
    }
}

/// Serves these together; those who have to be served one by one.
async fn some(serving: &Serving<Asking>, from: &impl Gives, asking: Vec<Asking>) -> Vec<Asking> {
    let asks = asking.iter().map(|one| one.acquire.clone()).collect();
    let answers = match from.give(asks).await {
        Ok(answers) => answers,
        Err(store::Error::Backend { .. }) if asking.len() > 1 => return asking,
        Err(error) => {
            let refusal = Refusal::from(error);
            for one in asking {
                let _gone = one.tell.send(Err(refusal.clone()));
            }
            return Vec::new();
        }
    };
    let mut left = Vec::new();
    for (one, answer) in asking.into_iter().zip(answers) {
        let Some(answer) = answer else {
            left.push(one);
            continue;
        };
        if let Err(Ok(Acquired::Job(job))) = one.tell.send(answer.map_err(key_deleted)) {
            give_back(from, &job).await;
        }
    }
    serving.again(left);
    Vec::new()
}

/// Nobody waits for it any more.
async fn give_back(to: &impl Gives, job: &Job) {
    let lease = job.lease.as_ref().map(|lease| lease.id.as_slice());
    let lease = lease.and_then(|id| LeaseId::try_from(id).ok());
    if let (Ok(id), Some(lease)) = (job.id.parse(), lease)
        && let Err(error) = to.take_back(id, lease).await
    {
        tracing::warn!(job.id = job.id, error = %error, "an offer goes back when its time is over");
    }
}

#[cfg(test)]
mod tests;
