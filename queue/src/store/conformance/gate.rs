//! The gate, cancels and endings of a job that is in good hands.

use proto::v1::{self, JobStatus};

use super::world::{ORG, World, line};
use crate::store::model::{Disposition, Gate, Update};
use crate::store::{Error, Store};
use crate::words::{Cancel, Outcome, Phase, ReleaseReason};

pub(crate) async fn the_gate_opens_once_and_lengthens_the_lease<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    let before = world.tell(held.update(1)).await;
    assert!(!before.gate_open);
    assert_eq!(before.lease.expect("a lease").ttl_ms, 10_000);
    let asked = Update {
        gate: Gate::Asked,
        ..held.update(2)
    };
    let open = world.tell(asked.clone()).await;
    assert!(open.gate_open);
    let lease = open.lease.expect("a lease");
    assert_eq!((lease.ttl_ms, lease.trusted_ms), (600_000, 510_000));
    world.pass(5).await;
    let again = world.tell(asked).await;
    assert!(again.gate_open, "a retry is idempotent");
    assert_eq!(
        again.lease.expect("a lease").ttl_ms,
        595_000,
        "and renews nothing"
    );
    assert!(world.job(held.id).await.gate_open);
}

pub(crate) async fn a_cancel_shuts_the_gate_and_travels_with_the_reply<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    let view = world
        .store
        .cancel(ORG.to_owned(), held.id, Cancel::Cancel)
        .await;
    assert_eq!(view.expect("canceled").status(), JobStatus::Canceling);
    let asked = Update {
        gate: Gate::Asked,
        ..held.update(1)
    };
    let reply = world.tell(asked).await;
    assert!(!reply.gate_open);
    assert_eq!(reply.cancel(), v1::CancelKind::Cancel);
    let forced = world
        .store
        .cancel(ORG.to_owned(), held.id, Cancel::Force)
        .await;
    forced.expect("forced");
    let weaker = world
        .store
        .cancel(ORG.to_owned(), held.id, Cancel::Cancel)
        .await;
    weaker.expect("asked again");
    assert_eq!(
        world.tell(held.update(2)).await.cancel(),
        v1::CancelKind::Force
    );
    world.done(&held.finish(Outcome::Canceled)).await;
    assert_eq!(world.status(held.id).await, JobStatus::Canceled);
    let ended = world
        .store
        .cancel(ORG.to_owned(), held.id, Cancel::Cancel)
        .await;
    assert!(matches!(ended, Err(Error::WrongStatus { .. })));
}

pub(crate) async fn a_repeated_update_changes_nothing_else<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    let first = Update {
        phase: Some(Phase::Init),
        lines: vec![line(1, "one")],
        ..held.update(5)
    };
    world.tell(first).await;
    let stale = Update {
        phase: Some(Phase::Apply),
        lines: vec![line(1, "one"), line(2, "two")],
        gate: Gate::Asked,
        ..held.update(5)
    };
    let reply = world.tell(stale).await;
    assert_eq!(reply.stored_seq, 2, "its lines are stored");
    assert!(!reply.gate_open);
    assert_eq!(world.job(held.id).await.phase(), v1::Phase::Init);
}

pub(crate) async fn phases_move_forward_only<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    for (counter, phase) in [(1, Phase::Setup), (2, Phase::Plan), (3, Phase::Init)] {
        let update = Update {
            phase: Some(phase),
            ..held.update(counter)
        };
        world.tell(update).await;
        world.pass(2).await;
    }
    let job = world.job(held.id).await;
    assert_eq!(job.phase(), v1::Phase::Plan);
    let phases: Vec<_> = job
        .phases
        .iter()
        .map(|timing| (timing.phase(), timing.duration_ms))
        .collect();
    assert_eq!(
        phases,
        [(v1::Phase::Setup, 2_000), (v1::Phase::Plan, 4_000)]
    );
}

pub(crate) async fn a_success_stands_although_canceled<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    let canceled = world
        .store
        .cancel(ORG.to_owned(), held.id, Cancel::Cancel)
        .await;
    canceled.expect("canceled");
    world.done(&held.finish(Outcome::Succeeded)).await;
    assert_eq!(world.status(held.id).await, JobStatus::Succeeded);
}

pub(crate) async fn a_pending_job_is_canceled_at_once<S: Store>(world: World<S>) {
    let (_, submitted) = world.push("template").await;
    let view = world
        .store
        .cancel(ORG.to_owned(), submitted.id, Cancel::Cancel)
        .await;
    assert_eq!(view.expect("canceled").status(), JobStatus::Canceled);
    assert!(
        world
            .offered(super::world::contact("worker"))
            .await
            .is_none()
    );
}

pub(crate) async fn a_repeated_finish_is_answered_like_the_first<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    let released = held.release(ReleaseReason::Drain);
    assert_eq!(world.done(&released).await, Disposition::Applied);
    assert_eq!(world.done(&released).await, Disposition::Applied);
    let held = world.take("worker").await;
    assert_eq!(held.attempt, 2);
    assert_eq!(world.done(&released).await, Disposition::Applied);
    assert_eq!(
        world.status(held.id).await,
        JobStatus::Running,
        "the new attempt runs on"
    );
    let finish = held.finish(Outcome::Succeeded);
    assert_eq!(world.done(&finish).await, Disposition::Applied);
    assert_eq!(world.done(&finish).await, Disposition::Applied);
    assert_eq!(world.status(held.id).await, JobStatus::Succeeded);
}
