//! The queue's own work: it takes no input, can be repeated harmlessly, and wakes by
//! signal *and* by timer.

use std::time::{Duration, Instant};

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::MissedTickBehavior;

use crate::shared::{Shared, jittered};
use crate::store::{Event, Store};
use crate::waiters::Ready;

/// The store wants to be asked every second; a break of a quarter of the settle time
/// puts leases on hold.
const EXPIRE: Duration = Duration::from_secs(1);

/// Nothing waits for a sweep; an hour keeps each one small.
const SWEEP: Duration = Duration::from_hours(1);

/// A blob is named within the same call of a client, or the same try of a daemon, that
/// put it. A day is far beyond any of those, and time to look at what went wrong.
const STALE: Duration = Duration::from_hours(24);

/// Starts all of it. `events` was subscribed before anything could happen.
pub fn start<S: Store>(shared: &Shared<S>, events: broadcast::Receiver<Event>) {
    shared.spawn_vital("wake waiters", wake(shared.clone(), events));
    shared.spawn_vital("expire leases", expire(shared.clone()));
    shared.spawn("sweep blobs", sweep(shared.clone()));
}

/// Carries the store's events to the waiters.
async fn wake<S: Store>(shared: Shared<S>, mut events: broadcast::Receiver<Event>) {
    loop {
        // Both branches are cancel safe.
        let event = tokio::select! {
            event = events.recv() => event,
            () = shared.stopping.cancelled() => return,
        };
        match event {
            Ok(Event::JobReady {
                job,
                organization,
                tags,
                kind,
            }) => shared.waiters.ready(&Ready {
                job,
                organization,
                tags,
                kind,
            }),
            Ok(Event::DrainRequested {
                organization,
                daemon,
            }) => shared.waiters.wake_daemon(&organization, &daemon),
            Ok(Event::KeyRevoked { organization, .. }) => {
                shared.waiters.wake_organization(&organization);
            }
            Ok(Event::JobChanged(_) | Event::LogsAppended(_) | Event::CancelRequested { .. }) => {}
            Ok(Event::Missed) | Err(RecvError::Lagged(_)) => shared.waiters.wake_all(),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Withdraws stale offers and gives verdicts on lost jobs.
async fn expire<S: Store>(shared: Shared<S>) {
    let timings = &shared.timings;
    let period = EXPIRE
        .min(timings.confirm / 4)
        .min(timings.store_settle / 8);
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.stopping.cancelled() => return,
        }
        shared.pulse.beat(Instant::now());
        match shared.store.expire().await {
            Ok(expired) => {
                shared.counters.expired(
                    expired.withdrawn.len(),
                    expired.requeued.len(),
                    expired.ended.len(),
                );
                for job in &expired.requeued {
                    tracing::warn!(job.id = %job, "a job was lost before its gate and waits again");
                }
                for job in &expired.ended {
                    tracing::error!(job.id = %job, "a job was lost and got its verdict");
                }
            }
            Err(error) => {
                tracing::error!(error = %crate::refusal::chain(&error), "leases cannot expire");
            }
        }
    }
}

/// Takes away blobs that nothing names.
async fn sweep<S: Store>(shared: Shared<S>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(jittered(SWEEP)) => {}
            () = shared.stopping.cancelled() => return,
        }
        // A sweep that breaks off has done nothing by halves.
        let swept = tokio::select! {
            swept = shared.blobs.sweep(STALE) => swept,
            () = shared.stopping.cancelled() => return,
        };
        match swept {
            Ok(swept) => tracing::info!(
                blobs.rows = swept.rows,
                blobs.files = swept.files,
                "blobs that nothing named were swept"
            ),
            Err(error) => {
                tracing::error!(error = %crate::refusal::chain(&error), "blobs cannot be swept");
            }
        }
    }
}
