//! Following a job while it runs.

use std::time::Instant;

use proto::v1;
use tonic::Streaming;

use crate::harness::*;

#[tokio::test]
async fn a_log_is_followed_live_until_the_job_has_ended() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.push("followed", &[]).await;
    let job = daemon.take().await;
    let mut log = follow(&queue, &job.id, 0).await;
    let mut seen = Vec::new();
    let all = ["first", "second", "third", "4th", "5th", "6th", "7th"];
    let begun = Instant::now();
    for (counter, text) in (1..).zip(all) {
        let mut report = update(&job, counter);
        report.lines = lines(counter, &[text]);
        daemon.fleet.update_job(report).await.expect("update");
        seen.extend(texts(&mut log).await.expect("a batch"));
    }
    // Each of them would wait for a tick of two seconds otherwise.
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    let mut ended = finish(&job, v1::Outcome::Failed);
    ended.lines = lines(8, &["last"]);
    ended.last_seq = 8;
    daemon.fleet.finish_job(ended).await.expect("finish");
    while let Some(batch) = texts(&mut log).await {
        seen.extend(batch);
    }
    assert_eq!(seen, [&all[..], &["last"]].concat());
}

#[tokio::test]
async fn a_long_log_comes_whole_and_in_order_from_any_place() {
    const LINES: u64 = 5_000;
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.push("long", &[]).await;
    let job = daemon.take().await;
    for (counter, from) in (1..=LINES).step_by(1_000).enumerate() {
        let texts: Vec<String> = (from..from + 1_000).map(|n| n.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut report = update(&job, counter as u64 + 1);
        report.lines = lines(from, &texts);
        daemon.fleet.update_job(report).await.expect("update");
    }
    let ended = finish(&job, v1::Outcome::Succeeded);
    daemon.fleet.finish_job(ended).await.expect("finish");
    for after in [0, 1, 4_999, 5_000] {
        let mut log = follow(&queue, &job.id, after).await;
        let mut seen = Vec::new();
        while let Some(batch) = texts(&mut log).await {
            seen.extend(batch);
        }
        let expected: Vec<String> = (after + 1..=LINES).map(|n| n.to_string()).collect();
        assert!(seen == expected, "after {after}: {} lines", seen.len());
    }
}

#[tokio::test]
async fn without_follow_the_log_ends_where_it_stands() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.push("standing", &[]).await;
    let job = daemon.take().await;
    let mut report = update(&job, 1);
    report.lines = lines(1, &["only"]);
    daemon.fleet.update_job(report).await.expect("update");
    let request = v1::StreamLogsRequest {
        job_id: job.id,
        after: 0,
        follow: false,
    };
    let mut log = queue
        .admin()
        .stream_logs(request)
        .await
        .expect("log")
        .into_inner();
    assert_eq!(texts(&mut log).await, Some(vec!["only".to_owned()]));
    assert_eq!(texts(&mut log).await, None);
}

#[tokio::test]
async fn a_job_is_watched_from_pending_to_its_end() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let pushed = queue.push("watched", &[]).await;
    let request = v1::GetJobRequest { id: pushed.id };
    let mut views = queue
        .admin()
        .watch_job(request)
        .await
        .expect("watch")
        .into_inner();
    let first = soon(views.message()).await.expect("view").expect("at once");
    assert_eq!(first.status(), v1::JobStatus::Pending);
    let job = daemon.take().await;
    let mut last = first;
    while last.status() != v1::JobStatus::Running {
        last = soon(views.message())
            .await
            .expect("view")
            .expect("not ended");
    }
    let ended = finish(&job, v1::Outcome::Succeeded);
    daemon.fleet.finish_job(ended).await.expect("finish");
    while let Some(view) = soon(views.message()).await.expect("view") {
        last = view;
    }
    assert_eq!(last.status(), v1::JobStatus::Succeeded);
}

async fn follow(queue: &Queue, id: &str, after: u64) -> Streaming<v1::LogBatch> {
    let request = v1::StreamLogsRequest {
        job_id: id.into(),
        after,
        follow: true,
    };
    let log = queue.admin().stream_logs(request).await.expect("log");
    log.into_inner()
}

async fn texts(log: &mut Streaming<v1::LogBatch>) -> Option<Vec<String>> {
    let batch = soon(log.message()).await.expect("stream")?;
    let text = |stored: v1::StoredLine| stored.line.expect("line").text;
    Some(batch.lines.into_iter().map(text).collect())
}
