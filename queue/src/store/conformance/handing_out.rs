//! Which job goes to whom, and when it goes back.

use proto::v1::{self, JobStatus};

use super::world::{ORG, World, contact, submission, tags, told, untagged};
use crate::matching::Affinity;
use crate::store::model::{Acquire, Acquired, DaemonContact, Submission};
use crate::store::{Error, Event, Store};
use crate::words::{Kind, Outcome, Priority};

pub(crate) async fn a_job_is_handed_out_once_and_the_lease_begins_with_the_confirm<S: Store>(
    world: World<S>,
) {
    world.push("template").await;
    let held = world.offered(contact("one")).await.expect("a job");
    assert!(world.offered(contact("two")).await.is_none());
    assert_eq!(world.status(held.id).await, JobStatus::Pending);
    world.pass(10).await;
    let lease = world.confirm(&held).await.expect("confirmed");
    assert_eq!((lease.ttl_ms, lease.attempt), (10_000, 1));
    assert_eq!(world.status(held.id).await, JobStatus::Running);
    world.confirm(&held).await.expect("repeated");
    assert_eq!(world.job(held.id).await.queue_wait_ms, Some(10_000));
}

pub(crate) async fn an_unconfirmed_offer_goes_back_after_fifteen_seconds<S: Store>(
    world: World<S>,
) {
    world.push("template").await;
    let held = world.offered(contact("one")).await.expect("a job");
    world.pass(14).await;
    assert!(world.offered(contact("two")).await.is_none());
    world.pass(1).await;
    let gone = world.confirm(&held).await;
    assert!(matches!(gone, Err(Error::OfferGone { .. })));
    let again = world.offered(contact("two")).await.expect("a job");
    assert_eq!((again.id, again.attempt), (held.id, 2));
}

pub(crate) async fn a_withdrawn_offer_cannot_be_confirmed<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.offered(contact("one")).await.expect("a job");
    world
        .store
        .withdraw(held.id, held.lease)
        .await
        .expect("withdrawn");
    let gone = world.confirm(&held).await;
    assert!(matches!(gone, Err(Error::OfferGone { .. })));
    let held = world.take("two").await;
    world
        .store
        .withdraw(held.id, held.lease)
        .await
        .expect("no offer any more");
    assert_eq!(world.status(held.id).await, JobStatus::Running);
}

pub(crate) async fn broken_streams_use_no_job_up<S: Store>(world: World<S>) {
    let (_, submitted) = world.push("template").await;
    for attempt in 1..=25 {
        let held = world.offered(contact("behind a proxy")).await;
        let held = held.expect("a job");
        assert_eq!(held.attempt, attempt);
        let withdrawn = world.store.withdraw(held.id, held.lease).await;
        withdrawn.expect("withdrawn");
    }
    // One that is had and not confirmed in time is counted.
    for _ in 0..19 {
        world.offered(contact("silent")).await.expect("a job");
        world.pass(16).await;
    }
    assert_eq!(world.status(submitted.id).await, JobStatus::Pending);
    world.offered(contact("silent")).await.expect("a job");
    world.pass(16).await;
    let job = world.job(submitted.id).await;
    assert_eq!(job.error.expect("an error").code, "ATTEMPTS_EXHAUSTED");
}

/// Whatever became of its offers before; and neither a repeated confirm nor another attempt.
pub(crate) async fn a_job_begins_for_the_first_time_once<S: Store>(world: World<S>) {
    world.push("template").await;
    let withdrawn = world.offered(contact("one")).await.expect("a job");
    let taken = world.store.withdraw(withdrawn.id, withdrawn.lease).await;
    taken.expect("withdrawn");
    world.offered(contact("silent")).await.expect("a job");
    world.pass(16).await;
    let held = world.offered(contact("one")).await.expect("a job");
    assert_eq!(held.attempt, 3);
    assert!(world.begin(&held).await.expect("confirmed").first);
    assert!(!world.begin(&held).await.expect("confirmed again").first);
    world.pass(30).await;
    let held = world.offered(contact("two")).await.expect("a job");
    assert_eq!(held.attempt, 4);
    assert!(!world.begin(&held).await.expect("confirmed").first);
}

