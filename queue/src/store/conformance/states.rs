//! States and blobs.

use proto::ids::Digest;

use super::world::{ORG, World, client, named};
use crate::store::model::{
    BlobContent, BlobId, Checkpoint, Finish, LeaseStanding, NewBlob, PushState, Replace, Update,
};
use crate::store::{Error, Store};
use crate::words::{Outcome, Transition};

fn push(state: &Checkpoint, lineage: &str, replace: Replace) -> PushState {
    PushState {
        workspace: named("ws"),
        by: "ann".to_owned(),
        blob: state.blob,
        serial: state.serial,
        lineage: lineage.to_owned(),
        replace,
    }
}

pub(crate) async fn a_finish_replaces_the_state_its_build_started_from<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    let finish = Finish {
        state: Some(world.state(1, 0).await),
        ..held.finish(Outcome::Succeeded)
    };
    world.done(&finish).await;
    assert_eq!(world.serial("ws").await, Some(1));
    world.build("ws", Transition::Stop).await.expect("a build");
    let held = world.take("worker").await;
    let given = held.header.state.clone().expect("a state");
    assert_eq!(given.sha256, Digest::of(b"state 1").as_bytes());
    let finish = Finish {
        state: Some(world.state(2, 0).await),
        ..held.finish(Outcome::Failed)
    };
    world.done(&finish).await;
    assert_eq!(world.serial("ws").await, Some(2), "also when it failed");
    let sources: Vec<_> = world.store.states(named("ws")).await.expect("states");
    assert_eq!(sources.len(), 2);
    assert!(sources.iter().all(|state| state.source == "finish"));
}

pub(crate) async fn a_push_waits_for_no_running_build_and_for_lineage_and_serial<S: Store>(
    world: World<S>,
) {
    let held = world.behind_the_gate("ws").await;
    let five = world.state(5, 0).await;
    let early = world
        .store
        .push_state(push(&five, "l", Replace::Force))
        .await;
    assert!(matches!(early, Err(Error::BuildRunning { .. })));
    let finish = Finish {
        state: Some(world.state(7, 0).await),
        ..held.finish(Outcome::Succeeded)
    };
    world.done(&finish).await;
    let older = world
        .store
        .push_state(push(&five, "l", Replace::Continue))
        .await;
    assert!(matches!(older, Err(Error::StateMismatch { .. })));
    let eight = world.state(8, 0).await;
    let stranger = world
        .store
        .push_state(push(&eight, "m", Replace::Continue))
        .await;
    assert!(matches!(stranger, Err(Error::StateMismatch { .. })));
    let pushed = world
        .store
        .push_state(push(&eight, "l", Replace::Continue))
        .await;
    assert_eq!(pushed.expect("pushed").source, "push");
    let forced = world
        .store
        .push_state(push(&five, "m", Replace::Force))
        .await;
    assert!(forced.expect("forced").current);
    assert_eq!(world.serial("ws").await, Some(5));
}

pub(crate) async fn a_checkpoint_is_kept_until_the_finish_brings_the_state<S: Store>(
    world: World<S>,
) {
    let held = world.behind_the_gate("ws").await;
    for serial in 1..=3 {
        let update = Update {
            checkpoint: Some(world.state(serial, 0).await),
            ..held.update(serial + 1)
        };
        world.tell(update).await;
    }
    let states = world.store.states(named("ws")).await.expect("states");
    assert_eq!(states.len(), 1, "only the newest");
    assert_eq!(
        (states[0].source.as_str(), states[0].serial),
        ("checkpoint", 3)
    );
    assert!(!states[0].current);
    let finish = Finish {
        state: Some(world.state(4, 0).await),
        ..held.finish(Outcome::Succeeded)
    };
    world.done(&finish).await;
    let states = world.store.states(named("ws")).await.expect("states");
    assert_eq!((states.len(), states[0].serial), (1, 4));
}

