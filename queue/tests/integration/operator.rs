//! What a person does when something went wrong: try again, abandon, push a state,
//! decide on a late one.

use proto::v1;
use tonic::Status;

use crate::harness::*;

#[tokio::test]
async fn a_failed_build_is_tried_again_as_a_new_build() {
    let (queue, mut daemon) = workspace().await;
    let job = daemon.take().await;
    let running = retry(&queue, &job.id).await.expect_err("running");
    assert_eq!(code(&running), "WRONG_JOB_STATUS");
    end(&mut daemon, &finish(&job, v1::Outcome::Failed)).await;
    let again = retry(&queue, &job.id).await.expect("a build");
    let build = again.build.expect("build");
    assert_eq!(
        (build.number, build.transition()),
        (2, v1::Transition::Start)
    );
    let next = daemon.take().await;
    assert_eq!(next.id, again.job.expect("job").id);
    assert_ne!(next.id, job.id);
}

#[tokio::test]
async fn a_failed_import_is_tried_again_and_becomes_active() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.push("t", &[]).await;
    let job = daemon.take().await;
    end(&mut daemon, &finish(&job, v1::Outcome::Failed)).await;
    let reply = retry(&queue, &job.id).await.expect("retried");
    assert!(reply.workspace.is_none() && reply.build.is_none());
    let again = daemon.take().await;
    assert_eq!(again.template_version_id, job.template_version_id);
    let mut done = finish(&again, v1::Outcome::Succeeded);
    done.facts = Some(v1::TemplateFacts::default());
    end(&mut daemon, &done).await;
    create(&queue, "w").await.expect("the version is active");
}

#[tokio::test]
async fn an_abandoned_job_gets_its_verdict_at_once_and_holds_starts_until_forced() {
    let (queue, mut daemon) = workspace().await;
    let job = behind_the_gate(&mut daemon).await;
    let view = abandon(&queue, &job.id, false).await.expect("abandoned");
    assert_eq!(view.status(), v1::JobStatus::Failed);
    assert_eq!(view.error.expect("error").code, "WORKER_LOST");
    let held = start(&queue).await.expect_err("its engine may run");
    assert_eq!(code(&held), "OLD_ENGINE_MAY_RUN");
    let fenced = daemon.fleet.update_job(update(&job, 2)).await;
    let fenced = fenced.expect("answered").into_inner();
    assert_eq!(fenced.verdict(), v1::UpdateVerdict::Fenced);
    abandon(&queue, &job.id, true).await.expect("forced");
    start(&queue).await.expect("the hold is lifted");
    let ended = abandon(&queue, &job.id, false).await.expect_err("ended");
    assert_eq!(code(&ended), "WRONG_JOB_STATUS");
}

#[tokio::test]
async fn a_late_state_waits_and_is_adopted() {
    let (queue, waiting) = late_state().await;
    let held = start(&queue).await.expect_err("a decision is due");
    assert_eq!(code(&held), "STATE_CONFLICT");
    let adopted = queue.admin().adopt_state(resolve(&waiting)).await;
    assert!(adopted.expect("adopted").into_inner().current);
    assert_eq!(pull(&queue).await, state(7, "l"));
    start(&queue).await.expect("decided");
    let twice = queue.admin().adopt_state(resolve(&waiting)).await;
    assert_eq!(code(&twice.expect_err("a build runs")), "BUILD_RUNNING");
}

#[tokio::test]
async fn a_late_state_that_is_discarded_stays_in_the_history() {
    let (queue, waiting) = late_state().await;
    let discarded = queue.admin().discard_state(resolve(&waiting)).await;
    let discarded = discarded.expect("discarded").into_inner();
    assert!(!discarded.current && !discarded.waiting);
    assert_eq!(pull(&queue).await, state(1, "pushed"));
    let sources: Vec<String> = history(&queue)
        .await
        .into_iter()
        .map(|it| it.source)
        .collect();
    assert_eq!(sources, ["late", "push"]);
    let twice = queue.admin().discard_state(resolve(&waiting)).await;
    assert_eq!(code(&twice.expect_err("decided")), "STATE_NOT_WAITING");
    start(&queue).await.expect("decided");
}

#[tokio::test]
async fn a_pushed_state_is_known_by_what_it_says_itself() {
    let (queue, mut daemon) = workspace().await;
    let job = daemon.take().await;
    let busy = push(&queue, &state(1, "l"), true).await.expect_err("busy");
    assert_eq!(code(&busy), "BUILD_RUNNING");
    end(&mut daemon, &finish(&job, v1::Outcome::Failed)).await;
    for nothing in [
        "",
        " ",
        "{}",
        "garbage",
        "{\"version\":4,\"serial\":1,\"lin",
    ] {
        for force in [false, true] {
            let refused = push(&queue, nothing, force).await.expect_err("no state");
            assert_eq!(code(&refused), "STATE_INVALID", "{nothing:?}");
        }
    }
    let pushed = push(&queue, &state(5, "l"), false)
        .await
        .expect("the first");
    assert_eq!((pushed.serial, pushed.lineage.as_str()), (5, "l"));
    for (serial, lineage) in [(4, "l"), (6, "other")] {
        let other = state(serial, lineage);
        let refused = push(&queue, &other, false).await.expect_err("conflict");
        assert_eq!(code(&refused), "STATE_MISMATCH");
    }
    let forced = push(&queue, &state(4, "l"), true).await.expect("forced");
    assert!(forced.current && forced.serial == 4);
}