pub(crate) async fn jobs_go_only_to_daemons_with_their_tags_kind_and_organization<S: Store>(
    world: World<S>,
) {
    let special = Submission {
        tags: tags(&[("scope", "organization"), ("owner", ""), ("gpu", "yes")]),
        ..submission("ann")
    };
    world.push_with("template", special.clone()).await;
    assert!(world.offered(contact("plain")).await.is_none());
    // Facts need nobody's leave.
    let claims = DaemonContact {
        facts: tags(&[("gpu", "yes")]),
        ..contact("claims")
    };
    assert!(world.offered(claims).await.is_none());
    let able = DaemonContact {
        tags: special.tags,
        ..contact("able")
    };
    let wrong_kind = Acquire {
        contact: able.clone(),
        kinds: vec![Kind::WorkspaceBuild],
    };
    assert_eq!(
        world.store.acquire(wrong_kind).await.expect("acquire"),
        Acquired::Nothing
    );
    let mut foreign = able.clone();
    foreign.daemon.organization = "other".to_owned();
    foreign.key_hash = [3; 32];
    world
        .store
        .create_organization("other".to_owned())
        .await
        .expect("made");
    let key = crate::store::model::NewKey {
        organization: "other".to_owned(),
        name: "key".to_owned(),
        tags: untagged(),
        hash: [3; 32],
    };
    world.store.create_key(key).await.expect("a key");
    assert!(world.offered(foreign).await.is_none());
    assert!(world.offered(able).await.is_some());
}

fn offers(name: &str, engines: &str) -> DaemonContact {
    DaemonContact {
        facts: tags(&[("engine", engines)]),
        ..contact(name)
    }
}

pub(crate) async fn a_job_goes_only_to_a_daemon_that_offers_its_engine<S: Store>(world: World<S>) {
    let (version, tofu) = world.push_for("a", "tofu", submission("ann")).await;
    let (_, terraform) = world.push_for("b", "terraform", submission("ann")).await;
    assert!(world.offered(contact("silent")).await.is_none());
    let held = world.offered(offers("one", "terraform")).await;
    assert_eq!(held.expect("a job").id, terraform.id);
    assert!(world.offered(offers("one", "terraform")).await.is_none());
    let reason = world.prospect(tofu.id).await.waiting_for.expect("a reason");
    assert!(reason.contains("the engine `tofu`"), "{reason}");
    let held = world.offered(offers("both", "terraform,tofu")).await;
    let held = held.expect("a job");
    assert_eq!(held.id, tofu.id);
    world.done(&held.finish(Outcome::Succeeded)).await;
    // What follows from the version asks for the same.
    world.plan(&version, submission("ann")).await;
    assert!(world.offered(offers("one", "terraform")).await.is_none());
    assert!(world.offered(offers("both", "tofu")).await.is_some());
}

pub(crate) async fn interactive_goes_first_and_owners_share<S: Store>(world: World<S>) {
    let automatic = Submission {
        priority: Priority::Automatic,
        ..submission("cron")
    };
    let (_, cron) = world.push_with("a", automatic).await;
    let (_, ann_1) = world.push_with("b", submission("ann")).await;
    let (_, ann_2) = world.push_with("c", submission("ann")).await;
    let (_, bob) = world.push_with("d", submission("bob")).await;
    let mut foreseen = Vec::new();
    for job in [&ann_1, &bob, &ann_2, &cron] {
        foreseen.push(world.prospect(job.id).await.position);
    }
    assert_eq!(foreseen, [0, 1, 2, 3]);
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(world.take("worker").await.id);
    }
    assert_eq!(order, [ann_1.id, bob.id, ann_2.id, cron.id]);
}

/// A dry run of this version.
pub(crate) async fn owners_take_turns_on_a_single_slot<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    for _ in 0..20 {
        world.plan(&version, submission("ann")).await;
    }
    for _ in 0..3 {
        world.plan(&version, submission("bob")).await;
    }
    let mut owners = Vec::new();
    for _ in 0..8 {
        world.pass(1).await;
        let held = world.take("worker").await;
        owners.push(world.job(held.id).await.owner);
        // Nothing is in hand when the next one is asked for.
        world.done(&held.finish(Outcome::Succeeded)).await;
    }
    // Ann's import was the last thing that anybody got.
    let expected = ["bob", "ann", "bob", "ann", "bob", "ann", "ann", "ann"];
    assert_eq!(owners, expected);
}

