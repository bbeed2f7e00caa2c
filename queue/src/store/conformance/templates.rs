//! Templates, versions, imports.

use proto::v1;

use super::world::{ORG, World, submission};
use crate::store::model::{Activate, PlanTemplate, PushTemplate, VersionSelector};
use crate::store::{Error, Store};
use crate::words::Outcome;

async fn active<S: Store>(world: &World<S>) -> Option<u32> {
    let template = world
        .store
        .template(ORG.to_owned(), "template".to_owned())
        .await;
    let version = template.expect("a template").active_version;
    version.map(|version| version.number)
}

pub(crate) async fn a_successful_import_becomes_active_and_a_failed_one_never<S: Store>(
    world: World<S>,
) {
    world.push("template").await;
    assert_eq!(active(&world).await, None);
    let held = world.take("worker").await;
    let mut finish = held.finish(Outcome::Succeeded);
    finish.report.facts = Some(v1::TemplateFacts {
        lock_file: b"lock".to_vec(),
        ..v1::TemplateFacts::default()
    });
    world.done(&finish).await;
    assert_eq!(active(&world).await, Some(1));
    let facts = world.job(held.id).await.facts.expect("facts");
    assert_eq!(facts.lock_file, b"lock");
    world.push("template").await;
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Failed)).await;
    assert_eq!(active(&world).await, Some(1));
    let versions = world
        .store
        .template_versions(ORG.to_owned(), "template".to_owned())
        .await;
    let versions = versions.expect("versions");
    assert_eq!(versions[0].import_status(), v1::JobStatus::Failed);
    assert!(versions[1].active);
}

pub(crate) async fn an_older_import_that_ends_later_does_not_take_over<S: Store>(world: World<S>) {
    world.push("template").await;
    let first = world.take("worker").await;
    world.push("template").await;
    let second = world.take("worker").await;
    world.done(&second.finish(Outcome::Succeeded)).await;
    world.done(&first.finish(Outcome::Succeeded)).await;
    assert_eq!(active(&world).await, Some(2));
}

pub(crate) async fn promote_takes_only_imported_versions<S: Store>(world: World<S>) {
    world.template("template").await;
    let (second, _) = world.push("template").await;
    let promote = |version| {
        world
            .store
            .promote(ORG.to_owned(), "template".to_owned(), version)
    };
    let early = promote(VersionSelector::Id(second.id)).await;
    assert!(matches!(early, Err(Error::NotImported { version: 2, .. })));
    let unknown = promote(VersionSelector::Number(9)).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    let back = promote(VersionSelector::Number(1)).await.expect("promoted");
    assert_eq!(back.active_version.expect("active").number, 1);
}

pub(crate) async fn secrets_do_not_leave_the_store_in_views<S: Store>(world: World<S>) {
    let secret = v1::VariableValue {
        name: "password".to_owned(),
        value: "hunter2".to_owned(),
        sensitive: true,
    };
    let push = PushTemplate {
        organization: ORG.to_owned(),
        template: "template".to_owned(),
        archive: world.upload(b"archive").await,
        variables: vec![secret.clone()],
        engine: String::new(),
        activate: Activate::OnSuccess,
        tags: submission("ann").tags,
        submission: submission("ann"),
    };
    world.store.push_template(push).await.expect("a push");
    let held = world.take("worker").await;
    assert_eq!(held.header.variables, [secret], "the worker needs it");
    let mut finish = held.finish(Outcome::Succeeded);
    finish.report.extraction = Some(extraction_with_secrets());
    world.done(&finish).await;
    let versions = world
        .store
        .template_versions(ORG.to_owned(), "template".to_owned())
        .await;
    assert_eq!(versions.expect("versions")[0].variables[0].value, "");
    let shown = format!("{:?}", world.job(held.id).await);
    assert!(shown.contains("an agent"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

pub(crate) async fn the_import_says_which_values_are_secret<S: Store>(world: World<S>) {
    let value = |name: &str| v1::VariableValue {
        name: name.to_owned(),
        value: "hunter2".to_owned(),
        sensitive: false,
    };
    let push = PushTemplate {
        organization: ORG.to_owned(),
        template: "template".to_owned(),
        archive: world.upload(b"archive").await,
        variables: vec![value("password"), value("region")],
        engine: String::new(),
        activate: Activate::OnSuccess,
        tags: submission("ann").tags,
        submission: submission("ann"),
    };
    let (version, _) = world.store.push_template(push).await.expect("a push");
    assert_eq!(shown_values(&world).await, ["", ""], "nothing is known yet");
    let held = world.take("worker").await;
    let mut finish = held.finish(Outcome::Succeeded);
    let declared = |name: &str, sensitive| v1::TemplateVariable {
        name: name.to_owned(),
        default_value: "hunter3".to_owned(),
        sensitive,
        ..v1::TemplateVariable::default()
    };
    finish.report.facts = Some(v1::TemplateFacts {
        variables: vec![declared("password", true), declared("region", false)],
        ..v1::TemplateFacts::default()
    });
    world.done(&finish).await;
    assert_eq!(shown_values(&world).await, ["", "hunter2"]);
    let facts = world.job(held.id).await.facts.expect("facts");
    assert_eq!(facts.variables[0].default_value, "");
    let built = world.create("w", &version).await;
    let held = world.take("worker").await;
    assert_eq!(held.id, built.id);
    let marks: Vec<_> = held
        .header
        .variables
        .iter()
        .map(|it| it.sensitive)
        .collect();
    assert_eq!(marks, [true, false]);
    assert_eq!(
        held.header.variables[0].value, "hunter2",
        "a worker needs it"
    );
}

async fn shown_values<S: Store>(world: &World<S>) -> Vec<String> {
    let versions = world
        .store
        .template_versions(ORG.to_owned(), "template".to_owned())
        .await;
    let newest = versions.expect("versions").swap_remove(0);
    newest.variables.into_iter().map(|it| it.value).collect()
}

fn extraction_with_secrets() -> v1::Extraction {
    let agent = v1::Agent {
        name: "an agent".to_owned(),
        auth: Some(v1::agent::Auth::Token("hunter2".to_owned())),
        ..v1::Agent::default()
    };
    let metadata = v1::ResourceMetadata {
        key: "password".to_owned(),
        value: "hunter2".to_owned(),
        sensitive: true,
        is_null: false,
    };
    v1::Extraction {
        resources: vec![v1::Resource {
            agents: vec![agent],
            metadata: vec![metadata],
            ..v1::Resource::default()
        }],
        ..v1::Extraction::default()
    }
}

pub(crate) async fn a_dry_run_needs_an_imported_version<S: Store>(world: World<S>) {
    let (version, _) = world.push("template").await;
    let plan = PlanTemplate {
        organization: ORG.to_owned(),
        version: version.id,
        parameters: Vec::new(),
        submission: submission("ann"),
    };
    let early = world.store.plan_template(plan.clone()).await;
    assert!(matches!(early, Err(Error::NotImported { .. })));
    let active = world.store.imported_version(
        ORG.to_owned(),
        "template".to_owned(),
        VersionSelector::Active,
    );
    assert!(matches!(active.await, Err(Error::NoActiveVersion { .. })));
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    let made = world.store.plan_template(plan).await.expect("a job");
    assert_eq!(made.job.kind(), v1::JobKind::TemplateDryRun);
    assert_eq!(world.take("worker").await.id, made.id);
}
