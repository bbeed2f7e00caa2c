//! Daemons that vanish or come back.

use proto::v1::{self, JobStatus};

use super::world::{Held, ORG, World, complete, contact, named, replica, started};
use crate::store::model::{Abandon, Expired, ReplicaId, Update};
use crate::store::sql::{Database, Tx};
use crate::store::{Error, Store};
use crate::words::{Cancel, ReleaseReason, Transition};

pub(super) fn code(job: &v1::JobView) -> &str {
    job.error.as_ref().map_or("", |error| &error.code)
}

pub(crate) async fn lost_before_the_gate_waits_again_three_times<S: Store>(world: World<S>) {
    world.push("template").await;
    for attempt in 1..=3 {
        let held = world.take("worker").await;
        assert_eq!(held.attempt, attempt);
        world.pass(10).await;
    }
    assert!(world.offered(contact("worker")).await.is_none());
    let jobs = world
        .store
        .list_jobs(super::world::all_jobs())
        .await
        .expect("a list");
    assert_eq!(jobs[0].status(), JobStatus::Failed);
    assert_eq!(code(&jobs[0]), "ATTEMPTS_EXHAUSTED");
}

/// A held job with a checkpoint up to the second of three completed resources, and a
/// fourth that was only started.
pub(super) async fn half_applied<S: Store>(world: &World<S>) -> Held {
    let held = world.behind_the_gate("ws").await;
    let update = Update {
        ledger: vec![
            started(1, "a.one"),
            complete(2, "a.one"),
            started(3, "a.two"),
            complete(4, "a.two"),
            started(5, "a.three"),
        ],
        checkpoint: Some(world.state(7, 2).await),
        ..held.update(2)
    };
    world.tell(update).await;
    held
}

pub(crate) async fn lost_after_the_gate_is_failed_with_the_newest_checkpoint<S: Store>(
    world: World<S>,
) {
    let held = half_applied(&world).await;
    world.pass(599).await;
    let job = world.job(held.id).await;
    assert_eq!(job.status(), JobStatus::Running);
    assert!(job.unreachable_since_ms.is_some());
    world.pass(1).await;
    let job = world.job(held.id).await;
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(code(&job), "WORKER_LOST");
    let names: Vec<_> = job
        .unconfirmed
        .iter()
        .map(|it| it.address.as_str())
        .collect();
    assert_eq!(names, ["a.three", "a.two"]);
    assert!(job.error.expect("an error").message.contains("a.three"));
    let states = world.store.states(named("ws")).await.expect("states");
    assert_eq!(states.len(), 1);
    assert_eq!(
        (states[0].source.as_str(), states[0].serial),
        ("recovered", 7)
    );
    assert!(states[0].current);
    assert_eq!(world.workspace("ws").await.unconfirmed.len(), 2);
}

pub(crate) async fn nothing_is_lost_while_updates_come<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    for counter in 1..=10 {
        world.pass(9).await;
        world.tell(held.update(counter)).await;
    }
    assert_eq!(world.status(held.id).await, JobStatus::Running);
}

pub(crate) async fn nothing_is_lost_before_the_store_has_settled<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    world.clock.advance(std::time::Duration::from_secs(60));
    world.pass(19).await;
    assert_eq!(world.status(held.id).await, JobStatus::Running);
    world.tell(held.update(1)).await;
    world.pass(5).await;
    assert_eq!(
        world.status(held.id).await,
        JobStatus::Running,
        "it came in time"
    );
}

pub(crate) async fn a_lost_control_stream_ends_only_jobs_before_the_gate<S: Store>(
    world: World<S>,
) {
    let behind = world.behind_the_gate("ws").await;
    world.push("other").await;
    let before = world.take("worker").await;
    world
        .store
        .control_lost(before.daemon.clone(), replica())
        .await
        .expect("noted");
    world.pass(3).await;
    assert_eq!(world.status(before.id).await, JobStatus::Pending);
    assert_eq!(world.status(behind.id).await, JobStatus::Running);
}

pub(crate) async fn contact_ends_the_control_grace<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    world
        .store
        .control_lost(held.daemon.clone(), replica())
        .await
        .expect("noted");
    world.pass(2).await;
    world.tell(held.update(1)).await;
    world.pass(4).await;
    assert_eq!(world.status(held.id).await, JobStatus::Running);
}

pub(crate) async fn a_replica_that_goes_leaves_its_daemons_time_to_come_back<S: Store>(
    world: World<S>,
) {
    world.push("template").await;
    let (stays, gone) = (replica(), replica());
    let attend = async |replica: &ReplicaId| {
        let attended = world.store.attend(replica.clone()).await;
        attended.expect("attended");
    };
    attend(&gone).await;
    let held = world.take("worker").await;
    // Its lease ends after 10 s, and the other replica judges.
    for _ in 0..5 {
        attend(&stays).await;
        world.pass(4).await;
        assert_eq!(world.status(held.id).await, JobStatus::Running);
    }
    // It has found its way.
    world.tell(held.update(1)).await;
    for _ in 0..2 {
        attend(&stays).await;
        world.pass(4).await;
        assert_eq!(world.status(held.id).await, JobStatus::Running);
    }
    // Once: what is not heard of behind that is lost as ever.
    attend(&stays).await;
    world.pass(4).await;
    assert_eq!(world.status(held.id).await, JobStatus::Pending);
}

