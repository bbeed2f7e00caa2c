//! The audit log: what was done stands in it, what was not done does not, and it is read by
//! pages.

use std::sync::Arc;

use std::collections::HashMap;

use proto::v1;

use super::world::{ORG, World, client, named, started, submission, untagged};
use crate::store::model::{
    Abandon, Act, Activate, Actor, AuditEntry, AuditFilter, BuildWorkspace, CreateWorkspace, Drain,
    Finish, Forget, NewKey, NewToken, OwnerProfile, PlanTemplate, PushState, PushTemplate, Replace,
    Role, SetLimit, Update, VersionSelector,
};
use crate::store::{BaseVersion, Error, Store};
use crate::words::{Cancel, LimitOf, Outcome, Transition};

fn act(call: &'static str, object: &str) -> Act {
    Act {
        organization: ORG.to_owned(),
        actor: Actor::Token {
            name: "ci".to_owned(),
            owner: "ann".to_owned(),
        },
        call: call.into(),
        object: object.to_owned(),
        peer: "192.0.2.7".to_owned(),
    }
}

fn everything() -> AuditFilter {
    AuditFilter {
        organization: ORG.to_owned(),
        limit: 1_000,
        ..AuditFilter::default()
    }
}

async fn noted<S: Store>(world: &World<S>, filter: AuditFilter) -> Vec<v1::AuditEntry> {
    world.store.audit(filter).await.expect("a page").entries
}

/// Entries of calls, without the verdicts.
async fn calls<S: Store>(world: &World<S>) -> Vec<v1::AuditEntry> {
    let mut all = noted(world, everything()).await;
    all.retain(|entry| entry.call != "Verdict");
    all
}

/// The store on behalf of a client.
fn by<S: Store>(world: &World<S>, call: &'static str) -> S {
    world.store.acting(Arc::new(act(call, "thing")))
}

/// What one transition has added.
async fn adds<S: Store>(world: &World<S>, call: &str, before: usize) -> v1::AuditEntry {
    let all = calls(world).await;
    assert_eq!(all.len(), before + 1, "{call} leaves one line");
    let entry = all[0].clone();
    assert_eq!(entry.call, call);
    assert_eq!((entry.outcome.as_str(), entry.times), ("done", 1));
    assert_eq!((entry.actor.as_str(), entry.owner.as_str()), ("ci", "ann"));
    assert_eq!(entry.peer, "192.0.2.7");
    entry
}

/// Runs a transition on behalf of a client, which leaves one line.
macro_rules! leaves {
    ($world:ident, $call:literal, $method:ident($($argument:expr),*)) => {{
        let before = calls(&$world).await.len();
        let answer = by(&$world, $call).$method($($argument),*).await;
        let answer = answer.expect($call);
        let entry = adds(&$world, $call, before).await;
        (answer, entry)
    }};
}

pub(crate) async fn whoever_changes_accounts_is_noted<S: Store>(world: World<S>) {
    let key = NewKey {
        organization: ORG.to_owned(),
        name: "new".to_owned(),
        tags: untagged(),
        hash: [7; 32],
    };
    let token = NewToken {
        organization: None,
        name: "new".to_owned(),
        owner: "ann".to_owned(),
        role: Role::Member,
        hash: [8; 32],
    };
    let owner = OwnerProfile {
        name: "ann".to_owned(),
        ..OwnerProfile::default()
    };
    leaves!(
        world,
        "CreateOrganization",
        create_organization("o".to_owned())
    );
    leaves!(world, "CreateKey", create_key(key));
    leaves!(
        world,
        "DeleteKey",
        delete_key(ORG.to_owned(), "new".to_owned())
    );
    leaves!(world, "CreateToken", create_token(token));
    leaves!(world, "DeleteToken", delete_token("new".to_owned()));
    leaves!(world, "PutOwner", put_owner(ORG.to_owned(), owner));
    let limit = SetLimit {
        organization: ORG.to_owned(),
        of: LimitOf::Owner,
        name: "ann".to_owned(),
        most: Some(3),
    };
    leaves!(world, "SetLimit", set_limit(limit));
}

