//! What takes resources off a workspace's list of doubts, and endings that no job took, as
//! people meet them: over gRPC, with states that are read.

use proto::v1;

use crate::harness::{Daemon, Queue, blob_ref, code, finish, put_requests};

/// A state of lineage `l` with objects by name and id, all of type `a`.
fn state(serial: u64, objects: &[(&str, &str)]) -> Vec<u8> {
    let resource = |(name, id): &(&str, &str)| {
        format!(
            r#"{{"mode":"managed","type":"a","name":"{name}","instances":[{{"attributes":{{"id":"{id}"}}}}]}}"#
        )
    };
    let resources: Vec<String> = objects.iter().map(resource).collect();
    let resources = resources.join(",");
    format!(r#"{{"version":4,"serial":{serial},"lineage":"l","resources":[{resources}]}}"#)
        .into_bytes()
}

fn made(address: &str, id: &str) -> v1::UnconfirmedResource {
    v1::UnconfirmedResource {
        address: address.to_owned(),
        action: v1::LedgerAction::Create.into(),
        id: id.to_owned(),
        reason: "it was created, but no saved state holds it".to_owned(),
    }
}

/// A daemon puts a state for a job it holds.
async fn put(daemon: &mut Daemon, job: &v1::Job, serial: u64, bytes: &[u8]) -> v1::Checkpoint {
    let blob = blob_ref(bytes);
    let requests = put_requests(&blob, Some(job), bytes);
    let put = daemon.fleet.put_blob(tokio_stream::iter(requests)).await;
    put.expect("put");
    v1::Checkpoint {
        blob: Some(blob),
        serial,
        lineage: "l".to_owned(),
        ..v1::Checkpoint::default()
    }
}

async fn open_addresses(queue: &Queue) -> Vec<String> {
    let request = v1::GetWorkspaceRequest {
        name: "w".to_owned(),
        owner: String::new(),
    };
    let found = queue.admin().get_workspace(request).await.expect("there");
    let open = found.into_inner().unconfirmed.into_iter();
    open.map(|resource| resource.address).collect()
}

/// A workspace whose first build failed and left three resources in doubt: two that may
/// exist with an id, one without.
async fn in_doubt(queue: &Queue, daemon: &mut Daemon) {
    let facts = v1::TemplateFacts::default();
    queue.template("t", facts, daemon).await;
    let request = v1::CreateWorkspaceRequest {
        name: "w".to_owned(),
        template: "t".to_owned(),
        ..v1::CreateWorkspaceRequest::default()
    };
    queue.admin().create_workspace(request).await.expect("made");
    let job = daemon.take().await;
    let request = v1::FinishJobRequest {
        state: Some(put(daemon, &job, 3, &state(3, &[])).await),
        unconfirmed: vec![
            made("a.one", "i-1"),
            made("a.two", "i-2"),
            made("a.three", ""),
        ],
        ..finish(&job, v1::Outcome::Failed)
    };
    daemon.fleet.finish_job(request).await.expect("finish");
    assert_eq!(open_addresses(queue).await.len(), 3);
}

async fn push(queue: &Queue, serial: u64, objects: &[(&str, &str)]) {
    let request = v1::PushStateRequest {
        workspace: "w".to_owned(),
        state: Some(queue.upload(&state(serial, objects)).await),
        ..v1::PushStateRequest::default()
    };
    queue.admin().push_state(request).await.expect("pushed");
}

#[tokio::test]
async fn a_pushed_state_takes_off_the_list_what_it_shows() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    in_doubt(&queue, &mut daemon).await;
    push(&queue, 4, &[("one", "i-1")]).await;
    assert_eq!(open_addresses(&queue).await, ["a.three", "a.two"]);
    push(
        &queue,
        5,
        &[("one", "i-1"), ("two", "i-9"), ("three", "i-3")],
    )
    .await;
    assert_eq!(open_addresses(&queue).await, ["a.two"], "another object");
}

