//! Following a job as it happens: its view and its log. The store's events make it
//! quick, a tick makes it sure, and both end when the job has ended and all was sent.

use std::time::Duration;

use proto::ids::JobId;
use proto::{limits, v1};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use super::jobs::visible;
use crate::auth::Client;
use crate::credentials::Live;
use crate::fleet::{Replies, parse};
use crate::refusal::Refusal;
use crate::router::{Follows, Of};
use crate::shared::{Shared, jittered};
use crate::store::Store;

/// Lines in one batch.
const LINES: u32 = 1_000;

/// The tick behind the events.
const TICK: Duration = Duration::from_secs(2);

pub async fn watch<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::GetJobRequest,
) -> Result<Replies<v1::JobView>, Status> {
    let (follower, replies) = follow(shared, client, &request.id, Of::View).await?;
    shared.spawn("watch job", follower.views());
    Ok(replies)
}

pub async fn logs<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::StreamLogsRequest,
) -> Result<Replies<v1::LogBatch>, Status> {
    let until = if request.follow {
        Until::JobEnded
    } else {
        Until::EndOfLog
    };
    let (follower, replies) = follow(shared, client, &request.job_id, Of::Log).await?;
    shared.spawn("stream logs", follower.lines(request.after, until));
    Ok(replies)
}

/// A reader that takes nothing for so long has its stream ended.
const STALLED: Duration = Duration::from_secs(60);

/// How long a reader that is slow may take for the word that its stream ends.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How far a log is sent.
enum Until {
    EndOfLog,
    JobEnded,
}

/// Why a follower stopped waiting.
enum Woken {
    Look,
    Gone,
}

struct Follower<S, T> {
    shared: Shared<S>,
    organization: String,
    job: JobId,
    follows: Follows,
    live: Live,
    _one_of_few: OwnedSemaphorePermit,
    replies: mpsc::Sender<Result<T, Status>>,
}

async fn follow<S: Store, T>(
    shared: &Shared<S>,
    client: &Client,
    id: &str,
    of: Of,
) -> Result<(Follower<S, T>, Replies<T>), Status> {
    let one_of_few = client.live.follow().ok_or_else(|| {
        let most = limits::FOLLOWED_PER_CREDENTIAL;
        let message = format!("{most} streams of this token follow jobs, which is the limit");
        Refusal::capacity("TOO_MANY_FOLLOWED", message)
            .hint("end some of the open streams, or use another token")
    })?;
    // Before the first look, so that nothing falls between the two.
    let follows = shared.followers.follow(parse::job(id)?, of);
    let (job, _) = visible(shared, client, id).await?;
    let (replies, stream) = mpsc::channel(1);
    let follower = Follower {
        shared: shared.clone(),
        organization: client.organization.clone(),
        job,
        follows,
        live: client.live.clone(),
        _one_of_few: one_of_few,
        replies,
    };
    Ok((follower, Replies::new(stream)))
}

impl<S: Store> Follower<S, v1::JobView> {
    async fn views(mut self) {
        let mut last = None;
        loop {
            let view = match self.look().await {
                Ok(view) => view,
                Err(error) => return self.fail(error.into()).await,
            };
            let ended = view.completed_at_ms.is_some();
            if last.as_ref() != Some(&view) {
                let Some(place) = self.place().await else {
                    return;
                };
                place.send(Ok(view.clone()));
                last = Some(view);
            }
            if ended {
                return;
            }
            if let Woken::Gone = self.wait().await {
                return;
            }
        }
    }

    /// The view, with what is foreseen of a job that waits.
    async fn look(&self) -> crate::store::Result<v1::JobView> {
        let (store, organization) = (&self.shared.store, &self.organization);
        let mut view = store.job(organization.clone(), self.job).await?;
        if view.status() == v1::JobStatus::Pending {
            let place = store.place(organization.clone(), self.job).await?;
            let told = self.shared.forecasts.tell(store, &mut view, place.as_ref());
            told.await;
        }
        Ok(view)
    }
}

impl<S: Store> Follower<S, v1::LogBatch> {
    async fn lines(mut self, mut after: u64, until: Until) {
        loop {
            // The place comes first: a reader that is slow keeps no second page waiting.
            let Some(place) = self.place().await else {
                return;
            };
            let organization = self.organization.clone();
            let page = self
                .shared
                .store
                .logs_after(organization, self.job, after, LINES);
            let page = match page.await {
                Ok(page) => page,
                Err(error) => {
                    place.send(Err(error.into()));
                    return;
                }
            };
            if let Some(line) = page.lines.last() {
                after = line.seq;
                place.send(Ok(v1::LogBatch { lines: page.lines }));
                if after < page.end {
                    continue;
                }
            } else {
                drop(place);
            }
            match until {
                Until::EndOfLog => return,
                Until::JobEnded if page.ended => return,
                Until::JobEnded => {}
            }
            if let Woken::Gone = self.wait().await {
                return;
            }
        }
    }
}

impl<S: Store, T: Send + 'static> Follower<S, T> {
    /// Waits for news of the job, or for the tick.
    async fn wait(&mut self) -> Woken {
        // All branches are cancel safe.
        tokio::select! {
            () = self.follows.news() => Woken::Look,
            () = tokio::time::sleep(jittered(TICK)) => Woken::Look,
            () = self.replies.closed() => Woken::Gone,
            status = self.over() => {
                self.fail(status).await;
                Woken::Gone
            }
        }
    }

    /// A place for one reply; none when nobody will read it, or nobody may.
    async fn place(&self) -> Option<mpsc::OwnedPermit<Result<T, Status>>> {
        let replies = self.replies.clone();
        // All branches are cancel safe.
        tokio::select! {
            place = tokio::time::timeout(STALLED, replies.reserve_owned()) => match place {
                Ok(place) => place.ok(),
                // It took nothing for so long: what holds its last page is given up.
                Err(_) => None,
            },
            status = self.over() => {
                self.fail(status).await;
                None
            }
        }
    }

    /// Waits until this stream must end, and with what.
    async fn over(&self) -> Status {
        tokio::select! {
            () = self.shared.stopping.cancelled() => Refusal::restarting().into(),
            () = self.live.over() => Client::deleted().into(),
        }
    }

    /// Says it, if there is room: who reads nothing reads no refusal either.
    async fn fail(&self, status: Status) {
        let said = self.replies.send(Err(status));
        let _unread = tokio::time::timeout(LAST_WORD, said).await;
    }
}
