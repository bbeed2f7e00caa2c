//! The queue's own work: it takes no input, can be repeated harmlessly, and wakes by
//! signal *and* by timer.

use std::time::Duration;

use proto::timings::Timings;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, MissedTickBehavior};

use crate::audit;
use crate::credentials::LOOK;
use crate::fleet::Ticket;
use crate::refusal::Refusal;
use crate::router;
use crate::shared::{Shared, jittered};
use crate::store::model::DaemonRef;
use crate::store::{Event, Store};
use crate::waiters::Ready;

/// Nothing waits for a sweep; an hour keeps each one small.
const SWEEP: Duration = Duration::from_hours(1);

/// Nothing waits for old rows to go; an hour keeps each pass small.
const PRUNE: Duration = Duration::from_hours(1);

/// A blob is named within the same call of a client, or the same try of a daemon, that
/// put it. A day is far beyond any of those, and time to look at what went wrong.
const STALE: Duration = Duration::from_hours(24);

/// Between two looks at all lanes: a hint that was lost delays a job so long at most.
const LANES: Duration = Duration::from_secs(10);

/// Between two rounds of `alive`; shorter than what is between two of one stream with
/// jobs, so that the streams share the rounds.
const ALIVE: Duration = Duration::from_secs(1);

/// Attendances between two looks for daemons that are noted as held and are not.
const STRAYS: u32 = 12;

/// Starts all of it. `events` was subscribed before anything could happen.
pub fn start<S: Store>(shared: &Shared<S>, events: broadcast::Receiver<Event>) {
    shared.spawn_vital("route events", router::run(shared.clone(), events));
    shared.spawn_vital("look at lanes", lanes(shared.clone()));
    shared.spawn_vital("attend", attend(shared.clone()));
    shared.spawn_vital("say alive", say_alive(shared.clone()));
    shared.spawn_vital("look at credentials", credentials(shared.clone()));
    shared.spawn_vital("expire leases", expire(shared.clone()));
    shared.spawn("sweep blobs", sweep(shared.clone()));
    shared.spawn("prune", prune(shared.clone()));
    shared.spawn("note refusals", refusals(shared.clone()));
}

/// Looks at pending jobs, and wakes one waiter for each lane: what no event told of.
async fn lanes<S: Store>(shared: Shared<S>) {
    let every = LANES.min(shared.timings.acquire_min / 3);
    loop {
        let asked = shared.lanes.ask();
        match shared.store.lanes().await {
            Ok(lanes) => {
                let lanes: Vec<_> = lanes.into_iter().map(Ready::from).collect();
                shared.lanes.learn(asked, lanes.iter().cloned());
                lanes.iter().for_each(|lane| shared.waiters.ready(lane));
            }
            Err(error) => warn("pending jobs cannot be looked at", &error),
        }
        if !next(&shared, jittered(every), &shared.looks.lanes).await {
            return;
        }
    }
}

/// Notes that this replica lives, with all daemons it holds, and tells those what they
/// missed.
async fn attend<S: Store>(shared: Shared<S>) {
    let every = presence(&shared.timings);
    for round in 1_u32.. {
        match shared.store.attend(shared.replica.clone()).await {
            Ok(found) => {
                let (lost, draining) = shared.controls.attend(&found);
                for daemon in draining {
                    let (organization, name) = (&daemon.organization, &daemon.name);
                    shared.waiters.wake_daemon(organization, name);
                }
                for ticket in lost {
                    hold_again(&shared, &ticket).await;
                }
                if round % STRAYS == 0 {
                    release_strays(&shared).await;
                }
            }
            Err(error) => warn("the replica's presence cannot be noted", &error),
        }
        if !next(&shared, jittered(every), &shared.looks.presence).await {
            return;
        }
    }
}

/// Between two notes that this replica lives. Three of them fit into the time after which
/// a replica is given up.
fn presence(timings: &Timings) -> Duration {
    timings.control_alive.min(timings.unreachable / 3)
}

/// A daemon whose newest stream was lost elsewhere still has one here.
async fn hold_again<S: Store>(shared: &Shared<S>, ticket: &Ticket) {
    let Some(contact) = shared.controls.contact(ticket) else {
        return;
    };
    let held = shared.store.open_control(contact, shared.replica.clone());
    match held.await {
        Ok(opened) => shared.controls.settle(ticket, &opened),
        Err(error) => warn("a control stream cannot be noted again", &error),
    }
}

