//! Hand-outs of this process, a transaction at a time: daemons that ask meanwhile are
//! served together by the next one. Looking at the lanes costs as much for one daemon as
//! for many, and who finds nobody in front waits for nobody. A transaction that is held up
//! holds up those in it, and others no longer than [`PATIENCE`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::{JobId, LeaseId};
use proto::v1::Job;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::auth::key_deleted;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::model::{Acquire, Acquired, HandedOut};
use crate::store::{self, Store};

/// Daemons that are served together at most: what they are given lies in memory, and those
/// behind them wait for it.
const TOGETHER: usize = 32;

/// Who has stood in line for so long, and nobody was served meanwhile, does not wait for
/// whoever is being served.
const PATIENCE: Duration = Duration::from_millis(500);

/// Transactions at a time, when those before are held up.
const AT_ONCE: usize = 4;

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct HandOuts(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Asking>,
    /// How many serve them.
    serving: usize,
    /// When somebody was served last.
    served: Option<Instant>,
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
        let (mut told, mut serving) = self.join(acquire);
        let answer = loop {
            if let Some(serving) = serving {
                shared.spawn("hand out", serving.all(shared.store.clone()));
            }
            match tokio::time::timeout(PATIENCE, &mut told).await {
                Ok(answer) => break answer,
                Err(_) => serving = self.overdue(),
            }
        };
        // Dropped only by a task that has panicked.
        answer.unwrap_or_else(|_| {
            let message = "the hand-out broke off";
            Err(Refusal::internal("HAND_OUT", message.to_owned()))
        })
    }

    /// Joins the line; who finds nobody serving has to.
    fn join(&self, acquire: Acquire) -> (Told, Option<Serving>) {
        let (tell, told) = oneshot::channel();
        let mut line = self.lock();
        line.waiting.push_back(Asking { acquire, tell });
        let first = line.serving == 0;
        (told, first.then(|| self.begin(&mut line)))
    }

    /// One more has to serve: those in line wait too long.
    fn overdue(&self) -> Option<Serving> {
        let mut line = self.lock();
        let moves = line.served.is_some_and(|at| at.elapsed() < PATIENCE);
        let needed = !moves && !line.waiting.is_empty() && line.serving < AT_ONCE;
        needed.then(|| self.begin(&mut line))
    }

    fn begin(&self, line: &mut Line) -> Serving {
        line.serving += 1;
        line.served = Some(Instant::now());
        Serving {
            line: self.clone(),
            ended: false,
        }
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

/// Who serves the line. When it panics, those whom it was serving are told, and others are
/// served by the next one who begins.
struct Serving {
    line: HandOuts,
    ended: bool,
}

impl Serving {
    /// Serves until nobody is left.
    async fn all(mut self, from: impl Gives) {
        while let Some(asking) = self.next() {
            for left in self.some(&from, asking).await {
                // What failed may be the matter with one of them, or with a job of its
                // organization: that is nobody else's.
                self.some(&from, vec![left]).await;
            }
        }
    }

    /// Those who are served next. When nobody is left this one has ended: who comes then
    /// finds it gone.
    fn next(&mut self) -> Option<Vec<Asking>> {
        let mut line = self.line.lock();
        let count = line.waiting.len().min(TOGETHER);
        if count == 0 {
            line.serving -= 1;
            self.ended = true;
            return None;
        }
        line.served = Some(Instant::now());
        Some(line.waiting.drain(..count).collect())
    }

    /// Serves these together; those who have to be served one by one.
    async fn some(&self, from: &impl Gives, asking: Vec<Asking>) -> Vec<Asking> {
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
        self.line.again(left);
        Vec::new()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.ended {
            self.line.lock().serving -= 1;
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
