//! Daemons that come back too late: with a finish, or with a state.

use proto::ids::{JobId, LeaseId};
use proto::v1::{self, JobStatus};

use super::losses::{code, half_applied};
use super::world::{Held, World, named};
use crate::store::model::{Disposition, Finish, Update};
use crate::store::{Error, Store};
use crate::words::{Outcome, Transition};

pub(crate) async fn a_late_finish_cannot_revive_a_failed_job<S: Store>(world: World<S>) {
    let held = half_applied(&world).await;
    world.pass(600).await;
    let finish = held.finish(Outcome::Succeeded);
    assert_eq!(world.done(&finish).await, Disposition::Late);
    assert_eq!(world.done(&finish).await, Disposition::Late);
    let job = world.job(held.id).await;
    assert_eq!(
        (job.status(), code(&job)),
        (JobStatus::Failed, "WORKER_LOST")
    );
}

async fn late_with_state<S: Store>(world: &World<S>, held: &Held, serial: u64) -> Disposition {
    let finish = Finish {
        state: Some(world.state(serial, 6).await),
        ..held.finish(Outcome::Succeeded)
    };
    world.done(&finish).await
}

pub(crate) async fn a_late_state_follows_its_own_recovery<S: Store>(world: World<S>) {
    let held = half_applied(&world).await;
    world.pass(600).await;
    assert_eq!(world.serial("ws").await, Some(7));
    assert_eq!(late_with_state(&world, &held, 9).await, Disposition::Late);
    assert_eq!(world.serial("ws").await, Some(9));
    let workspace = world.workspace("ws").await;
    assert!(!workspace.state_conflict);
    assert_eq!(workspace.unconfirmed, [], "the finish knew better");
    world.build("ws", Transition::Start).await.expect("a build");
}

pub(crate) async fn a_build_that_changed_no_state_does_not_keep_a_late_one_waiting<S: Store>(
    world: World<S>,
) {
    let held = half_applied(&world).await;
    world.pass(600).await;
    world.build("ws", Transition::Start).await.expect("a build");
    let next = world.take("worker").await;
    world.done(&next.finish(Outcome::Failed)).await;
    assert_eq!(late_with_state(&world, &held, 9).await, Disposition::Late);
    assert_eq!(world.serial("ws").await, Some(9));
    assert!(!world.workspace("ws").await.state_conflict);
}

pub(crate) async fn a_late_state_never_replaces_what_a_running_build_started_from<S: Store>(
    world: World<S>,
) {
    let held = half_applied(&world).await;
    world.pass(600).await;
    world.build("ws", Transition::Stop).await.expect("a build");
    world.take("worker").await;
    assert_eq!(late_with_state(&world, &held, 9).await, Disposition::Late);
    assert_eq!(world.serial("ws").await, Some(7));
    assert!(world.workspace("ws").await.state_conflict);
}

pub(crate) async fn a_late_state_behind_another_build_waits_and_blocks_starts<S: Store>(
    world: World<S>,
) {
    let held = half_applied(&world).await;
    world.pass(600).await;
    world.build("ws", Transition::Start).await.expect("a build");
    let next = world.take("worker").await;
    let finish = Finish {
        state: Some(world.state(8, 0).await),
        ..next.finish(Outcome::Succeeded)
    };
    world.done(&finish).await;
    assert_eq!(late_with_state(&world, &held, 9).await, Disposition::Late);
    assert_eq!(late_with_state(&world, &held, 9).await, Disposition::Late);
    assert_eq!(world.serial("ws").await, Some(8));
    assert!(world.workspace("ws").await.state_conflict);
    let waiting = world.store.states(named("ws")).await.expect("states");
    assert_eq!(waiting.iter().filter(|state| state.waiting).count(), 1);
    let refused = world.build("ws", Transition::Start).await;
    assert!(matches!(refused, Err(Error::StateConflict { .. })));
}

pub(crate) async fn a_finish_of_an_unknown_job_or_lease_is_kept<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    let mut strange = held.finish(Outcome::Succeeded);
    strange.lease = LeaseId::generate();
    assert_eq!(world.done(&strange).await, Disposition::Unclaimed);
    strange.job = JobId::generate();
    assert_eq!(world.done(&strange).await, Disposition::Unclaimed);
    assert_eq!(world.done(&strange).await, Disposition::Unclaimed);
    assert_eq!(world.status(held.id).await, JobStatus::Running);
    let update = Update {
        job: strange.job,
        ..held.update(1)
    };
    assert_eq!(
        world.tell(update).await.verdict(),
        v1::UpdateVerdict::UnknownJob
    );
}
