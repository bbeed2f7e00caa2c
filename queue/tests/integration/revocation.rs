//! What is open with a credential ends when the credential is deleted.

use proto::v1;
use proto::v1::put_blob_request::Message as Put;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::harness::*;

#[tokio::test]
async fn a_deleted_token_ends_what_it_follows() {
    let queue = Queue::start().await;
    let pushed = queue.push("followed", &[]).await;
    let (mut ann, name) = admin_of(&queue, "ann").await;
    let (mut log, mut job) = follow(&mut ann, &pushed.id).await;
    let (_, other) = admin_of(&queue, "bob").await;
    delete_token(&queue, &other).await;
    assert!(
        tokio::time::timeout(QUIET, log.message()).await.is_err(),
        "another token's end is not ours"
    );
    delete_token(&queue, &name).await;
    for refused in [
        soon(log.message()).await.map(drop),
        soon(job.message()).await.map(drop),
        ann.get_info(v1::GetInfoRequest {}).await.map(drop),
    ] {
        let refused = refused.expect_err("deleted");
        assert_eq!(code(&refused), "WRONG_CREDENTIAL");
    }
}

#[tokio::test]
async fn a_deleted_token_ends_its_upload() {
    let queue = Queue::start().await;
    let (mut ann, name) = admin_of(&queue, "ann").await;
    let bytes = noise(1 << 20);
    let (requests, stream) = tokio::sync::mpsc::channel(8);
    for request in put_requests(&blob_ref(&bytes), None, &bytes[..bytes.len() / 2]) {
        let request = match request.message {
            Some(Put::Header(header)) => v1::PutBlobRequest {
                message: Some(Put::Header(v1::PutBlobHeader {
                    blob: Some(blob_ref(&bytes)),
                    ..header
                })),
            },
            _ => request,
        };
        requests.send(request).await.expect("room");
    }
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream).chain(tokio_stream::pending());
    let upload = tokio::spawn(async move { ann.upload(stream).await });
    delete_token(&queue, &name).await;
    let refused = soon(upload).await.expect("a task").expect_err("deleted");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
}

#[tokio::test]
async fn a_deleted_key_ends_a_daemons_waiting() {
    let queue = Queue::start().await;
    let key = queue.key("short", &[]).await;
    let mut daemon = queue.daemon_with("one", "i", &key, &[]);
    let _control = daemon.control(Vec::new()).await;
    let mut waits = daemon.acquire().await;
    queue.waiting(1).await;
    let delete = v1::DeleteKeyRequest {
        name: "short".into(),
    };
    queue.admin().delete_key(delete).await.expect("deleted");
    let refused = waits.reply().await.expect_err("deleted");
    assert_eq!(code(&refused), "WRONG_CREDENTIAL");
    queue.waiting(0).await;
}

#[tokio::test]
async fn a_deleted_key_ends_a_short_calls_waiting() {
    let mut timings = timings();
    timings.acquire_poll = DEADLINE * 10;
    let queue = Queue::start_with(timings).await;
    let key = queue.key("short", &[]).await;
    let daemon = queue.daemon_with("one", "i", &key, &[]);
    let mut fleet = daemon.fleet.clone();
    let ask = v1::AcquireNowRequest {
        acquire: Some(v1::Acquire {
            slots: 1,
            ..v1::Acquire::default()
        }),
        wait_ms: u64::MAX,
    };
    let asking = tokio::spawn(async move { fleet.acquire_now(ask).await });
    queue.waiting(1).await;
    let delete = v1::DeleteKeyRequest {
        name: "short".into(),
    };
    queue.admin().delete_key(delete).await.expect("deleted");
    let refused = soon(asking).await.expect("a task").expect_err("deleted");
    assert_eq!(code(&refused), "WRONG_CREDENTIAL");
    queue.waiting(0).await;
    let mut fleet = daemon.fleet;
    let polled = fleet.control_now(v1::ControlRequest::default()).await;
    assert_eq!(code(&polled.expect_err("deleted")), "WRONG_CREDENTIAL");
}

/// As when another replica deletes them and its hint is lost.
#[tokio::test]
async fn what_is_deleted_without_a_word_ends_within_five_seconds() {
    let queue = Queue::start().await;
    let key = queue.key("short", &[]).await;
    let mut daemon = queue.daemon_with("one", "i", &key, &[]);
    let mut control = daemon.control(Vec::new()).await;
    let mut waits = daemon.acquire().await;
    queue.waiting(1).await;
    let pushed = queue.push("needs", &[("env", "prod")]).await;
    let (mut ann, _) = admin_of(&queue, "ann").await;
    let (mut log, _job) = follow(&mut ann, &pushed.id).await;
    let database = rusqlite::Connection::open(queue.dir.path().join("queue/queue.db"));
    let database = database.expect("the database");
    let gone = database.execute_batch(
        "DELETE FROM keys WHERE name = 'short'; DELETE FROM tokens WHERE name = 'of-ann'",
    );
    gone.expect("deleted");
    let begun = std::time::Instant::now();
    let refused = waits.reply().await.expect_err("deleted");
    assert_eq!(code(&refused), "WRONG_CREDENTIAL");
    let refused = soon(log.message()).await.expect_err("deleted");
    assert_eq!(code(&refused), "WRONG_CREDENTIAL");
    while soon(control.message()).await.expect("events").is_some() {}
    let refused = ann.get_info(v1::GetInfoRequest {}).await;
    assert_eq!(code(&refused.expect_err("deleted")), "WRONG_CREDENTIAL");
    // What is promised, and what a busy machine adds.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

/// Long enough for what comes at once to have come.
const QUIET: std::time::Duration = std::time::Duration::from_millis(200);

/// A client with a token of its own, and the token's name.
async fn admin_of(queue: &Queue, owner: &str) -> (Client, String) {
    let name = format!("of-{owner}");
    let request = v1::CreateTokenRequest {
        name: name.clone(),
        owner: owner.into(),
        role: "admin".into(),
    };
    let reply = queue.admin().create_token(request).await.expect("token");
    (queue.client(&reply.into_inner().token), name)
}

async fn delete_token(queue: &Queue, name: &str) {
    let delete = v1::DeleteTokenRequest { name: name.into() };
    queue.admin().delete_token(delete).await.expect("deleted");
}

/// Follows log and view of a job that waits; the view has come once.
async fn follow(
    client: &mut Client,
    job: &str,
) -> (
    tonic::Streaming<v1::LogBatch>,
    tonic::Streaming<v1::JobView>,
) {
    let logs = v1::StreamLogsRequest {
        job_id: job.into(),
        after: 0,
        follow: true,
    };
    let logs = client.stream_logs(logs).await.expect("log").into_inner();
    let watch = client.watch_job(v1::GetJobRequest { id: job.into() });
    let mut views = watch.await.expect("views").into_inner();
    soon(views.message()).await.expect("views").expect("a view");
    (logs, views)
}
