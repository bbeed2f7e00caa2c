//! A finish that brings the bytes of its state, instead of a put before.

use std::io::Write as _;
use std::time::Duration;

use proto::ids::{Digest, JobId, LeaseId};
use proto::limits;

use super::losses::half_applied;
use super::world::{Held, World, contact, lease_of};
use crate::store::model::{
    BlobContent, BlobId, Checkpoint, Disposition, Finish, NewBlob, StoredBlob,
};
use crate::store::{Error, Store};
use crate::words::{Outcome, Transition};

const AGE: Duration = Duration::from_secs(3_600);

/// A finish with these bytes as its state.
fn bringing(held: &Held, outcome: Outcome, (bytes, serial): (&[u8], u64)) -> Finish {
    let id = BlobId {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    Finish {
        state: Some(Checkpoint {
            blob: id,
            serial,
            lineage: "l".to_owned(),
            ledger_seq: 0,
        }),
        brings: Some(NewBlob::new(id, BlobContent::Inline(bytes.to_vec()))),
        ..held.finish(outcome)
    }
}

async fn tell<S: Store>(world: &World<S>, finish: &Finish) -> Disposition {
    let finished = world.store.finish(finish.clone()).await;
    finished.expect("a finish").disposition
}

async fn stored<S: Store>(world: &World<S>, bytes: &[u8]) -> Option<StoredBlob> {
    world.store.blob(Digest::of(bytes)).await.expect("a query")
}

pub(crate) async fn the_state_that_a_finish_brings_is_the_workspaces<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    let finish = bringing(&held, Outcome::Succeeded, (b"one", 1));
    assert_eq!(tell(&world, &finish).await, Disposition::Applied);
    assert_eq!(world.serial("ws").await, Some(1));
    let blob = stored(&world, b"one").await.expect("stored");
    assert_eq!(blob.content, BlobContent::Inline(b"one".to_vec()));
    assert_eq!(tell(&world, &finish).await, Disposition::Applied, "again");
    let named_only = Finish {
        brings: None,
        ..finish
    };
    assert_eq!(tell(&world, &named_only).await, Disposition::Applied);

    // What a state names is not swept, and the next build is given it.
    world.clock.advance(2 * AGE);
    world.store.sweep_blobs(AGE).await.expect("a sweep");
    assert!(stored(&world, b"one").await.is_some());
    world.build("ws", Transition::Stop).await.expect("a build");
    let held = world.take("worker").await;
    let given = held.header.state.clone().expect("a state");
    assert_eq!(given.sha256, Digest::of(b"one").as_bytes());
}

pub(crate) async fn the_state_of_a_late_finish_comes_too<S: Store>(world: World<S>) {
    let held = half_applied(&world).await;
    world.pass(600).await;
    let finish = bringing(&held, Outcome::Succeeded, (b"late", 9));
    assert_eq!(tell(&world, &finish).await, Disposition::Late);
    assert_eq!(world.serial("ws").await, Some(9));
    assert!(stored(&world, b"late").await.is_some());
}

/// Also where its frame could not stand in a row as it is.
pub(crate) async fn a_state_that_came_packed_is_read_whole<S: Store>(world: World<S>) {
    let pack = |part: &[u8]| zstd::bulk::compress(part, 3).expect("packed");
    for (serial, name) in (1..).zip(["whole", "in two", "of no size", "too large"]) {
        let plain = name.repeat(500).into_bytes();
        let frame = match name {
            "whole" => pack(&plain),
            "in two" => [pack(&plain[..700]), pack(&plain[700..])].concat(),
            "of no size" => {
                let mut packer = zstd::Encoder::new(Vec::new(), 3).expect("memory");
                for part in plain.chunks(700) {
                    packer.write_all(part).expect("packed");
                    packer.flush().expect("packed");
                }
                packer.finish().expect("packed")
            }
            _ => {
                // An empty block before the last one, again and again.
                let mut frame = pack(&[]);
                let end = frame.split_off(frame.len() - 3);
                frame.extend([0; 3].repeat(plain.len()));
                [frame, end, pack(&plain)].concat()
            }
        };
        assert_eq!(
            zstd::bulk::decompress(&frame, plain.len()).expect(name),
            plain
        );
        let held = world.behind_the_gate(&name.replace(' ', "-")).await;
        let mut finish = bringing(&held, Outcome::Succeeded, (&plain, serial));
        finish.brings.as_mut().expect("bytes").frame = Some(frame);
        assert_eq!(tell(&world, &finish).await, Disposition::Applied);
        let blob = stored(&world, &plain).await.expect("stored");
        assert_eq!(blob.content, BlobContent::Inline(plain), "{name}");
    }
}

pub(crate) async fn a_stranger_brings_within_its_keys_allowance<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("ws").await;
    let mut unknown = held.clone();
    (unknown.id, unknown.lease) = (JobId::generate(), LeaseId::generate());
    let finish = bringing(&unknown, Outcome::Succeeded, (b"unclaimed", 3));
    assert_eq!(tell(&world, &finish).await, Disposition::Unclaimed);
    assert!(stored(&world, b"unclaimed").await.is_some());
    assert_eq!(world.serial("ws").await, None);

    // The lease of another instance is one that the queue does not know.
    let mut thief = held.clone();
    "other instance".clone_into(&mut thief.daemon.instance);
    let finish = bringing(&thief, Outcome::Succeeded, (b"thief", 3));
    assert_eq!(tell(&world, &finish).await, Disposition::Unclaimed);
    assert_eq!(world.serial("ws").await, None);

    let daemon = contact("stranger").daemon;
    for number in 0..limits::UNKNOWN_LEASE_BYTES / limits::BLOB {
        let id = BlobId {
            digest: Digest::of(&number.to_be_bytes()),
            size: limits::BLOB - 64,
        };
        let content = BlobContent::File;
        let holder = lease_of(&daemon, JobId::generate(), LeaseId::generate());
        let put = world.store.insert_blob(NewBlob::new(id, content), holder);
        put.await.expect("within the allowance");
    }
    let large = vec![7; limits::BLOB_INLINE];
    unknown.lease = LeaseId::generate();
    let finish = bringing(&unknown, Outcome::Succeeded, (&large, 4));
    let refused = world.store.finish(finish).await;
    assert!(matches!(refused, Err(Error::Allowance(_))), "{refused:?}");
    assert!(stored(&world, &large).await.is_none());
    let known = bringing(&held, Outcome::Succeeded, (&large, 4));
    assert_eq!(tell(&world, &known).await, Disposition::Applied);
}
