//! Daemons: who may speak under which name, drain, missed news.

use proto::v1::control_event::Event as News;

use super::world::{ORG, World, contact, submission, tags};
use crate::store::model::{DaemonContact, Drain, Submission};
use crate::store::{Error, Store};
use crate::words::Cancel;

fn other_instance(name: &str) -> DaemonContact {
    let mut contact = contact(name);
    contact.daemon.instance = "another".to_owned();
    contact
}

pub(crate) async fn a_second_living_instance_of_a_name_is_refused<S: Store>(world: World<S>) {
    world.store.see_daemon(contact("one")).await.expect("seen");
    world
        .store
        .see_daemon(contact("one"))
        .await
        .expect("seen again");
    let refused = world.store.see_daemon(other_instance("one")).await;
    assert!(matches!(refused, Err(Error::DaemonNameTaken { .. })));
}

pub(crate) async fn a_name_is_free_again_when_its_daemon_is_gone<S: Store>(world: World<S>) {
    world.store.see_daemon(contact("one")).await.expect("seen");
    world.pass(15).await;
    let daemons = world
        .store
        .list_daemons(ORG.to_owned())
        .await
        .expect("a list");
    assert_eq!(daemons[0].status, "offline");
    world
        .store
        .see_daemon(other_instance("one"))
        .await
        .expect("seen");
}

pub(crate) async fn a_draining_daemon_gets_no_job_and_a_new_instance_does<S: Store>(
    world: World<S>,
) {
    world.push("template").await;
    world.store.see_daemon(contact("one")).await.expect("seen");
    let drained = world
        .store
        .set_drain(ORG.to_owned(), "one".to_owned(), Drain::On)
        .await;
    assert_eq!(drained.expect("drained").status, "draining");
    assert!(world.offered(contact("one")).await.is_none());
    let news = world
        .store
        .touch_daemon(contact("one").daemon)
        .await
        .expect("touched");
    assert!(matches!(news[0].event, Some(News::Drain(_))));
    world.pass(15).await;
    assert!(world.offered(other_instance("one")).await.is_some());
}

pub(crate) async fn a_deleted_key_claims_nothing<S: Store>(world: World<S>) {
    world.push("template").await;
    world
        .store
        .delete_key(ORG.to_owned(), "key".to_owned())
        .await
        .expect("deleted");
    let acquire = crate::store::model::Acquire {
        contact: contact("one"),
        kinds: Vec::new(),
    };
    let refused = world.store.acquire(acquire).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
}

pub(crate) async fn a_control_stream_brings_the_cancels_that_were_missed<S: Store>(
    world: World<S>,
) {
    world.push("template").await;
    let held = world.take("one").await;
    assert_eq!(
        world
            .store
            .touch_daemon(held.daemon.clone())
            .await
            .expect("touched"),
        []
    );
    let canceled = world
        .store
        .cancel(ORG.to_owned(), held.id, Cancel::Force)
        .await;
    canceled.expect("canceled");
    let news = world
        .store
        .touch_daemon(held.daemon.clone())
        .await
        .expect("touched");
    let Some(News::Cancel(cancel)) = &news[0].event else {
        panic!("a cancel, not {news:?}");
    };
    assert_eq!(cancel.job_id, held.id.to_string());
    assert_eq!(cancel.kind(), proto::v1::CancelKind::Force);
}

pub(crate) async fn a_job_that_nobody_can_run_names_the_missing_tag<S: Store>(world: World<S>) {
    let special = Submission {
        tags: tags(&[("scope", "organization"), ("owner", ""), ("gpu", "yes")]),
        ..submission("ann")
    };
    let (_, submitted) = world.push_with("template", special).await;
    let waiting = submitted.job.waiting_for.expect("a reason");
    assert_eq!(waiting, "no daemon is connected");
    world.store.see_daemon(contact("one")).await.expect("seen");
    let job = world.job(submitted.id).await;
    let reason = job.waiting_for.expect("a reason");
    assert!(reason.contains("`gpu=yes`"), "{reason}");
    assert_eq!(job.queue_position, Some(0));
}