/// Daemons that are noted as held here and have no stream: the loss of it could not be
/// noted.
async fn release_strays<S: Store>(shared: &Shared<S>) {
    let held = match shared.store.held(shared.replica.clone()).await {
        Ok(held) => shared.controls.without_stream(held),
        Err(error) => return warn("held daemons cannot be looked at", &error),
    };
    for (daemon, instance) in held {
        let stray = DaemonRef {
            organization: daemon.organization,
            key: String::new(),
            name: daemon.name,
            instance,
        };
        let lost = shared.store.control_lost(stray, shared.replica.clone());
        if let Err(error) = lost.await {
            return warn("the loss of a control stream cannot be noted", &error);
        }
    }
}

/// Says `alive` on control streams.
async fn say_alive<S: Store>(shared: Shared<S>) {
    let timings = &shared.timings;
    let mut tick = tokio::time::interval(ALIVE.min(timings.control_alive));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.stopping.cancelled() => break,
        }
        shared.controls.say_alive(Instant::now(), timings);
    }
    shared.controls.end_all(&Refusal::restarting().into());
}

/// Looks whether the credentials in use still exist.
async fn credentials<S: Store>(shared: Shared<S>) {
    loop {
        if !shared.credentials.is_empty() {
            let then = Instant::now();
            match shared.store.credentials().await {
                Ok(all) => {
                    let deleted = shared.credentials.keep(&all.into_iter().collect(), then);
                    if deleted {
                        shared.controls.end_revoked();
                    }
                }
                Err(error) => warn("credentials cannot be looked at", &error),
            }
        }
        if !next(&shared, LOOK, &shared.looks.credentials).await {
            return;
        }
    }
}

/// Waits for the next look: `false` when the queue stops.
async fn next<S: Store>(shared: &Shared<S>, wait: Duration, now: &Notify) -> bool {
    // All branches are cancel safe.
    tokio::select! {
        () = tokio::time::sleep(wait) => true,
        () = now.notified() => true,
        () = shared.stopping.cancelled() => false,
    }
}

fn warn(what: &'static str, error: &crate::store::Error) {
    tracing::warn!(error = %crate::refusal::chain(error), "{what}");
}

/// Withdraws stale offers and gives verdicts on lost jobs.
async fn expire<S: Store>(shared: Shared<S>) {
    let timings = &shared.timings;
    let period = timings
        .expire
        .min(timings.confirm / 4)
        .min(timings.store_settle / 8);
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.stopping.cancelled() => return,
        }
        shared.pulse.beat(std::time::Instant::now());
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

/// Writes who was refused what, once more as the queue stops.
async fn refusals<S: Store>(shared: Shared<S>) {
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(audit::EVERY) => false,
            () = shared.stopping.cancelled() => true,
        };
        if let Err(error) = shared.write_refusals().await {
            warn("refused calls cannot be noted", &error);
        }
        if stopping {
            return;
        }
    }
}

/// Takes away what is older than was asked to keep.
async fn prune<S: Store>(shared: Shared<S>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(jittered(PRUNE)) => {}
            () = shared.stopping.cancelled() => return,
        }
        // A pass may break off anywhere.
        let pruned = tokio::select! {
            pruned = shared.store.prune(shared.retention, shared.replica.clone()) => pruned,
            () = shared.stopping.cancelled() => return,
        };
        match pruned {
            Ok(pruned) => {
                shared.counters.pruned(&pruned);
                tracing::info!(
                    pruned.jobs = pruned.jobs,
                    pruned.logs = pruned.logs,
                    pruned.states = pruned.states,
                    pruned.workspaces = pruned.workspaces,
                    pruned.daemons = pruned.daemons,
                    pruned.tagsets = pruned.tagsets,
                    pruned.audit = pruned.audit,
                    "what is older than was asked to keep went"
                );
            }
            Err(error) => {
                tracing::error!(error = %crate::refusal::chain(&error), "old rows cannot be pruned");
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
                blobs.partial = swept.partial,
                "blobs that nothing named were swept"
            ),
            Err(error) => {
                tracing::error!(error = %crate::refusal::chain(&error), "blobs cannot be swept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease;

    #[test]
    fn a_replica_that_lives_is_never_taken_for_gone() {
        let timings = Timings::default();
        // A look is up to a fifth late, and a database that is slow a second more.
        let latest = presence(&timings).mul_f64(1.2) + Duration::from_secs(1);
        assert!(latest < lease::silent(&timings), "{latest:?}");
    }
}
