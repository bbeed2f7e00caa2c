//! What a client asks for, and what becomes a job of it.

use proto::v1;
use proto::v1::tag_part::Part;
use tonic::{Code, Status};

use crate::harness::*;

#[tokio::test]
async fn all_parameter_problems_come_at_once_and_no_job_is_made() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.template("t", facts(), &mut daemon).await;
    let wrong = [("size", "99"), ("colour", "red")];
    let refused = create(&queue.admin(), "w", &wrong)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(code(&refused), "PARAMETER_INVALID");
    for part in [
        "99 is not within 1 and 8",
        "`colour`",
        "`name`: is required",
    ] {
        assert!(refused.message().contains(part), "{refused:?}");
    }
    let jobs = queue
        .admin()
        .list_jobs(v1::ListJobsRequest::default())
        .await;
    assert_eq!(
        jobs.expect("jobs").into_inner().jobs.len(),
        1,
        "the import alone"
    );
}

#[tokio::test]
async fn parameters_are_carried_from_build_to_build() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.template("t", facts(), &mut daemon).await;
    let given = [("name", "first"), ("once", "now"), ("size", "5")];
    create(&queue.admin(), "w", &given).await.expect("created");
    let job = daemon.take().await;
    assert_eq!(
        values(&job),
        [("name", "first"), ("size", "5"), ("once", "now")]
    );
    let metadata = job.metadata.clone().expect("metadata");
    assert_eq!(metadata.workspace_name, "w");
    assert_eq!(
        metadata.access_url,
        format!("http://{}", queue.service.grpc_addr())
    );
    end(&mut daemon, &job).await;

    let stopped = build(&queue.admin(), v1::Transition::Stop, &[]).await;
    stopped.expect("stop");
    let job = daemon.take().await;
    assert_eq!(
        values(&job),
        [("name", "first"), ("size", "5"), ("once", "")]
    );
    end(&mut daemon, &job).await;

    let shrunk = build(&queue.admin(), v1::Transition::Start, &[("size", "4")]).await;
    let shrunk = shrunk.expect_err("monotonic");
    assert!(
        shrunk.message().contains("4 is not within"),
        "the author's words: {shrunk:?}"
    );
    let renamed = build(&queue.admin(), v1::Transition::Start, &[("name", "second")]).await;
    assert!(
        renamed
            .expect_err("immutable")
            .message()
            .contains("cannot be changed")
    );
    build(&queue.admin(), v1::Transition::Start, &[("size", "6")])
        .await
        .expect("start");
    let job = daemon.take().await;
    assert_eq!(
        values(&job),
        [("name", "first"), ("size", "6"), ("once", "")]
    );
}

#[tokio::test]
async fn workspace_tags_are_laid_over_those_of_the_version() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let _live = daemon.control(Vec::new()).await;
    let mut tagged = facts();
    tagged.workspace_tags = vec![v1::WorkspaceTag {
        key: vec![part(Part::Literal("zone".into()))],
        value: vec![
            part(Part::Literal("z-".into())),
            part(Part::Parameter("name".into())),
        ],
    }];
    queue.template("t", tagged, &mut daemon).await;
    let reply = create(&queue.admin(), "w", &[("name", "eu")])
        .await
        .expect("created");
    let job = reply.job.expect("job");
    assert_eq!(job.tags.get("zone").map(String::as_str), Some("z-eu"));
    let reason = job.waiting_for.expect("nobody has that tag");
    assert!(reason.contains("zone=z-eu"), "{reason}");
}