#[tokio::test]
async fn the_state_of_a_later_build_takes_off_the_list_what_it_shows() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    in_doubt(&queue, &mut daemon).await;
    let request = v1::BuildWorkspaceRequest {
        name: "w".to_owned(),
        transition: v1::Transition::Start.into(),
        ..v1::BuildWorkspaceRequest::default()
    };
    queue.admin().build_workspace(request).await.expect("build");
    let job = daemon.take().await;
    let bytes = state(4, &[("one", "i-1"), ("three", "i-3")]);
    let request = v1::FinishJobRequest {
        state: Some(put(&mut daemon, &job, 4, &bytes).await),
        ..finish(&job, v1::Outcome::Succeeded)
    };
    daemon.fleet.finish_job(request).await.expect("finish");
    assert_eq!(open_addresses(&queue).await, ["a.three", "a.two"]);
}

#[tokio::test]
async fn a_person_forgets_by_address_and_is_told_what() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    in_doubt(&queue, &mut daemon).await;
    let forget = |addresses: &[&str]| v1::ForgetResourcesRequest {
        name: "w".to_owned(),
        addresses: addresses.iter().map(|it| (*it).to_owned()).collect(),
        ..v1::ForgetResourcesRequest::default()
    };
    let mut admin = queue.admin();
    let refused = admin.forget_resources(forget(&["a.nine"])).await;
    assert_eq!(code(&refused.expect_err("not in doubt")), "NOT_FOUND");
    let refused = admin.forget_resources(forget(&[])).await;
    assert_eq!(code(&refused.expect_err("none named")), "INVALID_REQUEST");
    let reply = admin.forget_resources(forget(&["a.one", "a.two"])).await;
    let reply = reply.expect("forgotten").into_inner();
    let ids: Vec<_> = reply.forgotten.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["i-1", "i-2"]);
    let left = reply.workspace.expect("a workspace").unconfirmed;
    assert_eq!(left.len(), 1);
    let mut stranger = queue.member("bob").await;
    let refused = stranger.forget_resources(forget(&["a.three"])).await;
    assert_eq!(code(&refused.expect_err("not theirs")), "NOT_FOUND");
    assert_eq!(open_addresses(&queue).await, ["a.three"]);
}

#[tokio::test]
async fn the_state_of_an_ending_that_no_job_took_is_fetched_by_admins_alone() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    queue.push("t", &[]).await;
    let mut job = daemon.take().await;
    job.id = proto::ids::JobId::generate().to_string();
    let bytes = state(7, &[("one", "i-1")]);
    let request = v1::FinishJobRequest {
        state: Some(put(&mut daemon, &job, 7, &bytes).await),
        ..finish(&job, v1::Outcome::Succeeded)
    };
    let reply = daemon.fleet.finish_job(request).await.expect("kept");
    let disposition = reply.into_inner().disposition();
    assert_eq!(disposition, v1::FinishDisposition::Unclaimed);
    let mut admin = queue.admin();
    let listed = admin
        .list_unclaimed(v1::ListUnclaimedRequest::default())
        .await;
    let listed = listed.expect("a list").into_inner().finishes;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].job_id, job.id);
    assert_eq!(listed[0].daemon, "one");
    let id = listed[0].id;
    let mut chunks = admin
        .pull_unclaimed(v1::PullUnclaimedRequest { id })
        .await
        .expect("a stream")
        .into_inner();
    let mut fetched = Vec::new();
    while let Some(chunk) = chunks.message().await.expect("a chunk") {
        fetched.extend(chunk.data);
    }
    assert_eq!(fetched, bytes);
    let mut member = queue.member("bob").await;
    let refused = member
        .list_unclaimed(v1::ListUnclaimedRequest::default())
        .await;
    assert_eq!(code(&refused.expect_err("no admin")), "ADMIN_ONLY");
    let refused = member.pull_unclaimed(v1::PullUnclaimedRequest { id }).await;
    assert_eq!(code(&refused.expect_err("no admin")), "ADMIN_ONLY");
    let discard = v1::DiscardUnclaimedRequest { id };
    let refused = member.discard_unclaimed(discard).await;
    assert_eq!(code(&refused.expect_err("no admin")), "ADMIN_ONLY");
    let gone = admin.discard_unclaimed(discard).await.expect("discarded");
    assert_eq!(gone.into_inner().job_id, job.id);
    let again = admin.discard_unclaimed(discard).await;
    assert_eq!(code(&again.expect_err("gone")), "NOT_FOUND");
    let none = admin.pull_unclaimed(v1::PullUnclaimedRequest { id: 99 });
    assert_eq!(code(&none.await.expect_err("none")), "NOT_FOUND");
}
