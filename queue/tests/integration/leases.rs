//! The right to a job, and what is kept from those who have lost it.

use std::time::Duration;

use proto::v1;

use crate::harness::*;

#[tokio::test]
async fn a_foreign_lease_is_fenced_but_its_lines_are_kept() {
    let queue = Queue::start().await;
    let mut owner = queue.daemon("owner").await;
    let mut thief = queue.daemon("thief").await;
    let pushed = queue.push("fenced", &[]).await;
    let job = owner.take().await;
    assert_eq!(job.id, pushed.id);
    let mut foreign = update(&job, 1);
    foreign.lease_id = vec![7; 16];
    foreign.set_phase(v1::Phase::Apply);
    let reply = thief.fleet.update_job(foreign).await.expect("answered");
    assert_eq!(reply.into_inner().verdict(), v1::UpdateVerdict::Fenced);
    let own = owner.fleet.update_job(update(&job, 1)).await.expect("own");
    assert_eq!(own.into_inner().verdict(), v1::UpdateVerdict::Accepted);
    let view = queue.job(&job.id).await;
    assert_ne!(view.phase(), v1::Phase::Apply);
    assert_eq!(view.status(), v1::JobStatus::Running);
}

#[tokio::test]
async fn a_finish_for_an_unknown_job_is_kept_as_unclaimed() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let unknown = v1::FinishJobRequest {
        job_id: proto::ids::JobId::generate().to_string(),
        lease_id: vec![1; 16],
        attempt: 1,
        outcome: v1::Outcome::Succeeded.into(),
        ..v1::FinishJobRequest::default()
    };
    let reply = daemon.fleet.finish_job(unknown).await.expect("stored");
    assert_eq!(
        reply.into_inner().disposition(),
        v1::FinishDisposition::Unclaimed
    );
    let (_, metrics) = queue.http("/metrics").await;
    assert!(
        metrics.contains("provisionerd_finishes_unclaimed 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_released_job_goes_to_the_next_daemon_at_once() {
    let queue = Queue::start().await;
    let mut first = queue.daemon("first").await;
    queue.push("released", &[]).await;
    let job = first.take().await;
    let mut second = queue.daemon("second").await;
    let mut acquiring = second.acquire().await;
    queue.waiting(1).await;
    let mut release = finish(&job, v1::Outcome::Released);
    release.set_release_reason(v1::ReleaseReason::Drain);
    first.fleet.finish_job(release).await.expect("released");
    let again = acquiring.job().await;
    assert_eq!(again.id, job.id);
    assert_ne!(lease_id(&again), lease_id(&job));
}

#[tokio::test]
async fn a_daemon_that_vanishes_before_the_gate_loses_its_job_to_another() {
    let mut timings = timings();
    timings.lease_pending = Duration::from_secs(1);
    timings.store_settle = Duration::from_millis(500);
    timings.control_grace = Duration::from_millis(500);
    let queue = Queue::start_with(timings).await;
    let mut first = queue.daemon("first").await;
    queue.push("lost", &[]).await;
    let job = first.take().await;
    let mut second = queue.daemon("second").await;
    let again = second.take().await;
    assert_eq!(again.id, job.id);
    let late = first.fleet.update_job(update(&job, 1)).await.expect("late");
    assert_eq!(late.into_inner().verdict(), v1::UpdateVerdict::Fenced);
}

#[tokio::test]
async fn a_request_without_ids_is_refused_by_name() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let empty = daemon
        .fleet
        .update_job(v1::UpdateJobRequest::default())
        .await;
    assert_eq!(code(&empty.expect_err("no job")), "INVALID_ID");
    let mut release = v1::FinishJobRequest {
        job_id: proto::ids::JobId::generate().to_string(),
        lease_id: vec![1; 16],
        ..v1::FinishJobRequest::default()
    };
    let refused = daemon.fleet.finish_job(release.clone()).await;
    assert_eq!(code(&refused.expect_err("no outcome")), "INVALID_REQUEST");
    release.set_outcome(v1::Outcome::Released);
    let refused = daemon.fleet.finish_job(release).await;
    assert_eq!(code(&refused.expect_err("no reason")), "INVALID_REQUEST");
}

#[tokio::test]
async fn an_update_over_a_limit_is_refused_and_names_it() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.push("long", &[]).await;
    let job = daemon.take().await;
    let mut report = update(&job, 1);
    report.lines = lines(1, &["x".repeat(proto::limits::LOG_PIECE + 1).as_str()]);
    let refused = daemon.fleet.update_job(report).await.expect_err("too long");
    assert_eq!(code(&refused), "UPDATE_TOO_LARGE");
    assert!(refused.message().contains("65536"), "{refused:?}");
}