#[tokio::test]
async fn a_member_sees_and_acts_on_their_own_only() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.template("t", facts(), &mut daemon).await;
    let (mut ann, mut bob) = (queue.member("ann").await, queue.member("bob").await);
    let made = create(&ann, "w", &[("name", "x")]).await.expect("created");
    let job = made.job.expect("job").id;
    let request = v1::GetJobRequest { id: job.clone() };
    assert_eq!(
        ann.get_job(request.clone())
            .await
            .expect("own")
            .into_inner()
            .owner,
        "ann"
    );
    let hidden = bob.get_job(request.clone()).await.expect_err("not bob's");
    assert_eq!(hidden.code(), Code::NotFound);
    let watched = bob.watch_job(request).await.expect_err("not bob's");
    assert_eq!(watched.code(), Code::NotFound);
    let cancel = v1::CancelJobRequest {
        id: job,
        force: false,
    };
    assert_eq!(
        bob.cancel_job(cancel).await.expect_err("not bob's").code(),
        Code::NotFound
    );
    let list = v1::ListWorkspacesRequest::default();
    assert!(
        bob.list_workspaces(list)
            .await
            .expect("list")
            .into_inner()
            .workspaces
            .is_empty()
    );
    let forged = v1::CreateWorkspaceRequest {
        name: "forged".into(),
        template: "t".into(),
        owner: "ann".into(),
        ..v1::CreateWorkspaceRequest::default()
    };
    let refused = bob.create_workspace(forged).await.expect_err("not as ann");
    assert_eq!(code(&refused), "ADMIN_ONLY");
    let found = v1::GetWorkspaceRequest {
        name: "w".into(),
        owner: String::new(),
    };
    let admin = queue
        .admin()
        .get_workspace(found)
        .await
        .expect("an admin finds it");
    assert_eq!(admin.into_inner().owner, "ann");
}

#[tokio::test]
async fn a_pending_job_is_cancelled_at_once() {
    let queue = Queue::start().await;
    let pushed = queue.push("waits", &[]).await;
    let cancel = v1::CancelJobRequest {
        id: pushed.id,
        force: false,
    };
    let view = queue
        .admin()
        .cancel_job(cancel)
        .await
        .expect("cancel")
        .into_inner();
    assert_eq!(view.status(), v1::JobStatus::Canceled);
}

#[tokio::test]
async fn a_state_is_pulled_as_it_was_put() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.template("t", facts(), &mut daemon).await;
    create(&queue.admin(), "w", &[("name", "x")])
        .await
        .expect("created");
    let job = daemon.take().await;
    let state = format!("{{\"serial\":1,\"filler\":\"{}\"}}", "y".repeat(300_000));
    let requests = put_requests(&blob_ref(state.as_bytes()), Some(&job), state.as_bytes());
    daemon
        .fleet
        .put_blob(tokio_stream::iter(requests))
        .await
        .expect("put");
    let mut gate = update(&job, 1);
    gate.gate = true;
    let reply = daemon
        .fleet
        .update_job(gate)
        .await
        .expect("gate")
        .into_inner();
    assert!(reply.gate_open);
    let mut ended = finish(&job, v1::Outcome::Succeeded);
    ended.state = Some(v1::Checkpoint {
        blob: Some(blob_ref(state.as_bytes())),
        serial: 1,
        lineage: "l".into(),
        ledger_seq: 0,
    });
    daemon.fleet.finish_job(ended).await.expect("finish");
    let pull = v1::PullStateRequest {
        workspace: "w".into(),
        ..v1::PullStateRequest::default()
    };
    let mut chunks = queue
        .admin()
        .pull_state(pull)
        .await
        .expect("pull")
        .into_inner();
    let mut pulled = Vec::new();
    while let Some(chunk) = soon(chunks.message()).await.expect("chunk") {
        pulled.extend_from_slice(&chunk.data);
    }
    assert!(pulled == state.as_bytes());
}

#[tokio::test]
async fn bad_names_and_engines_are_refused_before_anything_is_made() {
    let queue = Queue::start().await;
    let push = v1::PushTemplateRequest {
        name: "../x".into(),
        ..v1::PushTemplateRequest::default()
    };
    let refused = queue.admin().push_template(push).await.expect_err("name");
    assert_eq!(code(&refused), "INVALID_NAME");
    let push = v1::PushTemplateRequest {
        name: "x".into(),
        engine: "pulumi".into(),
        ..v1::PushTemplateRequest::default()
    };
    let refused = queue.admin().push_template(push).await.expect_err("engine");
    assert_eq!(code(&refused), "INVALID_ENGINE");
    let push = v1::PushTemplateRequest {
        name: "x".into(),
        archive: Some(blob_ref(b"never uploaded")),
        ..v1::PushTemplateRequest::default()
    };
    let refused = queue
        .admin()
        .push_template(push)
        .await
        .expect_err("archive");
    assert_eq!(code(&refused), "BLOB_MISSING");
}

