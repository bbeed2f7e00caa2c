//! A daemon's work in short calls.

use proto::limits::{BLOB_INLINE, BLOB_PART};
use proto::v1;
use proto::v1::acquire_now_reply::Message as Reply;
use proto::v1::put_blob_part_request::Part;

use crate::harness::*;

impl Daemon {
    async fn ask(&mut self, wait_ms: u64) -> Reply {
        let request = v1::AcquireNowRequest {
            acquire: Some(v1::Acquire {
                tags: self.tags.clone(),
                facts: self.facts.clone(),
                slots: 1,
                version: "1.0".into(),
                ..v1::Acquire::default()
            }),
            wait_ms,
        };
        let reply = soon(self.fleet.acquire_now(request)).await;
        let reply = reply.expect("an answer").into_inner();
        reply.message.expect("a message")
    }

    async fn offered(&mut self) -> v1::Job {
        match self.ask(DEADLINE.as_millis() as u64).await {
            Reply::Job(job) => *job,
            Reply::None(none) => panic!("no job: {none:?}"),
        }
    }

    async fn confirms(&mut self, job: &v1::Job) -> v1::Lease {
        let request = v1::ConfirmJobRequest {
            job_id: job.id.clone(),
            lease_id: lease_id(job),
            ..v1::ConfirmJobRequest::default()
        };
        let reply = self.fleet.confirm_job(request).await;
        reply.expect("confirmed").into_inner().lease.expect("lease")
    }

    async fn put_part(&mut self, job: &v1::Job, whole: &[u8], at: usize, part: Part) -> u64 {
        let request = v1::PutBlobPartRequest {
            header: Some(v1::PutBlobHeader {
                blob: Some(blob_ref(whole)),
                job_id: job.id.clone(),
                lease_id: lease_id(job),
            }),
            offset: at as u64,
            part: Some(part),
        };
        let reply = self.fleet.put_blob_part(request).await;
        reply.expect("taken").into_inner().received
    }

    async fn get_all(&mut self, job: &v1::Job, blob: &v1::BlobRef) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let request = v1::GetBlobPartRequest {
                sha256: blob.sha256.clone(),
                offset: all.len() as u64,
                job_id: job.id.clone(),
                lease_id: lease_id(job),
            };
            let reply = self.fleet.get_blob_part(request).await.expect("a part");
            let part = reply.into_inner().data;
            if part.is_empty() {
                return all;
            }
            assert!(part.len() <= BLOB_PART);
            all.extend_from_slice(&part);
        }
    }
}

fn data(bytes: &[u8]) -> Part {
    Part::Data(bytes::Bytes::copy_from_slice(bytes))
}

/// A daemon of which the queue thinks what it is listed as.
async fn listed(queue: &Queue) -> v1::Daemon {
    let list = queue.admin().list_daemons(v1::ListDaemonsRequest {}).await;
    list.expect("a list").into_inner().daemons.remove(0)
}

#[tokio::test]
async fn a_job_is_done_in_short_calls() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue
        .template("t", v1::TemplateFacts::default(), &mut daemon)
        .await;
    let create = v1::CreateWorkspaceRequest {
        name: "w".into(),
        template: "t".into(),
        ..v1::CreateWorkspaceRequest::default()
    };
    queue
        .admin()
        .create_workspace(create.clone())
        .await
        .expect("made");
    let job = daemon.offered().await;
    assert_eq!(
        daemon.offered().await,
        job,
        "what is not confirmed is offered again"
    );
    let lease = daemon.confirms(&job).await;
    assert_eq!(lease.attempt, 1);
    assert_eq!(daemon.confirms(&job).await.id, lease.id, "repeated");
    let archive = job.archive.clone().expect("archive");
    assert_eq!(daemon.get_all(&job, &archive).await, b"archive of t");

    let state = noise(2 * BLOB_PART + 7);
    let gate = v1::UpdateJobRequest {
        gate: true,
        ..update(&job, 1)
    };
    daemon.fleet.update_job(gate).await.expect("gate");
    let first = zstd::bulk::compress(&state[..BLOB_PART], 1).expect("packed");
    let first = Part::Zstd(first.into());
    let mut at = daemon.put_part(&job, &state, 0, first).await as usize;
    assert_eq!(at, BLOB_PART);
    while at < state.len() {
        let end = state.len().min(at + BLOB_PART);
        at = daemon
            .put_part(&job, &state, at, data(&state[at..end]))
            .await as usize;
    }
    let again = daemon.put_part(&job, &state, 0, data(&[])).await;
    assert_eq!(
        again as usize,
        state.len(),
        "what is stored is not sent again"
    );
    let checkpoint = v1::Checkpoint {
        blob: Some(blob_ref(&state)),
        serial: 1,
        lineage: "l".into(),
        ledger_seq: 0,
    };
    let told = v1::UpdateJobRequest {
        checkpoint: Some(checkpoint.clone()),
        ..update(&job, 2)
    };
    daemon.fleet.update_job(told).await.expect("checkpoint");
    let ended = v1::FinishJobRequest {
        state: Some(checkpoint),
        ..finish(&job, v1::Outcome::Succeeded)
    };
    daemon.fleet.finish_job(ended).await.expect("finish");
    assert_eq!(queue.job(&job.id).await.status(), v1::JobStatus::Succeeded);
    let build = v1::BuildWorkspaceRequest {
        name: "w".into(),
        transition: v1::Transition::Start.into(),
        ..v1::BuildWorkspaceRequest::default()
    };
    queue.admin().build_workspace(build).await.expect("again");
    let next = daemon.offered().await;
    daemon.confirms(&next).await;
    let brought = next.state.clone().expect("a state");
    assert_eq!(daemon.get_all(&next, &brought).await, state);
}