pub(crate) async fn blobs_are_inserted_once_and_read_by_their_leases<S: Store>(world: World<S>) {
    let small = world.upload(b"small").await;
    let again = NewBlob::new(small, BlobContent::Inline(b"small".to_vec()));
    let ann = || client(ORG, "ann");
    let twice = world.store.insert_blob(again, ann()).await;
    assert!(!twice.expect("an answer"));
    let stored = world
        .store
        .blob(small.digest)
        .await
        .expect("a query")
        .expect("a blob");
    assert_eq!(stored.content, BlobContent::Inline(b"small".to_vec()));
    let too_long = vec![0; proto::limits::BLOB_INLINE + 1];
    let id = BlobId {
        digest: Digest::of(&too_long),
        size: too_long.len() as u64,
    };
    let content = BlobContent::Inline(too_long);
    let refused = world
        .store
        .insert_blob(NewBlob::new(id, content), ann())
        .await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
    let large = NewBlob::new(id, BlobContent::File);
    let new = world.store.insert_blob(large, ann()).await;
    assert!(new.expect("an answer"));

    world.push("template").await;
    let held = world.take("worker").await;
    let readable = || {
        world
            .store
            .readable_blobs(held.daemon.clone(), held.id, held.lease)
    };
    assert_eq!(readable().await.expect("digests"), [Digest::of(b"archive")]);
    let of = |lease| {
        world
            .store
            .lease_standing(held.daemon.clone(), held.id, lease)
    };
    let standing = || of(held.lease);
    assert_eq!(standing().await.expect("an answer"), LeaseStanding::Live);
    world.done(&held.finish(Outcome::Failed)).await;
    assert_eq!(standing().await.expect("an answer"), LeaseStanding::Past);
    assert_eq!(readable().await.expect("digests"), []);
    let strange = proto::ids::LeaseId::generate();
    assert_eq!(
        of(strange).await.expect("an answer"),
        LeaseStanding::Unknown
    );
}

pub(crate) async fn a_state_that_was_not_uploaded_is_refused<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    let missing = Checkpoint {
        blob: BlobId {
            digest: Digest::of(b"nowhere"),
            size: 7,
        },
        serial: 1,
        lineage: "l".to_owned(),
        ledger_seq: 0,
    };
    let finish = Finish {
        state: Some(missing.clone()),
        ..held.finish(Outcome::Succeeded)
    };
    let refused = world.store.finish(finish).await;
    assert!(matches!(refused, Err(Error::BlobMissing { .. })));
    let update = Update {
        checkpoint: Some(missing),
        ..held.update(2)
    };
    let refused = world.store.update(update).await;
    assert!(matches!(refused, Err(Error::BlobMissing { .. })));
}

pub(crate) async fn adopt_and_discard_end_a_conflict<S: Store>(world: World<S>) {
    for (name, serial, adopt) in [("first", 20, true), ("second", 40, false)] {
        let held = world.behind_the_gate(name).await;
        world.pass(600).await;
        world.build(name, Transition::Start).await.expect("a build");
        let next = world.take("worker").await;
        // Only a build that changed the state stands between it and the late one.
        let between = Finish {
            state: Some(world.state(serial - 5, 0).await),
            ..next.finish(Outcome::Succeeded)
        };
        world.done(&between).await;
        let late = Finish {
            state: Some(world.state(serial, 0).await),
            ..held.finish(Outcome::Succeeded)
        };
        world.done(&late).await;
        assert!(world.workspace(name).await.state_conflict);
        let states = world.store.states(named(name)).await.expect("states");
        let id = states[0].id.parse().expect("an id");
        let resolved = if adopt {
            world.store.adopt_state(named(name), id).await
        } else {
            world.store.discard_state(named(name), id).await
        };
        assert_eq!(resolved.expect("resolved").current, adopt);
        assert!(!world.workspace(name).await.state_conflict);
        let twice = world.store.adopt_state(named(name), id).await;
        assert!(matches!(twice, Err(Error::NotWaiting { .. })));
        world.build(name, Transition::Start).await.expect("a build");
        let held = world.take("worker").await;
        world.done(&held.finish(Outcome::Succeeded)).await;
    }
}