pub(crate) async fn a_daemon_that_does_not_come_back_is_waited_for_once<S: Store>(world: World<S>) {
    world.push("template").await;
    world.store.attend(replica()).await.expect("attended");
    let held = world.take("worker").await;
    world.pass(26).await;
    assert_eq!(world.status(held.id).await, JobStatus::Running);
    world.pass(4).await;
    assert_eq!(world.status(held.id).await, JobStatus::Pending);
    // Behind the gate nothing is added to a lease that is long.
    let held = world.take("worker").await;
    world.open_gate(&held, 1).await;
    for _ in 0..59 {
        world.pass(10).await;
    }
    world.store.attend(replica()).await.expect("attended");
    world.pass(9).await;
    assert_eq!(world.status(held.id).await, JobStatus::Running);
    world.pass(1).await;
    assert_eq!(world.status(held.id).await, JobStatus::Failed);
}

pub(crate) async fn a_new_instance_does_not_end_the_grace_of_the_old<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    let lost = world
        .store
        .control_lost(held.daemon.clone(), replica())
        .await;
    lost.expect("noted");
    let mut other = contact("worker");
    other.daemon.instance = "another".to_owned();
    assert!(world.offered(other.clone()).await.is_none());
    world.pass(2).await;
    assert_eq!(world.status(held.id).await, JobStatus::Running);
    world.pass(1).await;
    let again = world.offered(other).await.expect("given back");
    assert_eq!((again.id, again.attempt), (held.id, 2));
}

pub(crate) async fn an_abandoned_job_blocks_starts_until_its_lease_is_over<S: Store>(
    world: World<S>,
) {
    let held = half_applied(&world).await;
    let abandon = |how| world.store.abandon(ORG.to_owned(), held.id, how);
    let job = abandon(Abandon::Careful).await.expect("abandoned");
    assert_eq!(
        (job.status(), code(&job)),
        (JobStatus::Failed, "WORKER_LOST")
    );
    assert_eq!(world.serial("ws").await, Some(7));
    let refused = world.build("ws", Transition::Start).await;
    assert!(matches!(
        refused,
        Err(Error::OldEngineMayRun {
            remaining_s: 600,
            ..
        })
    ));
    abandon(Abandon::Force).await.expect("lifted");
    world.build("ws", Transition::Start).await.expect("a build");
    let twice = world
        .store
        .abandon(ORG.to_owned(), held.id, Abandon::Careful)
        .await;
    assert!(matches!(twice, Err(Error::WrongStatus { .. })));
}

pub(crate) async fn releases_for_drain_do_not_count<S: Store>(world: World<S>) {
    let (_, submitted) = world.push("template").await;
    for _ in 0..19 {
        let held = world.take("worker").await;
        world.done(&held.release(ReleaseReason::Drain)).await;
        assert_eq!(world.status(submitted.id).await, JobStatus::Pending);
    }
    let held = world.take("worker").await;
    world.done(&held.release(ReleaseReason::NeverStarted)).await;
    let job = world.job(submitted.id).await;
    assert_eq!(code(&job), "ATTEMPTS_EXHAUSTED");
    let ended = world
        .store
        .cancel(ORG.to_owned(), held.id, Cancel::Cancel)
        .await;
    assert!(matches!(ended, Err(Error::WrongStatus { .. })));
}

/// One that does one command at a time: whatever holds it up, the look at the clock may
/// get its turn before the updates that came meanwhile.
pub(crate) async fn nothing_is_lost_by_a_look_that_had_to_wait<D: Database>(world: World<D>) {
    world.pass(20).await;
    world.push("template").await;
    let held = world.take("worker").await;
    let (held_up, is_held_up) = tokio::sync::oneshot::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let mut begun = Some((held_up, wait));
    let store = world.store.clone();
    let stalled = tokio::spawn(async move {
        let command = move |_: &mut Tx<'_>| {
            if let Some((held_up, wait)) = begun.take() {
                let _nobody_waits = held_up.send(());
                let _gone = wait.recv();
            }
            Ok(())
        };
        store.write(command).await
    });
    is_held_up.await.expect("it runs");
    let store = world.store.clone();
    let expire = tokio::spawn(async move { store.expire().await });
    tokio::task::yield_now().await;
    world.clock.advance(std::time::Duration::from_secs(12));
    let store = world.store.clone();
    let news = held.update(1);
    let update = tokio::spawn(async move { store.update(news).await });
    tokio::task::yield_now().await;
    drop(go);
    stalled.await.expect("no panic").expect("ran");
    let expired = expire.await.expect("no panic").expect("a look");
    assert_eq!(expired, Expired::default());
    let reply = update.await.expect("no panic").expect("a reply");
    assert_eq!(reply.verdict(), v1::UpdateVerdict::Accepted);
}