#[tokio::test]
async fn a_deadline_of_more_than_thirty_days_is_refused() {
    let queue = Queue::start().await;
    let archive = queue.upload(b"archive").await;
    let push = |queue_deadline_ms, run_deadline_ms| v1::PushTemplateRequest {
        name: "x".into(),
        archive: Some(archive.clone()),
        queue_deadline_ms,
        run_deadline_ms,
        ..v1::PushTemplateRequest::default()
    };
    let most = 2_592_000_000;
    for request in [push(most + 1, 0), push(0, most + 1)] {
        let refused = queue.admin().push_template(request).await;
        let refused = refused.expect_err("too long");
        assert_eq!(code(&refused), "INVALID_REQUEST");
        assert!(refused.message().contains("2592000000 ms"), "{refused:?}");
    }
    let allowed = queue.admin().push_template(push(most, most)).await;
    allowed.expect("a push");
}

/// A required immutable name, a growing size, and something ephemeral.
fn facts() -> v1::TemplateFacts {
    let text = |name: &str| v1::RichParameter {
        name: name.into(),
        r#type: "string".into(),
        ..v1::RichParameter::default()
    };
    let name = v1::RichParameter {
        required: true,
        ..text("name")
    };
    let size = v1::RichParameter {
        r#type: "number".into(),
        mutable: true,
        default_value: "3".into(),
        validation_min: Some(1),
        validation_max: Some(8),
        validation_monotonic: "increasing".into(),
        validation_error: "{value} is not within {min} and {max}".into(),
        ..text("size")
    };
    let once = v1::RichParameter {
        mutable: true,
        ephemeral: true,
        ..text("once")
    };
    v1::TemplateFacts {
        start: Some(v1::Extraction {
            parameters: vec![name, size, once],
            ..v1::Extraction::default()
        }),
        ..v1::TemplateFacts::default()
    }
}

fn part(part: Part) -> v1::TagPart {
    v1::TagPart { part: Some(part) }
}

fn parameters(pairs: &[(&str, &str)]) -> Vec<v1::ParameterValue> {
    let value = |(name, value): &(&str, &str)| v1::ParameterValue {
        name: (*name).into(),
        value: (*value).into(),
    };
    pairs.iter().map(value).collect()
}

fn values(job: &v1::Job) -> Vec<(&str, &str)> {
    job.parameters
        .iter()
        .map(|p| (p.name.as_str(), p.value.as_str()))
        .collect()
}

async fn create(
    client: &Client,
    name: &str,
    given: &[(&str, &str)],
) -> Result<v1::BuildReply, Status> {
    let request = v1::CreateWorkspaceRequest {
        name: name.into(),
        template: "t".into(),
        parameters: parameters(given),
        ..v1::CreateWorkspaceRequest::default()
    };
    let reply = client.clone().create_workspace(request).await?;
    Ok(reply.into_inner())
}

async fn build(
    client: &Client,
    transition: v1::Transition,
    given: &[(&str, &str)],
) -> Result<v1::BuildReply, Status> {
    let request = v1::BuildWorkspaceRequest {
        name: "w".into(),
        transition: transition.into(),
        parameters: parameters(given),
        ..v1::BuildWorkspaceRequest::default()
    };
    let reply = client.clone().build_workspace(request).await?;
    Ok(reply.into_inner())
}

async fn end(daemon: &mut Daemon, job: &v1::Job) {
    let ended = finish(job, v1::Outcome::Succeeded);
    daemon.fleet.finish_job(ended).await.expect("finish");
}
