//! How much endings of leases that the queue does not know may take, and what happens to
//! those that are kept.

use std::time::Duration;

use proto::ids::{Digest, JobId, LeaseId};
use proto::limits;
use proto::v1;

use super::world::{Held, ORG, World, contact, lease_of};
use crate::store::model::{BlobContent, BlobId, Checkpoint, Disposition, Finish, NewBlob};
use crate::store::{Error, Store};
use crate::words::Outcome;

const AGE: Duration = Duration::from_secs(3_600);

/// An ending of a job that the queue does not know, with a report of about `bytes`.
fn strange(held: &Held, bytes: usize) -> Finish {
    let mut finish = held.finish(Outcome::Failed);
    (finish.job, finish.lease) = (JobId::generate(), LeaseId::generate());
    finish.report.job_id = "x".repeat(bytes);
    finish
}

/// Names a state of this size, which its daemon has put for it.
async fn with_state<S: Store>(world: &World<S>, finish: &mut Finish, size: u64) -> BlobId {
    let blob = BlobId {
        digest: Digest::of(finish.lease.as_bytes()),
        size,
    };
    let holder = lease_of(&finish.daemon, finish.job, finish.lease);
    let put = NewBlob::new(blob, BlobContent::File);
    let put = world.store.insert_blob(put, holder).await;
    put.expect("within the allowance");
    finish.report.state = Some(v1::Checkpoint {
        blob: Some(v1::BlobRef {
            sha256: blob.digest.as_bytes().to_vec(),
            size,
        }),
        ..v1::Checkpoint::default()
    });
    finish.state = Some(Checkpoint {
        blob,
        serial: 1,
        lineage: "l".to_owned(),
        ledger_seq: 0,
    });
    blob
}

async fn keep<S: Store>(world: &World<S>, finish: &Finish) {
    let kept = world.store.finish(finish.clone()).await.expect("kept");
    assert_eq!(kept.disposition, Disposition::Unclaimed);
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: &Result<T, Error>) {
    let Err(Error::Allowance(spent)) = answer else {
        panic!("{answer:?}");
    };
    let limit = limits::UNKNOWN_LEASE_BYTES.to_string();
    assert!(spent.to_string().contains(&limit), "{spent}");
}

/// They and their states stay, so what they take does not become free with its age.
pub(crate) async fn endings_that_no_job_took_use_their_keys_allowance<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    let mut kept = Vec::new();
    for _ in 0..limits::UNKNOWN_LEASE_BYTES / limits::BLOB {
        let mut finish = strange(&held, 100);
        with_state(&world, &mut finish, limits::BLOB - 2_000).await;
        keep(&world, &finish).await;
        kept.push(finish);
    }
    world.clock.advance(2 * AGE);
    world.store.sweep_blobs(AGE).await.expect("a sweep");
    let full = strange(&held, 20_000);
    refused(&world.store.finish(full.clone()).await);
    let count = world.store.unclaimed_finishes().await.expect("a count");
    assert_eq!(count, kept.len() as u64);
    // What is kept is answered as that, though nothing more fits and its blob's claim went;
    // also to a daemon that has not heard of it and puts its state again first.
    for finish in &kept {
        let state = finish.state.as_ref().expect("a state").blob;
        let holder = || lease_of(&finish.daemon, finish.job, finish.lease);
        let again = NewBlob::new(state, BlobContent::File);
        let stored = world.store.insert_blob(again, holder()).await;
        assert!(!stored.expect("no room is needed"), "it is held");
        let held = world.store.hold_blob(state, holder()).await;
        assert!(held.expect("no room is needed"));
        keep(&world, finish).await;
    }
    let strange_state = BlobId {
        digest: Digest::of(b"named by no ending"),
        size: limits::BLOB - 2_000,
    };
    let holder = lease_of(&kept[0].daemon, kept[0].job, kept[0].lease);
    let put = NewBlob::new(strange_state, BlobContent::File);
    refused(&world.store.insert_blob(put, holder).await);
    // Another key has its own, and a lease that is known needs none.
    let mut other = full.clone();
    other.daemon = contact("other").daemon;
    "other key".clone_into(&mut other.daemon.key);
    other.job = JobId::generate();
    keep(&world, &other).await;
    let mut known = held.finish(Outcome::Failed);
    known.report.job_id = "x".repeat(20_000);
    assert_eq!(world.done(&known).await, Disposition::Applied);
    // A person makes room, and the daemon's next try is kept.
    let first = world.store.unclaimed(ORG.to_owned(), None).await;
    let id = first.expect("a list")[0].id;
    let discarded = world.store.discard_unclaimed(ORG.to_owned(), id).await;
    discarded.expect("discarded");
    keep(&world, &full).await;
}

/// Also of reports that are read in several pages.
pub(crate) async fn the_states_of_all_unclaimed_endings_are_kept<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    let mut blobs = Vec::new();
    for bytes in [10, 2_500_000, 2_500_000, 5_000_000, 10] {
        let mut finish = strange(&held, bytes);
        blobs.push(with_state(&world, &mut finish, 1_000).await);
        keep(&world, &finish).await;
    }
    world.clock.advance(2 * AGE);
    world.store.sweep_blobs(AGE).await.expect("a sweep");
    let there = async |blob: &BlobId| {
        let found = world.store.blob(blob.digest).await;
        found.expect("an answer").is_some()
    };
    for blob in &blobs {
        assert!(there(blob).await);
    }
    let listed = world.store.unclaimed(ORG.to_owned(), None).await;
    let listed = listed.expect("a list");
    let discarded = world.store.discard_unclaimed(ORG.to_owned(), listed[3].id);
    discarded.await.expect("discarded");
    world.store.sweep_blobs(AGE).await.expect("a sweep");
    assert!(!there(&blobs[3]).await, "nobody names it any more");
    assert!(there(&blobs[4]).await);
}

pub(crate) async fn a_list_of_unclaimed_endings_is_one_page<S: Store>(world: World<S>) {
    world.push("template").await;
    let held = world.take("worker").await;
    for number in 0..104 {
        // The third and the second to last have 9 MiB each.
        let large = if number == 1 || number == 2 {
            9 << 20
        } else {
            10
        };
        keep(&world, &strange(&held, large)).await;
    }
    let list = async |before| {
        let listed = world.store.unclaimed(ORG.to_owned(), before).await;
        let listed = listed.expect("a list").into_iter();
        listed.map(|finish| finish.id).collect::<Vec<_>>()
    };
    let newest = list(None).await;
    assert_eq!(newest.len(), 100);
    assert!(newest.is_sorted());
    // Four are left, and two large ones are too much for a page of 16 MiB.
    let next = list(Some(newest[0])).await;
    assert_eq!(next.len(), 2);
    let last = list(Some(next[0])).await;
    assert_eq!(last.len(), 2);
    assert_eq!(list(Some(last[0])).await, Vec::<u64>::new());
}
