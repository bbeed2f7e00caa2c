//! Daemons that call by short calls alone.

use std::time::Duration;

use proto::transport::Transport;
use proto::v1::{CancelKind, JobStatus};

use super::world::{ORG, World, contact, replica, submission, tags};
use crate::store::model::{DaemonContact, Drain, Submission};
use crate::store::{Error, Store};
use crate::words::Cancel;

/// The daemon `name`, which has gone over to short calls.
fn polling(name: &str) -> DaemonContact {
    let mut contact = contact(name);
    Transport::Unary.note(&mut contact.facts);
    contact
}

async fn status<S: Store>(world: &World<S>) -> String {
    let listed = world.store.list_daemons(ORG.to_owned());
    listed.await.expect("a list")[0].status.clone()
}

pub(crate) async fn an_offer_that_was_not_confirmed_is_made_again<S: Store>(world: World<S>) {
    let (_, first) = world.push("first").await;
    world.push("second").await;
    let lost = world.offered(polling("one")).await.expect("a job");
    assert_eq!(lost.id, first.id);
    for _ in 0..25 {
        world.pass(14).await;
        let again = world.offered(polling("one")).await.expect("a job");
        assert_eq!((again.id, again.lease), (lost.id, lost.lease));
    }
    world.pass(14).await;
    let lease = world.confirm(&lost).await.expect("confirmed");
    assert_eq!(lease.attempt, 1, "lost answers use up nothing");
    let next = world.offered(polling("one")).await.expect("a job");
    assert_ne!(next.id, lost.id, "what is confirmed is not offered again");
}

/// On the same data directory, with a key for other jobs: its queue has no offer for it.
pub(crate) async fn an_offer_is_not_made_again_to_a_key_for_other_jobs<S: Store>(world: World<S>) {
    let special = tags(&[("scope", "organization"), ("owner", ""), ("region", "eu")]);
    let submission = Submission {
        tags: special.clone(),
        ..submission("ann")
    };
    let (_, job) = world.push_for("only", "", submission).await;
    let able = DaemonContact {
        tags: special,
        ..polling("one")
    };
    let lost = world.offered(able.clone()).await.expect("a job");
    assert_eq!(lost.id, job.id);
    let mut says = polling("one");
    says.facts.insert("region".to_owned(), "eu".to_owned());
    for other in [polling("one"), says] {
        assert!(world.offered(other).await.is_none());
    }
    let again = world.offered(able).await.expect("the job");
    assert_eq!((again.id, again.lease), (lost.id, lost.lease));
}

pub(crate) async fn an_offer_is_made_again_to_its_daemon_only<S: Store>(world: World<S>) {
    world.push("only").await;
    let lost = world.offered(polling("one")).await.expect("a job");
    assert!(world.offered(polling("two")).await.is_none());
    // A daemon on streams has its offer on a stream, which stands or is withdrawn.
    assert!(world.offered(contact("one")).await.is_none());
    let mut another = polling("one");
    another.daemon.instance = "another".to_owned();
    world.pass(14).await;
    let refused = world.store.see_daemon(another.clone()).await;
    assert!(matches!(refused, Err(Error::DaemonNameTaken { .. })));
    world.pass(1).await;
    let fresh = world.offered(another).await.expect("a job");
    assert_eq!((fresh.id, fresh.attempt), (lost.id, 2));
}

pub(crate) async fn a_daemon_on_short_calls_lives_as_long_as_it_calls<S: Store>(world: World<S>) {
    let here = replica();
    let attend = async || world.store.attend(here.clone()).await.expect("attended");
    attend().await;
    let opened = world.store.open_control(contact("one"), here.clone());
    opened.await.expect("opened");
    let poll = async || {
        world
            .store
            .poll_control(polling("one"))
            .await
            .expect("told")
    };
    poll().await;
    for _ in 0..3 {
        world.pass(10).await;
        attend().await;
        poll().await;
        assert_eq!(status(&world).await, "idle");
    }
    // The replica lives, and holds a stream that a proxy keeps for nobody.
    for _ in 0..3 {
        world.pass(5).await;
        attend().await;
    }
    assert_eq!(status(&world).await, "offline");
    let opened = world.store.open_control(contact("one"), here.clone());
    opened.await.expect("opened");
    world.pass(14).await;
    attend().await;
    world.pass(10).await;
    assert_eq!(status(&world).await, "idle", "held again");
}

pub(crate) async fn the_end_of_a_stream_says_nothing_of_who_left_it<S: Store>(world: World<S>) {
    world.push("template").await;
    let here = replica();
    let opened = world.store.open_control(contact("one"), here.clone());
    opened.await.expect("opened");
    let held = world.take("one").await;
    let polled = world.store.poll_control(polling("one")).await;
    polled.expect("told");
    let lost = world.store.control_lost(held.daemon.clone(), here).await;
    lost.expect("noted");
    world.pass(5).await;
    assert_eq!(world.status(held.id).await, JobStatus::Running);
    assert_eq!(status(&world).await, "busy");
    // Before the gate its lease is what it has.
    world.pass(5).await;
    assert_eq!(world.status(held.id).await, JobStatus::Pending);
}

pub(crate) async fn a_short_call_brings_cancels_and_drain<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("one").await;
    let poll = async || {
        world
            .store
            .poll_control(polling("one"))
            .await
            .expect("told")
    };
    assert_eq!(poll().await, Default::default());
    let canceled = world.store.cancel(ORG.to_owned(), held.id, Cancel::Cancel);
    canceled.await.expect("canceled");
    let drained = world
        .store
        .set_drain(ORG.to_owned(), "one".to_owned(), Drain::On);
    drained.await.expect("drained");
    for _ in 0..2 {
        let told = poll().await;
        assert_eq!(told.drain, Drain::On);
        let [cancel] = told.cancels.as_slice() else {
            panic!("a cancel, not {told:?}");
        };
        assert_eq!(cancel.job_id, held.id.to_string());
        assert_eq!(cancel.kind(), CancelKind::Cancel);
        world.clock.advance(Duration::from_millis(10));
    }
}
