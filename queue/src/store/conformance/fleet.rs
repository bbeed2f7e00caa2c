//! Daemons: who may speak under which name, drain, missed news.

use std::collections::BTreeSet;

use super::world::{ORG, World, contact, replica, submission, tags, untagged};
use crate::store::model::{
    Acquire, Acquired, DaemonContact, DaemonName, Drain, NewKey, Opened, Submission,
};
use crate::store::{Error, Store};
use crate::words::{Cancel, Kind, Outcome};

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
    let acquire = Acquire {
        contact: contact("one"),
        kinds: Vec::new(),
    };
    let asked = world.store.acquire(acquire).await;
    assert_eq!(asked.expect("asked"), Acquired::Draining);
    let opened = world.store.open_control(contact("one"), replica()).await;
    assert_eq!(opened.expect("opened").drain, Drain::On);
    world.pass(15).await;
    assert!(world.offered(other_instance("one")).await.is_some());
}

/// Whether it came by a stream or by calls; the next process has the same data directory.
pub(crate) async fn a_daemon_that_drains_by_itself_is_seen_as_that_until_it_comes_back<S: Store>(
    world: World<S>,
) {
    let (_, pushed) = world.push("template").await;
    let here = replica();
    world.store.attend(here.clone()).await.expect("attended");
    let says = |drain| {
        let mut contact = contact("one");
        contact.note_drain(drain);
        contact
    };
    let seen = async || {
        let listed = world.store.list_daemons(ORG.to_owned()).await;
        let waiting_for = world.prospect(pushed.id).await.waiting_for;
        let one = listed.expect("a list").remove(0);
        assert!(!one.drained);
        (one.status, waiting_for)
    };
    let works = ("idle".to_owned(), None);
    let drains = ("draining".to_owned(), Some("no daemon is connected".into()));
    for _ in 0..2 {
        for (drain, expected) in [(Drain::Off, &works), (Drain::On, &drains)] {
            let opened = world.store.open_control(says(drain), here.clone()).await;
            assert_eq!(opened.expect("opened").drain, Drain::Off, "nobody asked");
            assert_eq!(seen().await, *expected, "by a stream");
        }
    }
    for (drain, expected) in [(Drain::Off, &works), (Drain::On, &drains)] {
        let polled = world.store.poll_control(says(drain)).await;
        assert_eq!(polled.expect("told").drain, Drain::Off, "nobody asked");
        assert_eq!(seen().await, *expected, "by calls");
    }
    let held = world.offered(says(Drain::Off)).await;
    assert_eq!(held.expect("a job").id, pushed.id);
}

pub(crate) async fn a_drain_stands_over_restarts_until_it_is_undone<S: Store>(world: World<S>) {
    let (_, pushed) = world.push("template").await;
    world.store.see_daemon(contact("one")).await.expect("seen");
    let set = async |drain| {
        let set = world
            .store
            .set_drain(ORG.to_owned(), "one".to_owned(), drain);
        set.await.expect("set").drained
    };
    assert!(set(Drain::On).await);
    world.pass(60).await;
    let again = world.store.open_control(contact("one"), replica()).await;
    assert_eq!(again.expect("opened").drain, Drain::On);
    assert!(!set(Drain::Off).await);
    let again = world.store.open_control(contact("one"), replica()).await;
    assert_eq!(again.expect("opened").drain, Drain::Off);
    let held = world.offered(contact("one")).await;
    assert_eq!(held.expect("a job").id, pushed.id);
}