pub(crate) async fn whoever_changes_templates_is_noted<S: Store>(world: World<S>) {
    let push = PushTemplate {
        organization: ORG.to_owned(),
        template: "t".to_owned(),
        archive: world.put(b"archive", client(ORG, "ann")).await.0,
        variables: Vec::new(),
        engine: String::new(),
        activate: Activate::OnSuccess,
        tags: untagged(),
        submission: submission("ann"),
    };
    let ((version, submitted), entry) = leaves!(world, "PushTemplate", push_template(push));
    assert_eq!(
        entry.job_id,
        Some(submitted.id.to_string()),
        "the job it made"
    );
    let held = world.take("importer").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    let first = VersionSelector::Number(1);
    leaves!(
        world,
        "Promote",
        promote(ORG.to_owned(), "t".to_owned(), first)
    );
    let plan = PlanTemplate {
        organization: ORG.to_owned(),
        version: version.id,
        parameters: Vec::new(),
        submission: submission("ann"),
    };
    let (planned, entry) = leaves!(world, "PlanTemplate", plan_template(plan));
    assert_eq!(entry.job_id, Some(planned.id.to_string()));
    leaves!(
        world,
        "Cancel",
        cancel(ORG.to_owned(), planned.id, Cancel::Cancel)
    );
    let (again, entry) = leaves!(
        world,
        "Retry",
        retry(ORG.to_owned(), planned.id, HashMap::new())
    );
    assert_eq!(entry.job_id, Some(again.id.to_string()));
    let drain = (ORG.to_owned(), "importer".to_owned());
    leaves!(world, "Drain", set_drain(drain.0, drain.1, Drain::On));
}

pub(crate) async fn whoever_changes_a_workspace_is_noted<S: Store>(world: World<S>) {
    let version = world.template("t").await;
    let create = CreateWorkspace {
        workspace: named("ws"),
        version: version.id,
        parameters: Vec::new(),
        submission: submission("ann"),
    };
    let (made, entry) = leaves!(world, "CreateWorkspace", create_workspace(create));
    assert_eq!(entry.job_id, Some(made.id.to_string()));
    let held = world.take("worker").await;
    world.open_gate(&held, 1).await;
    let update = Update {
        ledger: vec![started(1, "a.b")],
        ..held.update(2)
    };
    world.tell(update).await;
    let job = held.id;
    leaves!(
        world,
        "Abandon",
        abandon(ORG.to_owned(), job, Abandon::Force)
    );
    leaves!(world, "Forget", forget(named("ws"), vec!["a.b".to_owned()]));
    let push = PushState {
        workspace: named("ws"),
        by: "ann".to_owned(),
        blob: world.state(3, 0).await.blob,
        serial: 3,
        lineage: "pushed".to_owned(),
        replace: Replace::Continue,
    };
    leaves!(world, "PushState", push_state(push));
    let late = Finish {
        state: Some(world.state(9, 1).await),
        ..held.finish(Outcome::Succeeded)
    };
    world.done(&late).await;
    let waiting = world.waiting("ws").await;
    leaves!(world, "DiscardState", discard_state(named("ws"), waiting));
    let base = world.store.build_base(named("ws"), BaseVersion::Own).await;
    let base = base.expect("a base");
    let build = BuildWorkspace {
        workspace: base.workspace,
        base: base.number,
        transition: Transition::Start,
        version: base.version.id,
        parameters: Vec::new(),
        forget: Forget::Refuse,
        submission: submission("ann"),
    };
    leaves!(world, "BuildWorkspace", build_workspace(build));
}

pub(crate) async fn whoever_adopts_a_state_is_noted<S: Store>(world: World<S>) {
    let version = world.template("t").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    world.open_gate(&held, 1).await;
    world.pass(600).await;
    let push = PushState {
        workspace: named("ws"),
        by: "ann".to_owned(),
        blob: world.state(20, 0).await.blob,
        serial: 20,
        lineage: "other".to_owned(),
        replace: Replace::Force,
    };
    world.store.push_state(push).await.expect("pushed");
    let late = Finish {
        state: Some(world.state(21, 1).await),
        ..held.finish(Outcome::Succeeded)
    };
    world.done(&late).await;
    let waiting = world.waiting("ws").await;
    leaves!(world, "AdoptState", adopt_state(named("ws"), waiting));
}

pub(crate) async fn what_was_not_done_leaves_no_line<S: Store>(world: World<S>) {
    let before = calls(&world).await.len();
    let store = by(&world, "Nothing");
    let gone = store.delete_key(ORG.to_owned(), "absent".to_owned());
    assert!(matches!(gone.await, Err(Error::NotFound { .. })));
    let twice = store.create_organization(ORG.to_owned());
    assert!(matches!(twice.await, Err(Error::Exists { .. })));
    assert_eq!(calls(&world).await.len(), before);
}

