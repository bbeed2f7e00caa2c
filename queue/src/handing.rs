//! Hand-outs of this process, a transaction at a time: daemons that ask meanwhile are
//! served together by the next one. Looking at the lanes costs as much for one daemon as
//! for many, and who finds nobody in front waits for nobody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::ids::{JobId, LeaseId};
use proto::v1::Job;
use tokio::sync::oneshot;

use crate::auth::key_deleted;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::model::{Acquire, Acquired, HandedOut};
use crate::store::{self, Store};

/// Daemons that are served together at most: what they are given lies in memory, and those
/// behind them wait for it.
const TOGETHER: usize = 32;

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct HandOuts(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Asking>,
    /// Somebody serves them.
    served: bool,
}

#[derive(Debug)]
struct Asking {
    acquire: Acquire,
    tell: oneshot::Sender<Result<Acquired, Refusal>>,
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
        let (told, serving) = self.join(acquire);
        if let Some(serving) = serving {
            shared.spawn("hand out", serving.all(shared.store.clone()));
        }
        // Dropped only by a task that has panicked.
        told.await.unwrap_or_else(|_| {
            let message = "the hand-out broke off";
            Err(Refusal::internal("HAND_OUT", message.to_owned()))
        })
    }

    /// Joins the line; who finds nobody serving has to.
    fn join(&self, acquire: Acquire) -> (Told, Option<Serving>) {
        let (tell, told) = oneshot::channel();
        let mut line = self.lock();
        line.waiting.push_back(Asking { acquire, tell });
        let served = std::mem::replace(&mut line.served, true);
        (told, (!served).then(|| Serving(self.clone())))
    }

    /// Those who are served next; nobody serves any more when nobody is left.
    fn next(&self) -> Option<Vec<Asking>> {
        let mut line = self.lock();
        let count = line.waiting.len().min(TOGETHER);
        line.served = count > 0;
        (count > 0).then(|| line.waiting.drain(..count).collect())
    }

    fn again(&self, asking: Vec<Asking>) {
        let mut line = self.lock();
        for one in asking.into_iter().rev() {
            line.waiting.push_front(one);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        // Every change is complete before the guard goes, also in a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who serves the line. When it panics, those in line are told, and the next one who asks
/// begins anew.
struct Serving(HandOuts);

impl Serving {
    /// Serves until nobody is left.
    async fn all(self, from: impl Gives) {
        while let Some(asking) = self.0.next() {
            self.some(&from, asking).await;
        }
    }

    async fn some(&self, from: &impl Gives, asking: Vec<Asking>) {
        let asks = asking.iter().map(|one| one.acquire.clone()).collect();
        let answers = match from.give(asks).await {
            Ok(answers) => answers,
            Err(error) => {
                let refusal = Refusal::from(error);
                for one in asking {
                    let _gone = one.tell.send(Err(refusal.clone()));
                }
                return;
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
        self.0.again(left);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut line = self.0.lock();
            line.waiting.clear();
            line.served = false;
        }
    }
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