pub(crate) async fn a_due_automatic_job_goes_before_whoever_has_nothing<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let automatic = || Submission {
        priority: Priority::Automatic,
        ..submission("cron")
    };
    world.plan(&version, automatic()).await;
    let busy = world.take("busy").await;
    world.open_gate(&busy, 1).await;
    let waits = world.plan(&version, automatic()).await;
    let mut seconds = 0;
    for (owner, until) in [("ann", 300), ("bob", 599)] {
        world.pass(until - seconds).await;
        seconds = until;
        let newer = world.plan(&version, submission(owner)).await;
        let update = busy.update(until);
        world.tell(update).await;
        let held = world.take("worker").await;
        assert_eq!(held.id, newer);
        world.done(&held.finish(Outcome::Succeeded)).await;
    }
    world.plan(&version, submission("eve")).await;
    world.pass(1).await;
    assert_eq!(world.take("worker").await.id, waits);
}

pub(crate) async fn the_header_carries_all_that_a_worker_needs<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    let made = world.create("ws", &version).await;
    let held = world.take("worker").await;
    let header = held.header;
    assert_eq!(header.kind(), v1::JobKind::WorkspaceBuild);
    assert_eq!(header.template, "template");
    assert_eq!(header.template_version_id, version.id.to_string());
    assert_eq!(header.archive.expect("an archive").size, 7);
    assert_eq!(header.state, None);
    let metadata = header.metadata.expect("metadata");
    let build = made.build.expect("a build");
    assert_eq!(metadata.workspace_name, "ws");
    assert_eq!(metadata.workspace_build_id, build.id);
    assert_eq!(metadata.owner_name, "ann");
    assert_eq!(metadata.transition(), v1::Transition::Start);
    assert_eq!(metadata.template_version, "1");
    assert!(!metadata.owner_id.is_empty());
}

pub(crate) async fn a_submit_wakes_listeners_after_it_is_durable<S: Store>(world: World<S>) {
    let mut events = world.store.subscribe();
    let (version, submitted) = world.push("template").await;
    let ready = Event::JobReady {
        job: submitted.id,
        organization: ORG.to_owned(),
        tags: untagged(),
        engine: String::new(),
        kind: Kind::TemplateImport,
        affinity: Affinity {
            version: version.id.to_string(),
            providers: String::new(),
        },
    };
    assert_eq!(told(&mut events).await, ready);
    let held = world.take("worker").await;
    assert_eq!(told(&mut events).await, Event::JobChanged(held.id));
    world.done(&held.finish(Outcome::Succeeded)).await;
    assert_eq!(told(&mut events).await, Event::JobChanged(held.id));
}

pub(crate) async fn a_job_that_waits_tells_its_version_and_providers<S: Store>(world: World<S>) {
    let (version, _) = world.push("template").await;
    let held = world.take("importer").await;
    let mut imported = held.finish(Outcome::Succeeded);
    imported.report.facts = Some(v1::TemplateFacts {
        lock_file: b"abc".to_vec(),
        ..v1::TemplateFacts::default()
    });
    world.done(&imported).await;
    let expected = Affinity {
        version: version.id.to_string(),
        providers: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned(),
    };
    let mut events = world.store.subscribe();
    let mut ready = async || loop {
        if let Event::JobReady { affinity, .. } = told(&mut events).await {
            return affinity;
        }
    };
    world.plan(&version, submission("ann")).await;
    assert_eq!(ready().await, expected);
    let held = world.offered(contact("worker")).await.expect("a job");
    let withdrawn = world.store.withdraw(held.id, held.lease).await;
    withdrawn.expect("withdrawn");
    assert_eq!(ready().await, expected);
    let lanes = world.store.lanes().await.expect("lanes");
    assert_eq!(lanes[0].affinity, expected);
}