pub(crate) async fn the_verdict_on_a_job_says_who_gave_it<S: Store>(world: World<S>) {
    let version = world.template("t").await;
    world.create("lost", &version).await;
    let lost = world.take("worker").await;
    world.open_gate(&lost, 1).await;
    world.pass(600).await;
    let canceled = world.create("canceled", &version).await.id;
    let store = by(&world, "CancelJob");
    let cancel = store.cancel(ORG.to_owned(), canceled, Cancel::Cancel);
    cancel.await.expect("canceled");
    let verdicts = noted(
        &world,
        AuditFilter {
            call: "verdict".to_owned(),
            ..everything()
        },
    );
    let verdicts: Vec<_> = verdicts
        .await
        .into_iter()
        .map(|it| (it.actor_kind, it.actor, it.owner, it.outcome))
        .collect();
    let row = |kind: &str, actor: &str, owner: &str, outcome: &str| {
        let own = str::to_owned;
        (own(kind), own(actor), own(owner), own(outcome))
    };
    assert_eq!(
        verdicts,
        [
            row("token", "ci", "ann", "canceled"),
            row("queue", "", "", "failed WORKER_LOST"),
            row("key", "key", "importer", "succeeded"),
        ]
    );
}

fn line(organization: &str, actor: &str, object: &str) -> AuditEntry {
    AuditEntry {
        act: Act {
            organization: organization.to_owned(),
            actor: Actor::Token {
                name: actor.to_owned(),
                owner: "bob".to_owned(),
            },
            ..act("DeleteKey", object)
        },
        job: None,
        outcome: "ADMIN_ONLY".to_owned(),
        times: 4,
    }
}

pub(crate) async fn the_log_is_read_page_by_page_and_organization_by_organization<S: Store>(
    world: World<S>,
) {
    let lines = (0..25).map(|number| line("paged", "a", &number.to_string()));
    world.store.note(lines.collect()).await.expect("noted");
    let others = vec![line("other", "a", "x"), line("", "", "y")];
    world.store.note(others).await.expect("noted");
    let mut filter = AuditFilter {
        organization: "paged".to_owned(),
        limit: 10,
        ..AuditFilter::default()
    };
    let mut objects = Vec::new();
    for expected in [10, 10, 5] {
        let page = world.store.audit(filter.clone()).await.expect("a page");
        assert_eq!(page.entries.len(), expected);
        assert!(
            page.entries
                .iter()
                .all(|it| it.organization == "paged" && it.times == 4)
        );
        objects.extend(page.entries.iter().map(|it| it.object.clone()));
        filter.before = Some(page.next);
    }
    let newest_first: Vec<_> = (0..25).rev().map(|number| number.to_string()).collect();
    assert_eq!(objects, newest_first);
    assert_eq!(filter.before, Some(0), "nothing is left");
}

pub(crate) async fn the_log_is_searched_by_time_actor_call_and_object<S: Store>(world: World<S>) {
    let all = vec![
        line(ORG, "ci", "ann/dev"),
        line(ORG, "cd", "dev"),
        line(ORG, "cd", "prod-dev"),
    ];
    world.store.note(all).await.expect("noted");
    let then = world.clock.now_ms();
    world.pass(4).await;
    world
        .store
        .note(vec![line(ORG, "ci", "dev")])
        .await
        .expect("noted");
    let found = async |filter: AuditFilter| {
        let found = noted(&world, filter).await.into_iter();
        found.map(|it| it.object).collect::<Vec<_>>()
    };
    let only = || AuditFilter {
        call: "deletekey".to_owned(),
        ..everything()
    };
    let object = |name: &str| AuditFilter {
        object: name.to_owned(),
        ..only()
    };
    assert_eq!(found(object("dev")).await, ["dev", "dev", "ann/dev"]);
    assert_eq!(found(object("ann/dev")).await, ["ann/dev"]);
    let by = |name: &str| AuditFilter {
        actor: name.to_owned(),
        ..only()
    };
    assert_eq!(found(by("cd")).await, ["prod-dev", "dev"]);
    assert_eq!(found(by("bob")).await.len(), 4, "by its owner, too");
    let since = AuditFilter {
        since_ms: then + 1,
        ..only()
    };
    assert_eq!(found(since).await, ["dev"]);
    let job = world.push("t").await.1.id;
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Failed)).await;
    let of_job = AuditFilter {
        object: job.to_string(),
        ..everything()
    };
    assert_eq!(noted(&world, of_job).await.len(), 1, "its verdict");
}