#[tokio::test]
async fn a_submit_wakes_a_short_call_and_without_one_it_is_answered() {
    let mut timings = timings();
    timings.acquire_poll = DEADLINE * 10;
    let queue = Queue::start_with(timings).await;
    let mut daemon = queue.daemon("one").await;
    let Reply::None(none) = daemon.ask(0).await else {
        panic!("a job that nobody submitted");
    };
    assert_eq!(none.reason, "idle");
    assert_eq!(listed(&queue).await.status, "idle");
    let asking = tokio::spawn(async move { daemon.offered().await });
    queue.waiting(1).await;
    let pushed = queue.push("t", &[]).await;
    let begun = std::time::Instant::now();
    assert_eq!(soon(asking).await.expect("a task").id, pushed.id);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_poll_tells_cancels_and_drain_and_ends_the_stream_that_was_left() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let mut control = daemon.control(Vec::new()).await;
    soon(control.message()).await.expect("alive");
    let mut other = daemon.fleet.clone();
    let request = v1::ControlRequest {
        slots: 1,
        version: "1.0".into(),
        ..v1::ControlRequest::default()
    };
    let mut poll = async || {
        let told = other.control_now(request.clone()).await;
        told.expect("an answer").into_inner()
    };
    assert_eq!(poll().await, v1::ControlNowReply::default());
    let ended = loop {
        match soon(control.message()).await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert!(ended.is_err(), "{ended:?}");
    let facts = listed(&queue).await.facts;
    assert_eq!(facts.get("transport").map(String::as_str), Some("unary"));
    queue.push("t", &[]).await;
    let job = daemon.offered().await;
    daemon.confirms(&job).await;
    let cancel = v1::CancelJobRequest {
        id: job.id.clone(),
        force: false,
    };
    queue.admin().cancel_job(cancel).await.expect("canceled");
    let drain = v1::DrainDaemonRequest { name: "one".into() };
    queue.admin().drain_daemon(drain).await.expect("drained");
    let told = poll().await;
    assert!(told.draining);
    assert_eq!(told.cancels.len(), 1);
    assert_eq!(told.cancels[0].job_id, job.id);
    let Reply::None(none) = daemon.ask(0).await else {
        panic!("a job for a daemon that drains");
    };
    assert_eq!(none.reason, "draining");
    let polls = queue.http("/metrics").await.1;
    assert!(
        polls.contains("provisionerd_control_polls_total 2"),
        "{polls}"
    );
    // A stream that is opened later counts again.
    let mut control = daemon.control(Vec::new()).await;
    soon(control.message()).await.expect("alive");
    until(async || !listed(&queue).await.facts.contains_key("transport")).await;
}

#[tokio::test]
async fn a_part_over_its_limit_is_refused_by_name() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.push("t", &[]).await;
    let job = daemon.offered().await;
    daemon.confirms(&job).await;
    let whole = noise(BLOB_PART + BLOB_INLINE);
    let mut refused = async |part: Part| {
        let request = v1::PutBlobPartRequest {
            header: Some(v1::PutBlobHeader {
                blob: Some(blob_ref(&whole)),
                job_id: job.id.clone(),
                lease_id: lease_id(&job),
            }),
            offset: 0,
            part: Some(part),
        };
        daemon.fleet.put_blob_part(request).await.expect_err("over")
    };
    let limit = BLOB_PART.to_string();
    let plain = refused(data(&whole[..=BLOB_PART])).await;
    assert!(plain.message().contains(&limit), "{plain:?}");
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).expect("packed");
    let bomb = refused(Part::Zstd(bomb.into())).await;
    assert!(bomb.message().contains(&limit), "{bomb:?}");
}
