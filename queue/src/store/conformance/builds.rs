//! Workspaces and the rules that keep a build from beginning.

use proto::v1::{self, JobStatus};

use super::world::{ORG, World, named, submission};
use crate::store::model::{BuildWorkspace, Finish, Forget};
use crate::store::{BaseVersion, Deleted, Error, Store};
use crate::words::{Outcome, Transition};

pub(crate) async fn a_create_makes_workspace_build_and_job_at_once<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let made = world.create("ws", &version).await;
    let workspace = made.workspace.expect("a workspace");
    let build = made.build.expect("a build");
    assert_eq!(build.job_id, made.id.to_string());
    assert_eq!(
        (build.number, build.transition()),
        (1, v1::Transition::Start)
    );
    assert_eq!(workspace.latest_build, Some(build));
    assert_eq!(workspace.template, "template");
    assert_eq!(made.job.status(), JobStatus::Pending);
    assert_eq!(made.job.workspace.as_deref(), Some("ws"));
}

pub(crate) async fn a_second_build_is_refused_while_one_runs<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let made = world.create("ws", &version).await;
    for transition in [Transition::Start, Transition::Stop, Transition::Delete] {
        let refused = world.build("ws", transition).await;
        assert!(matches!(refused, Err(Error::BuildRunning { job, .. }) if job == made.id));
    }
}

pub(crate) async fn a_build_in_between_makes_the_submit_fail<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    let base = world.store.build_base(named("ws"), BaseVersion::Own).await;
    let base = base.expect("a base");
    world.build("ws", Transition::Stop).await.expect("a build");
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    let build = BuildWorkspace {
        workspace: base.workspace,
        base: base.number,
        transition: Transition::Start,
        version: base.version.id,
        parameters: Vec::new(),
        forget: Forget::Refuse,
        submission: submission("ann"),
    };
    let raced = world.store.build_workspace(build).await;
    assert!(matches!(raced, Err(Error::BaseChanged { .. })));
}

pub(crate) async fn parameters_carry_to_the_next_base<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    let base = world.store.build_base(named("ws"), BaseVersion::Own).await;
    let base = base.expect("a base");
    let region = v1::ParameterValue {
        name: "region".to_owned(),
        value: "eu".to_owned(),
    };
    let build = BuildWorkspace {
        workspace: base.workspace,
        base: base.number,
        transition: Transition::Start,
        version: base.version.id,
        parameters: vec![region.clone()],
        forget: Forget::Refuse,
        submission: submission("ann"),
    };
    world.store.build_workspace(build).await.expect("a build");
    let held = world.take("worker").await;
    assert_eq!(held.header.parameters, std::slice::from_ref(&region));
    assert_eq!(held.header.previous_parameters, []);
    world.done(&held.finish(Outcome::Failed)).await;
    let base = world.store.build_base(named("ws"), BaseVersion::Own).await;
    assert_eq!(
        base.expect("a base").previous,
        std::slice::from_ref(&region)
    );
    world.build("ws", Transition::Stop).await.expect("a build");
    let held = world.take("worker").await;
    assert_eq!(held.header.previous_parameters, [region]);
}

pub(crate) async fn a_deleted_workspace_frees_its_name<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    world
        .build("ws", Transition::Delete)
        .await
        .expect("a build");
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    assert!(world.workspace("ws").await.deleted);
    let refused = world.build("ws", Transition::Start).await;
    assert!(matches!(refused, Err(Error::Deleted { .. })));
    world.create("ws", &version).await;
    assert!(!world.workspace("ws").await.deleted);
    let shown = |deleted| world.store.list_workspaces(ORG.to_owned(), None, deleted);
    assert_eq!(shown(Deleted::Hide).await.expect("a list").len(), 1);
    assert_eq!(shown(Deleted::Show).await.expect("a list").len(), 2);
}

pub(crate) async fn a_failed_delete_deletes_nothing<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    world
        .build("ws", Transition::Delete)
        .await
        .expect("a build");
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Failed)).await;
    assert!(!world.workspace("ws").await.deleted);
}

pub(crate) async fn unconfirmed_resources_refuse_a_delete_without_forget<S: Store>(
    world: World<S>,
) {
    let held = world.behind_the_gate("ws").await;
    let mut finish: Finish = held.finish(Outcome::Failed);
    finish.report.unconfirmed = vec![v1::UnconfirmedResource {
        address: "null_resource.a".to_owned(),
        action: v1::LedgerAction::Create.into(),
        ..v1::UnconfirmedResource::default()
    }];
    world.done(&finish).await;
    assert_eq!(world.workspace("ws").await.unconfirmed.len(), 1);
    let refused = world.build("ws", Transition::Delete).await;
    assert!(matches!(refused, Err(Error::Unconfirmed { count: 1, .. })));
    let forgotten = world
        .build_with("ws", Transition::Delete, Forget::Drop)
        .await;
    forgotten.expect("a build");
    assert_eq!(
        world.workspace("ws").await.unconfirmed.len(),
        1,
        "until it is deleted"
    );
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    assert_eq!(world.workspace("ws").await.unconfirmed, []);
}

pub(crate) async fn a_retry_builds_again_with_the_same_parameters<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let made = world.create("ws", &version).await;
    let early = world.retry(made.id, "").await;
    assert!(matches!(early, Err(Error::WrongStatus { .. })));
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Failed)).await;
    let again = world.retry(made.id, "of the retry").await;
    let again = again.expect("a retry");
    assert_ne!(again.id, made.id);
    assert_eq!(again.build.expect("a build").number, 2);
    let held = world.take("worker").await;
    assert_eq!(held.id, again.id);
    assert_eq!(held.header.trace_context["traceparent"], "of the retry");
    world.done(&held.finish(Outcome::Succeeded)).await;
    let old = world.retry(made.id, "").await;
    assert!(
        matches!(old, Err(Error::WrongStatus { .. })),
        "a newer build exists"
    );
}

pub(crate) async fn two_workspaces_of_one_owner_cannot_share_a_name<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let twice = world.try_create("ws", &version).await;
    assert!(matches!(twice, Err(Error::Exists { .. })));
    let jobs = world.store.list_jobs(super::world::all_jobs()).await;
    assert_eq!(jobs.expect("a list").len(), 2, "nothing of it was stored");
}