#[tokio::test]
async fn a_large_pushed_state_is_read_and_one_never_uploaded_is_refused() {
    let (queue, mut daemon) = workspace().await;
    let job = daemon.take().await;
    end(&mut daemon, &finish(&job, v1::Outcome::Failed)).await;
    let filler = "x".repeat(3_000_000);
    let large = format!("{{\"filler\":\"{filler}\",{}", &state(9, "l")[1..]);
    let pushed = push(&queue, &large, false).await.expect("pushed");
    assert_eq!(pushed.serial, 9);
    let request = v1::PushStateRequest {
        workspace: "w".into(),
        state: Some(blob_ref(b"never sent")),
        ..v1::PushStateRequest::default()
    };
    let refused = queue.admin().push_state(request).await;
    assert_eq!(code(&refused.expect_err("missing")), "BLOB_MISSING");
}

/// A workspace `w` of a template `t`, whose first build waits.
async fn workspace() -> (Queue, Daemon) {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let facts = v1::TemplateFacts::default();
    queue.template("t", facts, &mut daemon).await;
    create(&queue, "w").await.expect("created");
    (queue, daemon)
}

async fn behind_the_gate(daemon: &mut Daemon) -> v1::Job {
    let job = daemon.take().await;
    let gate = v1::UpdateJobRequest {
        gate: true,
        ..update(&job, 1)
    };
    let reply = daemon.fleet.update_job(gate).await.expect("answered");
    assert!(reply.into_inner().gate_open);
    job
}

/// A workspace whose abandoned build came back with a state, after another was pushed.
async fn late_state() -> (Queue, String) {
    let (queue, mut daemon) = workspace().await;
    let job = behind_the_gate(&mut daemon).await;
    abandon(&queue, &job.id, true).await.expect("abandoned");
    let pushed = push(&queue, &state(1, "pushed"), false).await;
    pushed.expect("pushed");
    let late = state(7, "l");
    let requests = put_requests(&blob_ref(late.as_bytes()), Some(&job), late.as_bytes());
    let put = daemon.fleet.put_blob(tokio_stream::iter(requests)).await;
    put.expect("a past lease may still bring a state");
    let mut report = finish(&job, v1::Outcome::Succeeded);
    report.state = Some(v1::Checkpoint {
        blob: Some(blob_ref(late.as_bytes())),
        serial: 7,
        lineage: "l".into(),
        ledger_seq: 0,
    });
    let reply = daemon.fleet.finish_job(report).await.expect("stored");
    assert_eq!(
        reply.into_inner().disposition(),
        v1::FinishDisposition::Late
    );
    let waiting = history(&queue).await.into_iter().find(|it| it.waiting);
    (queue, waiting.expect("it waits").id)
}

fn state(serial: u64, lineage: &str) -> String {
    format!(r#"{{"version":4,"serial":{serial},"lineage":"{lineage}","resources":[]}}"#)
}

async fn end(daemon: &mut Daemon, report: &v1::FinishJobRequest) {
    let reply = daemon.fleet.finish_job(report.clone()).await;
    reply.expect("stored");
}

async fn create(queue: &Queue, name: &str) -> Result<v1::BuildReply, Status> {
    let request = v1::CreateWorkspaceRequest {
        name: name.into(),
        template: "t".into(),
        ..v1::CreateWorkspaceRequest::default()
    };
    let reply = queue.admin().create_workspace(request).await?;
    Ok(reply.into_inner())
}

async fn start(queue: &Queue) -> Result<v1::BuildReply, Status> {
    let request = v1::BuildWorkspaceRequest {
        name: "w".into(),
        transition: v1::Transition::Start.into(),
        ..v1::BuildWorkspaceRequest::default()
    };
    let reply = queue.admin().build_workspace(request).await?;
    Ok(reply.into_inner())
}

async fn retry(queue: &Queue, id: &str) -> Result<v1::BuildReply, Status> {
    let request = v1::GetJobRequest { id: id.into() };
    let reply = queue.admin().retry_job(request).await?;
    Ok(reply.into_inner())
}

async fn abandon(queue: &Queue, id: &str, force: bool) -> Result<v1::JobView, Status> {
    let id = id.into();
    let request = v1::AbandonJobRequest { id, force };
    let reply = queue.admin().abandon_job(request).await?;
    Ok(reply.into_inner())
}

/// Pushes with a serial and a lineage that are not true.
async fn push(queue: &Queue, state: &str, force: bool) -> Result<v1::StateRecord, Status> {
    let request = v1::PushStateRequest {
        workspace: "w".into(),
        state: Some(queue.upload(state.as_bytes()).await),
        serial: 1_000,
        lineage: "l".into(),
        force,
        ..v1::PushStateRequest::default()
    };
    let reply = queue.admin().push_state(request).await?;
    Ok(reply.into_inner())
}

fn resolve(state_id: &str) -> v1::ResolveStateRequest {
    v1::ResolveStateRequest {
        workspace: "w".into(),
        state_id: state_id.into(),
        ..v1::ResolveStateRequest::default()
    }
}

async fn history(queue: &Queue) -> Vec<v1::StateRecord> {
    let request = v1::StateHistoryRequest {
        workspace: "w".into(),
        ..v1::StateHistoryRequest::default()
    };
    let reply = queue.admin().state_history(request).await;
    reply.expect("history").into_inner().states
}

async fn pull(queue: &Queue) -> String {
    let request = v1::PullStateRequest {
        workspace: "w".into(),
        ..v1::PullStateRequest::default()
    };
    let mut chunks = queue
        .admin()
        .pull_state(request)
        .await
        .expect("pull")
        .into_inner();
    let mut pulled = Vec::new();
    while let Some(chunk) = soon(chunks.message()).await.expect("chunk") {
        pulled.extend_from_slice(&chunk.data);
    }
    String::from_utf8(pulled).expect("text")
}
