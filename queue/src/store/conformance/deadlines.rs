//! How long a job may wait, and how long it may run.

use std::time::Duration;

use proto::v1::{CancelKind, JobStatus};

use super::world::{Held, ORG, World, contact, submission};
use crate::store::Store;
use crate::store::model::{Deadlines, PlanTemplate, Submission, Submitted, VersionRow};
use crate::words::{Cancel, Outcome};

const NONE: Deadlines = Deadlines {
    queue: None,
    run: None,
};

fn queue(seconds: u64) -> Deadlines {
    Deadlines {
        queue: Some(Duration::from_secs(seconds)),
        ..NONE
    }
}

fn run(seconds: u64) -> Deadlines {
    Deadlines {
        run: Some(Duration::from_secs(seconds)),
        ..NONE
    }
}

async fn plan<S: Store>(world: &World<S>, of: &VersionRow, deadlines: Deadlines) -> Submitted {
    let plan = PlanTemplate {
        organization: ORG.to_owned(),
        version: of.id,
        parameters: Vec::new(),
        submission: Submission {
            deadlines,
            ..submission("ann")
        },
    };
    world.store.plan_template(plan).await.expect("a dry run")
}

/// A job with its gate open, in a daemon's hands.
async fn running<S: Store>(world: &World<S>, deadlines: Deadlines) -> Held {
    let version = world.template("template").await;
    plan(world, &version, deadlines).await;
    let held = world.take("worker").await;
    world.open_gate(&held, 1).await;
    held
}

async fn code<S: Store>(world: &World<S>, held: &Held) -> String {
    world.job(held.id).await.error.expect("an error").code
}

pub(crate) async fn a_job_that_nobody_begins_in_time_fails<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let job = plan(&world, &version, queue(30)).await.id;
    let patient = plan(&world, &version, NONE).await.id;
    world.pass(29).await;
    let view = world.job(job).await;
    assert_eq!(view.status(), JobStatus::Pending);
    assert_eq!(view.queue_deadline_at_ms, Some(view.created_at_ms + 30_000));
    world.pass(1).await;
    let view = world.job(job).await;
    assert_eq!(view.status(), JobStatus::Failed);
    assert_eq!(view.error.expect("an error").code, "QUEUE_DEADLINE");
    assert_eq!(world.take("worker").await.id, patient);
}

pub(crate) async fn a_job_that_was_begun_has_met_its_queue_deadline<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let job = plan(&world, &version, queue(20)).await.id;
    world.take("worker").await;
    // Lost before the gate, and pending again beyond the deadline.
    world.pass(30).await;
    assert_eq!(world.status(job).await, JobStatus::Pending);
    assert_eq!(world.take("worker").await.id, job);
}

pub(crate) async fn a_job_that_runs_too_long_is_canceled_and_fails<S: Store>(world: World<S>) {
    let held = running(&world, run(60)).await;
    world.pass(59).await;
    assert_eq!(world.status(held.id).await, JobStatus::Running);
    world.pass(1).await;
    assert_eq!(world.status(held.id).await, JobStatus::Canceling);
    // The daemon is told as of any other cancel.
    let reply = world.tell(held.update(2)).await;
    assert_eq!(reply.cancel(), CancelKind::Cancel);
    world.done(&held.finish(Outcome::Canceled)).await;
    assert_eq!(world.status(held.id).await, JobStatus::Failed);
    assert_eq!(code(&world, &held).await, "RUN_DEADLINE");
}

pub(crate) async fn a_person_s_cancel_after_the_deadline_is_a_cancel<S: Store>(world: World<S>) {
    let held = running(&world, run(60)).await;
    world.pass(61).await;
    let canceled = world.store.cancel(ORG.to_owned(), held.id, Cancel::Force);
    canceled.await.expect("canceled");
    world.done(&held.finish(Outcome::Canceled)).await;
    assert_eq!(world.status(held.id).await, JobStatus::Canceled);
}

pub(crate) async fn a_job_past_its_run_deadline_that_is_lost_does_not_run_again<S: Store>(
    world: World<S>,
) {
    let version = world.template("template").await;
    plan(&world, &version, run(5)).await;
    let held = world.take("worker").await;
    world.pass(20).await;
    assert_eq!(world.status(held.id).await, JobStatus::Failed);
    assert_eq!(code(&world, &held).await, "RUN_DEADLINE");
    assert!(world.offered(contact("worker")).await.is_none());
}

pub(crate) async fn a_retry_gets_the_same_time_again<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let both = Deadlines {
        run: run(7).run,
        ..queue(30)
    };
    let job = plan(&world, &version, both).await.id;
    world.pass(40).await;
    let again = world.retry(job, "").await.expect("again");
    let view = world.job(again.id).await;
    assert_eq!(view.queue_deadline_at_ms, Some(view.created_at_ms + 30_000));
    let held = world.take("worker").await;
    let view = world.job(held.id).await;
    assert_eq!(held.id, again.id);
    let begun = view.started_at_ms.expect("begun");
    assert_eq!(view.run_deadline_at_ms, Some(begun + 7_000));
}