pub(crate) async fn a_deleted_key_claims_nothing<S: Store>(world: World<S>) {
    world.push("template").await;
    world
        .store
        .delete_key(ORG.to_owned(), "key".to_owned())
        .await
        .expect("deleted");
    let acquire = Acquire {
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
    let opened = world.store.open_control(contact("one"), replica()).await;
    assert_eq!(opened.expect("opened"), Opened::default());
    let canceled = world
        .store
        .cancel(ORG.to_owned(), held.id, Cancel::Force)
        .await;
    canceled.expect("canceled");
    let opened = world.store.open_control(contact("one"), replica()).await;
    let opened = opened.expect("opened");
    let [cancel] = opened.cancels.as_slice() else {
        panic!("a cancel, not {opened:?}");
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
    let waiting = world.prospect(submitted.id).await.waiting_for;
    assert_eq!(waiting.as_deref(), Some("no daemon is connected"));
    world.store.see_daemon(contact("one")).await.expect("seen");
    let said = world.prospect(submitted.id).await;
    let reason = said.waiting_for.expect("a reason");
    assert!(reason.contains("`gpu=yes`"), "{reason}");
    assert_eq!(said.position, 0);
}

pub(crate) async fn a_key_made_again_under_its_name_is_another_key<S: Store>(world: World<S>) {
    let delete = world.store.delete_key(ORG.to_owned(), "key".to_owned());
    delete.await.expect("deleted");
    let again = NewKey {
        organization: ORG.to_owned(),
        name: "key".to_owned(),
        tags: untagged(),
        hash: [4; 32],
    };
    world.store.create_key(again).await.expect("a key");
    let refused = world.store.see_daemon(contact("one")).await;
    assert!(
        matches!(refused, Err(Error::NotFound { .. })),
        "{refused:?}"
    );
    let of_new = DaemonContact {
        key_hash: [4; 32],
        ..contact("one")
    };
    world.store.see_daemon(of_new).await.expect("seen");
}

pub(crate) async fn a_daemon_lives_as_long_as_the_replica_that_holds_it<S: Store>(world: World<S>) {
    let here = replica();
    let attend = async || world.store.attend(here.clone()).await.expect("attended");
    attend().await;
    let opened = world.store.open_control(contact("one"), here.clone());
    opened.await.expect("opened");
    for _ in 0..5 {
        world.pass(10).await;
        attend().await;
    }
    let refused = world.store.see_daemon(other_instance("one")).await;
    assert!(matches!(refused, Err(Error::DaemonNameTaken { .. })));
    let listed = world.store.list_daemons(ORG.to_owned());
    assert_eq!(listed.await.expect("a list")[0].status, "idle");
    world.pass(15).await;
    let listed = world.store.list_daemons(ORG.to_owned());
    assert_eq!(listed.await.expect("a list")[0].status, "offline");
    let taken = world.store.see_daemon(other_instance("one")).await;
    taken.expect("the name is free");
}

pub(crate) async fn the_end_of_an_older_control_stream_elsewhere_says_nothing<S: Store>(
    world: World<S>,
) {
    world.push("template").await;
    let held = world.take("one").await;
    let (old, new) = (replica(), replica());
    for replica in [&old, &new] {
        let attended = world.store.attend(replica.clone());
        attended.await.expect("attended");
        let opened = world.store.open_control(contact("one"), replica.clone());
        opened.await.expect("opened");
    }
    let lost = world.store.control_lost(held.daemon.clone(), old);
    lost.await.expect("noted");
    world.pass(4).await;
    assert_eq!(
        world.status(held.id).await,
        proto::v1::JobStatus::Running,
        "the newer stream stands"
    );
    let lost = world.store.control_lost(held.daemon.clone(), new);
    lost.await.expect("noted");
    world.pass(4).await;
    assert_eq!(world.status(held.id).await, proto::v1::JobStatus::Pending);
}

pub(crate) async fn a_replica_hears_what_its_daemons_were_not_told<S: Store>(world: World<S>) {
    let (here, there) = (replica(), replica());
    let name = |name: &str| DaemonName {
        organization: ORG.to_owned(),
        name: name.to_owned(),
    };
    world.push("template").await;
    let held = world.take("busy").await;
    for daemon in ["busy", "drained", "gone"] {
        let opened = world.store.open_control(contact(daemon), here.clone());
        opened.await.expect("opened");
    }
    let foreign = world.store.open_control(contact("foreign"), there.clone());
    foreign.await.expect("opened");
    for daemon in ["drained", "foreign"] {
        let drain = world
            .store
            .set_drain(ORG.to_owned(), daemon.to_owned(), Drain::On);
        drain.await.expect("drained");
    }
    let lost = world
        .store
        .control_lost(contact("gone").daemon, here.clone());
    lost.await.expect("noted");
    let news = world.store.attend(here.clone()).await.expect("attended");
    assert_eq!(
        news.draining,
        [(name("drained"), "instance of drained".to_owned())]
    );
    assert_eq!(news.busy, [(name("busy"), None)]);
    assert_eq!(news.lost, [(name("gone"), "instance of gone".to_owned())]);
    let cancel = world.store.cancel(ORG.to_owned(), held.id, Cancel::Cancel);
    cancel.await.expect("canceled");
    let news = world.store.attend(here).await.expect("attended");
    let told = news.busy[0].1.as_ref().expect("a cancel");
    assert_eq!(told.job_id, held.id.to_string());
    let elsewhere = world.store.attend(there).await.expect("attended");
    assert_eq!(elsewhere.busy, []);
}

pub(crate) async fn a_lane_stands_for_all_that_are_alike<S: Store>(world: World<S>) {
    assert_eq!(world.store.lanes().await.expect("lanes"), []);
    let (_, first) = world.push("template").await;
    world.push("template").await;
    let special = Submission {
        tags: tags(&[("scope", "organization"), ("owner", ""), ("gpu", "yes")]),
        ..submission("ann")
    };
    let (_, special) = world.push_with("special", special).await;
    let (_, tofu) = world.push_for("tofu", "tofu", submission("ann")).await;
    let lanes = world.store.lanes().await.expect("lanes");
    let untagged = |engine| {
        let lane = lanes
            .iter()
            .find(|lane| lane.tags == untagged() && lane.engine == engine);
        lane.expect("a lane")
    };
    assert_eq!(untagged("tofu").job, tofu.id);
    let plain = untagged("");
    assert_eq!((plain.job, plain.kind), (first.id, Kind::TemplateImport));
    assert_eq!((lanes.len(), plain.organization.as_str()), (3, ORG));
    for _ in 0..2 {
        let held = world.take("one").await;
        world.done(&held.finish(Outcome::Succeeded)).await;
    }
    let lanes = world.store.lanes().await.expect("lanes");
    let left: BTreeSet<_> = lanes.into_iter().map(|lane| lane.job).collect();
    assert_eq!(left, BTreeSet::from([special.id, tofu.id]));
}

pub(crate) async fn every_credential_that_exists_is_listed<S: Store>(world: World<S>) {
    let token = crate::store::model::NewToken {
        organization: None,
        name: "token".to_owned(),
        owner: "ann".to_owned(),
        role: crate::store::model::Role::Member,
        hash: [9; 32],
    };
    world.store.create_token(token).await.expect("a token");
    let mut all = world.store.credentials().await.expect("a list");
    all.sort_unstable();
    assert_eq!(all, [super::world::KEY_HASH, [9; 32]]);
    let delete = world.store.delete_key(ORG.to_owned(), "key".to_owned());
    delete.await.expect("deleted");
    assert_eq!(world.store.credentials().await.expect("a list"), [[9; 32]]);
}
