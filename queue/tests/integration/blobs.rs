//! Blobs on their way in and out.

use std::time::Duration;

use proto::limits;
use proto::v1;
use tonic::{Code, Status};

use crate::harness::*;

#[tokio::test]
async fn what_was_put_comes_back_and_resumes_anywhere() {
    let queue = Queue::start().await;
    for size in [
        0,
        1,
        limits::BLOB_INLINE,
        limits::BLOB_INLINE + 1,
        3_000_000,
    ] {
        let bytes = noise(size);
        let mut leased = Leased::with_archive(&queue, &bytes).await;
        assert!(leased.get(0).await.expect("whole") == bytes, "{size}");
        let middle = size / 2;
        let rest = leased.get(middle as u64).await.expect("rest");
        assert!(rest == bytes[middle..], "{size} from {middle}");
        assert_eq!(leased.get(size as u64).await.expect("end"), b"");
        let beyond = leased.get(size as u64 + 1).await.expect_err("beyond");
        assert_eq!(code(&beyond), "BLOB_OFFSET");
        leased.end().await;
    }
}

#[tokio::test]
async fn a_put_is_idempotent() {
    let queue = Queue::start().await;
    let bytes = noise(200_000);
    let blob = blob_ref(&bytes);
    let first = put(&queue, &blob, &bytes).await.expect("first");
    assert!(first.stored);
    let second = put(&queue, &blob, &bytes).await.expect("second");
    assert!(!second.stored);
}

#[tokio::test]
async fn bytes_that_are_not_the_announced_ones_leave_nothing() {
    let queue = Queue::start().await;
    for size in [1_000, 200_000] {
        let bytes = noise(size);
        let announced = blob_ref(&bytes);
        let mut flipped = bytes.clone();
        flipped[size / 2] ^= 1;
        let wrong = put(&queue, &announced, &flipped).await.expect_err("digest");
        assert_eq!(code(&wrong), "BLOB_MISMATCH", "{size}");
        let short = put(&queue, &announced, &bytes[1..])
            .await
            .expect_err("short");
        assert_eq!(code(&short), "BLOB_BROKEN_OFF", "{size}");
        let mut longer = bytes.clone();
        longer.push(0);
        let long = put(&queue, &announced, &longer).await.expect_err("long");
        assert_eq!(code(&long), "BLOB_MISMATCH", "{size}");
    }
    assert_eq!(files(&queue), Vec::<String>::new());
    let bytes = noise(200_000);
    put(&queue, &blob_ref(&bytes), &bytes)
        .await
        .expect("after all that");
    assert_eq!(files(&queue).len(), 1);
}

#[tokio::test]
async fn a_blob_over_the_limit_is_refused_before_its_bytes() {
    let queue = Queue::start().await;
    let mut blob = blob_ref(b"x");
    blob.size = limits::BLOB + 1;
    let refused = put(&queue, &blob, b"x").await.expect_err("too large");
    assert_eq!(code(&refused), "BLOB_TOO_LARGE");
    assert!(refused.message().contains(&limits::BLOB.to_string()));
}

#[tokio::test]
async fn a_daemon_reads_only_what_its_lease_names() {
    let queue = Queue::start().await;
    let secret = queue.upload(b"the state of somebody else").await;
    let mut leased = Leased::with_archive(&queue, b"own archive").await;
    let foreign = leased.get_blob(&secret, 0).await.expect_err("foreign");
    assert_eq!(foreign.code(), Code::PermissionDenied);
    assert_eq!(code(&foreign), "BLOB_NOT_LEASED");
    let mut stranger = queue.daemon("stranger").await;
    let request = v1::GetBlobRequest {
        sha256: leased.archive.sha256.clone(),
        offset: 0,
        job_id: leased.job.id.clone(),
        lease_id: vec![9; 16],
    };
    let refused = stranger
        .fleet
        .get_blob(request)
        .await
        .expect_err("no lease");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_daemon_puts_for_its_lease() {
    let queue = Queue::start().await;
    let mut leased = Leased::with_archive(&queue, b"archive").await;
    let state = noise(100_000);
    let requests = put_requests(&blob_ref(&state), Some(&leased.job), &state);
    let reply = leased
        .daemon
        .fleet
        .put_blob(tokio_stream::iter(requests))
        .await;
    assert!(reply.expect("put").into_inner().stored);
    let requests = put_requests(&blob_ref(b"x"), None, b"x");
    let refused = leased
        .daemon
        .fleet
        .put_blob(tokio_stream::iter(requests))
        .await;
    assert_eq!(code(&refused.expect_err("no lease")), "INVALID_ID");
}

#[tokio::test]
async fn half_written_files_of_a_dead_process_are_removed() {
    let queue = Queue::start().await;
    let bytes = noise(100_000);
    put(&queue, &blob_ref(&bytes), &bytes).await.expect("put");
    let Queue {
        service,
        channel,
        dir,
    } = queue;
    drop(channel);
    service.shutdown().await;
    let shard = dir.path().join("queue/blobs/ab");
    std::fs::create_dir_all(&shard).expect("shard");
    std::fs::write(shard.join("new-x"), "half").expect("half");
    let service = queue::start(options(&dir)).await.expect("again");
    let channel = connect(&service).await;
    let queue = Queue {
        service,
        channel,
        dir,
    };
    assert_eq!(files(&queue).len(), 1);
    let again = put(&queue, &blob_ref(&bytes), &bytes).await.expect("known");
    assert!(!again.stored);
}

/// A daemon that holds the import of a template with a given archive.
struct Leased<'a> {
    queue: &'a Queue,
    daemon: Daemon,
    job: v1::Job,
    archive: v1::BlobRef,
}

