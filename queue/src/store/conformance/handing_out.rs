//! Which job goes to whom, and when it goes back.

use proto::v1::{self, JobStatus};

use super::world::{ORG, World, contact, submission, tags, told, untagged};
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

pub(crate) async fn jobs_go_only_to_daemons_with_their_tags_kind_and_organization<S: Store>(
    world: World<S>,
) {
    let special = Submission {
        tags: tags(&[("scope", "organization"), ("owner", ""), ("gpu", "yes")]),
        ..submission("ann")
    };
    world.push_with("template", special.clone()).await;
    assert!(world.offered(contact("plain")).await.is_none());
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

pub(crate) async fn interactive_goes_first_and_owners_share<S: Store>(world: World<S>) {
    let automatic = Submission {
        priority: Priority::Automatic,
        ..submission("cron")
    };
    let (_, cron) = world.push_with("a", automatic).await;
    let (_, ann_1) = world.push_with("b", submission("ann")).await;
    let (_, ann_2) = world.push_with("c", submission("ann")).await;
    let (_, bob) = world.push_with("d", submission("bob")).await;
    assert_eq!(world.job(ann_2.id).await.queue_position, Some(1));
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(world.take("worker").await.id);
    }
    assert_eq!(order, [ann_1.id, bob.id, ann_2.id, cron.id]);
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
    let (_, submitted) = world.push("template").await;
    let ready = Event::JobReady {
        job: submitted.id,
        organization: ORG.to_owned(),
        tags: untagged(),
        kind: Kind::TemplateImport,
    };
    assert_eq!(told(&mut events).await, ready);
    let held = world.take("worker").await;
    assert_eq!(told(&mut events).await, Event::JobChanged(held.id));
    world.done(&held.finish(Outcome::Succeeded)).await;
    assert_eq!(told(&mut events).await, Event::JobChanged(held.id));
}
