//! What machines that watch the queue see of what happens in it.

use std::time::Duration;

use proto::v1;

use crate::harness::*;
use crate::on_postgres;

/// The value of a metric, by its name with all labels.
async fn value(queue: &Queue, name: &str) -> f64 {
    let (status, metrics) = queue.http("/metrics").await;
    assert_eq!(status, 200);
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
    line.trim().parse().expect("a number")
}

const STARTED: &str = "provisionerd_schedule_to_start_seconds_count";
const SYNC: &str = "provisionerd_matches_total{match=\"sync\"}";
const BACKLOG: &str = "provisionerd_matches_total{match=\"backlog\"}";

#[tokio::test]
async fn how_jobs_come_to_daemons_is_counted_once_each() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let mut acquiring = daemon.acquire().await;
    queue.waiting(1).await;
    assert_eq!(value(&queue, STARTED).await, 0.0);
    queue.push("waited-for", &[("region", "eu")]).await;
    queue.push("comes", &[]).await;
    let job = acquiring.job().await;
    acquiring.confirm(&job).await;
    assert_eq!(value(&queue, SYNC).await, 1.0);
    queue.push("waits", &[]).await;
    let job = daemon.take().await;
    assert_eq!(value(&queue, SYNC).await, 1.0);
    assert_eq!(value(&queue, BACKLOG).await, 1.0);
    // Said again, as by a daemon whose answer was lost.
    let mut says = daemon.fleet.clone();
    let again = v1::ConfirmJobRequest {
        job_id: job.id.clone(),
        lease_id: lease_id(&job),
        ..v1::ConfirmJobRequest::default()
    };
    says.confirm_job(again).await.expect("confirmed");
    assert_eq!(value(&queue, STARTED).await, 2.0);
    let pool = r#"{\"owner\":\"\",\"region\":\"eu\",\"scope\":\"organization\"}"#;
    let pool = format!("provisionerd_pool_jobs{{pool=\"{pool}\",status=\"pending\"}}");
    assert_eq!(value(&queue, &pool).await, 1.0);
    for does in ["read", "write"] {
        let count = format!("provisionerd_store_seconds_count{{does=\"{does}\"}}");
        assert!(value(&queue, &count).await > 0.0);
    }
}

/// Of a queue that is quick to give up who is silent.
async fn expired(queue: &Queue, then: &str) -> f64 {
    let name = format!("provisionerd_leases_expired_total{{then=\"{then}\"}}");
    value(queue, &name).await
}

#[tokio::test]
async fn an_offer_that_nobody_confirms_is_counted() {
    let mut timings = timings();
    timings.confirm = Duration::from_millis(300);
    timings.store_settle = Duration::from_millis(200);
    let queue = Queue::start_with(timings).await;
    let mut silent = queue.daemon("silent").await;
    queue.push("silent", &[]).await;
    let mut acquiring = silent.acquire().await;
    acquiring.job().await;
    until(async || expired(&queue, "withdrawn").await == 1.0).await;
    assert_eq!(expired(&queue, "requeued").await, 0.0);
    assert_eq!(value(&queue, STARTED).await, 0.0);
}

#[tokio::test]
async fn a_lease_that_runs_out_is_counted() {
    let mut timings = timings();
    timings.lease_pending = Duration::from_millis(300);
    timings.store_settle = Duration::from_millis(200);
    let queue = Queue::start_with(timings).await;
    let mut silent = queue.daemon("silent").await;
    queue.push("silent", &[]).await;
    silent.take().await;
    until(async || expired(&queue, "requeued").await == 1.0).await;
    assert_eq!(expired(&queue, "withdrawn").await, 0.0);
    assert_eq!(expired(&queue, "ended").await, 0.0);
    assert_eq!(value(&queue, STARTED).await, 1.0);
}

#[tokio::test]
async fn a_queue_without_its_database_is_healthy_and_not_ready_and_tells_the_rest() {
    let Some((queue, database)) = on_postgres::start(timings()).await else {
        return;
    };
    assert_eq!(queue.http("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(value(&queue, "provisionerd_store_up").await, 1.0);
    on_postgres::shuts(&database, true);
    until(async || queue.http("/readyz").await.0 == 503).await;
    assert_eq!(queue.http("/healthz").await, (200, "ok\n".to_owned()));
    let (status, metrics) = queue.http("/metrics").await;
    assert_eq!(status, 200);
    for line in ["provisionerd_store_up 0", "provisionerd_connections "] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("provisionerd_jobs{"), "{metrics}");
    on_postgres::shuts(&database, false);
    until(async || queue.http("/readyz").await.0 == 200).await;
    assert_eq!(value(&queue, "provisionerd_store_up").await, 1.0);
}
