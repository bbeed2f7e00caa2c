//! The control stream: what a daemon hears at once.

use std::time::{Duration, Instant};

use proto::v1;
use proto::v1::acquire_request::Message as Ask;
use proto::v1::control_event::Event;
use tonic::Streaming;

use crate::harness::*;

#[tokio::test]
async fn a_cancel_reaches_the_daemon_at_once_and_stands_in_the_next_reply() {
    let mut timings = timings();
    timings.control_alive = Duration::from_secs(60);
    timings.control_idle = Duration::from_secs(60);
    // The replica attends, and tells what was missed, three times in this.
    timings.unreachable = Duration::from_secs(180);
    let queue = Queue::start_with(timings).await;
    let mut daemon = queue.daemon("one").await;
    queue.push("cancelled", &[]).await;
    let job = daemon.take().await;
    let mut control = daemon.control(Vec::new()).await;
    assert!(matches!(next(&mut control).await, Event::Alive(_)));
    let begun = Instant::now();
    let cancelled = cancel(&queue, &job.id).await;
    assert_eq!(cancelled.status(), v1::JobStatus::Canceling);
    let told = Event::Cancel(v1::CancelJob {
        job_id: job.id.clone(),
        kind: v1::CancelKind::Cancel.into(),
    });
    assert_eq!(next(&mut control).await, told);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    let reply = daemon
        .fleet
        .update_job(update(&job, 1))
        .await
        .expect("update");
    assert_eq!(reply.into_inner().cancel(), v1::CancelKind::Cancel);
    let ended = finish(&job, v1::Outcome::Canceled);
    daemon.fleet.finish_job(ended).await.expect("finish");
    assert_eq!(queue.job(&job.id).await.status(), v1::JobStatus::Canceled);
}

#[tokio::test]
async fn a_cancel_that_was_missed_is_told_when_the_stream_opens() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.push("missed", &[]).await;
    let job = daemon.take().await;
    cancel(&queue, &job.id).await;
    let running = v1::RunningJob {
        job_id: job.id.clone(),
        lease_id: lease_id(&job),
    };
    let mut control = daemon.control(vec![running]).await;
    loop {
        match next(&mut control).await {
            Event::Cancel(cancel) => break assert_eq!(cancel.job_id, job.id),
            Event::Alive(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_stays_alive_and_ends_when_its_key_is_deleted() {
    let mut timings = timings();
    timings.control_idle = Duration::from_millis(50);
    let queue = Queue::start_with(timings).await;
    let key = queue.key("short", &[]).await;
    let mut daemon = queue.daemon_with("one", "i", &key, &[]);
    let mut control = daemon.control(Vec::new()).await;
    for _ in 0..3 {
        assert!(matches!(next(&mut control).await, Event::Alive(_)));
    }
    let delete = v1::DeleteKeyRequest {
        name: "short".into(),
    };
    queue.admin().delete_key(delete).await.expect("deleted");
    while next(&mut control).await != Event::KeyRevoked(v1::KeyRevoked {}) {}
    assert_eq!(soon(control.message()).await.expect("ended"), None);
    let refused = daemon.fleet.control(v1::ControlRequest::default()).await;
    assert_eq!(code(&refused.expect_err("revoked")), "WRONG_CREDENTIAL");
}

#[tokio::test]
async fn an_idle_daemon_hears_the_queue_beside_a_renewal_and_not_for_asking() {
    let mut timings = timings();
    timings.control_idle = Duration::from_secs(60);
    // The waiting is over once in this test.
    timings.acquire_min = Duration::from_secs(5);
    timings.acquire_max = Duration::from_secs(5);
    let queue = Queue::start_with(timings).await;
    let mut daemon = queue.daemon("one").await;
    let mut control = daemon.control(Vec::new()).await;
    assert!(matches!(next(&mut control).await, Event::Alive(_)));
    for _ in 0..20 {
        let mut acquiring = daemon.acquire().await;
        let cancel = Ask::Cancel(v1::CancelAcquire {});
        acquiring.requests.send(ask(cancel)).await.expect("sent");
        assert_eq!(acquiring.none().await, "cancelled");
    }
    assert_eq!(daemon.acquire().await.none().await, "idle");
    assert!(matches!(next(&mut control).await, Event::Alive(_)));
    let more = tokio::time::timeout(Duration::from_millis(300), control.message()).await;
    assert!(more.is_err(), "one word for one renewal: {more:?}");
}

#[tokio::test]
async fn a_drain_is_told() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let mut control = daemon.control(Vec::new()).await;
    let drain = v1::DrainDaemonRequest { name: "one".into() };
    queue.admin().drain_daemon(drain).await.expect("drain");
    while next(&mut control).await != Event::Drain(v1::DrainDaemonEvent {}) {}
}

#[tokio::test]
async fn losing_the_control_stream_hands_a_job_before_its_gate_on() {
    let mut timings = timings();
    timings.store_settle = Duration::from_millis(200);
    timings.control_grace = Duration::from_millis(300);
    let queue = Queue::start_with(timings).await;
    let mut first = queue.daemon("first").await;
    queue.push("handed-on", &[]).await;
    let job = first.take().await;
    let mut control = first.control(Vec::new()).await;
    next(&mut control).await;
    drop(control);
    let mut second = queue.daemon("second").await;
    assert_eq!(second.take().await.id, job.id);
}

async fn next(control: &mut Streaming<v1::ControlEvent>) -> Event {
    let event = soon(control.message())
        .await
        .expect("stream")
        .expect("event");
    event.event.expect("known")
}

async fn cancel(queue: &Queue, id: &str) -> v1::JobView {
    let request = v1::CancelJobRequest {
        id: id.into(),
        force: false,
    };
    let view = queue.admin().cancel_job(request).await.expect("cancel");
    view.into_inner()
}