impl<'a> Leased<'a> {
    async fn with_archive(queue: &'a Queue, bytes: &[u8]) -> Self {
        let archive = queue.upload(bytes).await;
        let push = v1::PushTemplateRequest {
            name: format!("t{}", bytes.len()),
            archive: Some(archive.clone()),
            ..v1::PushTemplateRequest::default()
        };
        queue.admin().push_template(push).await.expect("push");
        let mut daemon = queue.daemon(&format!("d{}", bytes.len())).await;
        let job = daemon.take().await;
        assert_eq!(job.archive.as_ref(), Some(&archive));
        Self {
            queue,
            daemon,
            job,
            archive,
        }
    }

    async fn get(&mut self, offset: u64) -> Result<Vec<u8>, Status> {
        let archive = self.archive.clone();
        self.get_blob(&archive, offset).await
    }

    async fn get_blob(&mut self, blob: &v1::BlobRef, offset: u64) -> Result<Vec<u8>, Status> {
        let request = v1::GetBlobRequest {
            sha256: blob.sha256.clone(),
            offset,
            job_id: self.job.id.clone(),
            lease_id: lease_id(&self.job),
        };
        let mut chunks = self.daemon.fleet.get_blob(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = soon(chunks.message()).await? {
            assert!(chunk.data.len() <= limits::BLOB_CHUNK);
            bytes.extend_from_slice(&chunk.data);
        }
        Ok(bytes)
    }

    async fn end(mut self) {
        let failed = finish(&self.job, v1::Outcome::Failed);
        self.daemon.fleet.finish_job(failed).await.expect("finish");
        assert_eq!(
            self.queue.job(&self.job.id).await.status(),
            v1::JobStatus::Failed
        );
    }
}

async fn put(queue: &Queue, blob: &v1::BlobRef, bytes: &[u8]) -> Result<v1::PutBlobReply, Status> {
    let requests = tokio_stream::iter(put_requests(blob, None, bytes));
    let reply = queue.admin().upload(requests).await?;
    Ok(reply.into_inner())
}

/// Every blob and every part of one in the blob directory, which holds a lock as well.
fn files(queue: &Queue) -> Vec<String> {
    let mut found = Vec::new();
    let blobs = queue.dir.path().join("queue/blobs");
    for shard in std::fs::read_dir(blobs).expect("blobs") {
        let shard = shard.expect("shard").path();
        if !shard.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(shard).expect("shard") {
            let name = file.expect("file").file_name();
            found.push(name.to_string_lossy().into_owned());
        }
    }
    found
}

/// An upload that stops after its first bytes; kept open by the sender.
async fn slow_upload(
    mut client: Client,
    seed: u8,
) -> (
    tokio::sync::mpsc::Sender<v1::PutBlobRequest>,
    tokio::task::JoinHandle<Result<(), Status>>,
) {
    let bytes = vec![seed; 1_000_000];
    let (sender, requests) = tokio::sync::mpsc::channel(4);
    for request in put_requests(&blob_ref(&bytes), None, &bytes)
        .into_iter()
        .take(2)
    {
        sender.send(request).await.expect("queued");
    }
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let uploading = tokio::spawn(async move { client.upload(requests).await.map(drop) });
    (sender, uploading)
}

#[tokio::test]
async fn slow_peers_do_not_stop_the_transfers_of_others_and_are_cut() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut options = options(&dir);
    options.edge.stall = Duration::from_secs(8);
    let queue = Queue::start_in(dir, options).await;
    let mut slow = Vec::new();
    for owner in ["ann", "bob", "cid"] {
        // What waits for a place fills the window of its connection.
        let client = queue.member_apart(owner).await;
        for seed in 0..20 {
            slow.push(slow_upload(client.clone(), seed).await);
        }
    }
    // 16 of each, which were more than all transfers once.
    let open = "provisionerd_transfers 48\n";
    until(async || queue.http("/metrics").await.1.contains(open)).await;
    let bytes = noise(2_000_000);
    let quick = tokio::time::timeout(AT_ONCE, queue.upload(&bytes));
    quick.await.expect("another owner does not wait");
    let (_sender, uploading) = slow.remove(0);
    let cut = soon(uploading)
        .await
        .expect("upload")
        .expect_err("too slow");
    assert_eq!(code(&cut), "BLOB_STALLED");
    assert!(cut.message().contains("262144 bytes in 8 s"), "{cut:?}");
}
