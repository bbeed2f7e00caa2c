//! Following a job as it happens: its view and its log. The store's events make it
//! quick, a tick makes it sure, and both end when the job has ended and all was sent.

use std::time::Duration;

use proto::ids::JobId;
use proto::v1;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tonic::Status;

use super::jobs::visible;
use crate::auth::Client;
use crate::fleet::Replies;
use crate::refusal::Refusal;
use crate::shared::{Shared, jittered};
use crate::store::{Event, Store};

/// Lines in one batch.
const LINES: u32 = 1_000;

/// The tick behind the events.
const TICK: Duration = Duration::from_secs(2);

pub async fn watch<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::GetJobRequest,
) -> Result<Replies<v1::JobView>, Status> {
    let (follower, replies) = follow(shared, client, &request.id).await?;
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
    let (follower, replies) = follow(shared, client, &request.job_id).await?;
    shared.spawn("stream logs", follower.lines(request.after, until));
    Ok(replies)
}

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
    events: broadcast::Receiver<Event>,
    replies: mpsc::Sender<Result<T, Status>>,
}

async fn follow<S: Store, T>(
    shared: &Shared<S>,
    client: &Client,
    id: &str,
) -> Result<(Follower<S, T>, Replies<T>), Status> {
    // Before the first look, so that nothing falls between the two.
    let events = shared.store.subscribe();
    let (job, _) = visible(shared, client, id).await?;
    let (replies, stream) = mpsc::channel(2);
    let follower = Follower {
        shared: shared.clone(),
        organization: client.organization.clone(),
        job,
        events,
        replies,
    };
    Ok((follower, Replies::new(stream)))
}

impl<S: Store> Follower<S, v1::JobView> {
    async fn views(mut self) {
        let mut last = None;
        loop {
            let view = self.shared.store.job(self.organization.clone(), self.job);
            let view = match view.await {
                Ok(view) => view,
                Err(error) => return self.fail(error.into()).await,
            };
            let ended = view.completed_at_ms.is_some();
            if last.as_ref() != Some(&view) {
                if self.replies.send(Ok(view.clone())).await.is_err() {
                    return;
                }
                last = Some(view);
            }
            if ended {
                return;
            }
            if let Woken::Gone = self.wait(is_view).await {
                return;
            }
        }
    }
}

impl<S: Store> Follower<S, v1::LogBatch> {
    async fn lines(mut self, mut after: u64, until: Until) {
        loop {
            let organization = self.organization.clone();
            let page = self
                .shared
                .store
                .logs_after(organization, self.job, after, LINES);
            let page = match page.await {
                Ok(page) => page,
                Err(error) => return self.fail(error.into()).await,
            };
            if let Some(line) = page.lines.last() {
                after = line.seq;
                let batch = v1::LogBatch { lines: page.lines };
                if self.replies.send(Ok(batch)).await.is_err() {
                    return;
                }
                continue;
            }
            match until {
                Until::EndOfLog => return,
                Until::JobEnded if page.ended => return,
                Until::JobEnded => {}
            }
            if let Woken::Gone = self.wait(is_log).await {
                return;
            }
        }
    }
}

impl<S: Store, T: Send> Follower<S, T> {
    /// Waits for an event of this job that `counts`, or for the tick.
    async fn wait(&mut self, counts: fn(&Event, JobId) -> bool) -> Woken {
        let tick = tokio::time::sleep(jittered(TICK));
        tokio::pin!(tick);
        loop {
            // All branches are cancel safe.
            tokio::select! {
                event = self.events.recv() => match event {
                    Ok(Event::Missed) => return Woken::Look,
                    Ok(event) if counts(&event, self.job) => return Woken::Look,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return Woken::Look,
                    Err(RecvError::Closed) => return Woken::Gone,
                },
                () = &mut tick => return Woken::Look,
                () = self.replies.closed() => return Woken::Gone,
                () = self.shared.stopping.cancelled() => {
                    self.fail(Refusal::restarting().into()).await;
                    return Woken::Gone;
                }
            }
        }
    }

    async fn fail(&self, status: Status) {
        let _gone = self.replies.send(Err(status)).await;
    }
}

fn is_view(event: &Event, job: JobId) -> bool {
    matches!(event, Event::JobChanged(changed) if *changed == job)
}

/// The end of a job ends its log too.
fn is_log(event: &Event, job: JobId) -> bool {
    matches!(event, Event::LogsAppended(of) | Event::JobChanged(of) if *of == job)
}
