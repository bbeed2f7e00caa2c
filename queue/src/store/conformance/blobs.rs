//! What the sweep of blobs takes, and what it must leave.

use std::time::Duration;

use proto::ids::{Digest, JobId, LeaseId};
use proto::limits;

use super::world::{ORG, World, client, contact, lease_of};
use crate::store::model::{BlobContent, BlobId, Disposition, Holder, NewBlob};
use crate::store::{Error, Store};
use crate::words::Outcome;

const AGE: Duration = Duration::from_secs(3_600);

async fn is_there<S: Store>(world: &World<S>, blob: BlobId) -> bool {
    let found = world.store.blob(blob.digest).await;
    found.expect("an answer").is_some()
}

async fn sweep<S: Store>(world: &World<S>) -> u64 {
    world.store.sweep_blobs(AGE).await.expect("a sweep")
}

pub(crate) async fn only_old_blobs_that_nothing_names_are_swept<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("w").await;
    let checkpoint = world.state(4, 1).await;
    let mut update = held.update(2);
    update.checkpoint = Some(checkpoint.clone());
    world.tell(update).await;
    let orphan = world.upload(b"never named").await;
    assert_eq!(sweep(&world).await, 0, "all are young");
    world.clock.advance(2 * AGE);
    let young = world.upload(b"young").await;
    assert_eq!(sweep(&world).await, 1);
    assert!(!is_there(&world, orphan).await);
    assert!(is_there(&world, young).await);
    assert!(is_there(&world, checkpoint.blob).await);
    let archive = held.header.archive.expect("an archive");
    let archive = archive.sha256.as_slice().try_into().expect("a digest");
    assert!(world.store.blob(archive).await.expect("blob").is_some());
}

pub(crate) async fn a_blob_that_is_put_again_is_young_again<S: Store>(world: World<S>) {
    let put = world.upload(b"put again").await;
    let touched = world.upload(b"touched").await;
    world.clock.advance(2 * AGE);
    world.upload(b"put again").await;
    let held = world.store.hold_blob(touched, client(ORG, "ann")).await;
    assert!(held.expect("an answer"));
    assert_eq!(sweep(&world).await, 0);
    assert!(is_there(&world, put).await && is_there(&world, touched).await);
}

pub(crate) async fn the_state_of_an_unclaimed_finish_is_kept<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("w").await;
    let mut foreign = held.finish(Outcome::Succeeded);
    foreign.job = JobId::generate();
    foreign.lease = LeaseId::generate();
    let state = world.state(9, 0).await;
    foreign.state = Some(state.clone());
    foreign.report.state = Some(proto::v1::Checkpoint {
        blob: Some(proto::v1::BlobRef {
            sha256: state.blob.digest.as_bytes().to_vec(),
            size: state.blob.size,
        }),
        ..proto::v1::Checkpoint::default()
    });
    assert_eq!(world.store.unclaimed_finishes().await.expect("count"), 0);
    assert_eq!(world.done(&foreign).await, Disposition::Unclaimed);
    assert_eq!(world.store.unclaimed_finishes().await.expect("count"), 1);
    world.clock.advance(2 * AGE);
    sweep(&world).await;
    assert!(is_there(&world, state.blob).await);
}

async fn holds<S: Store>(world: &World<S>, blob: BlobId, holder: Holder) -> bool {
    let held = world.store.hold_blob(blob, holder).await;
    held.expect("an answer")
}

pub(crate) async fn a_blob_is_held_only_by_who_put_it<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("w").await;
    let mut again = held.clone();
    again.lease = LeaseId::generate();
    let mut elsewhere = held.clone();
    "other instance".clone_into(&mut elsewhere.daemon.instance);
    let holders = [
        client(ORG, "ann"),
        client(ORG, "bob"),
        client("other", "ann"),
        held.holder(),
        again.holder(),
        elsewhere.holder(),
    ];
    for (number, putter) in holders.iter().enumerate() {
        let bytes = format!("bytes {number}");
        let (blob, new) = world.put(bytes.as_bytes(), putter.clone()).await;
        assert!(new, "{putter:?}");
        for holder in &holders {
            let expected = holder == putter;
            assert_eq!(holds(&world, blob, holder.clone()).await, expected);
        }
        let larger = BlobId {
            size: blob.size + 1,
            ..blob
        };
        assert!(!holds(&world, larger, putter.clone()).await);
    }
}

pub(crate) async fn a_put_of_what_others_put_looks_like_any_other<S: Store>(world: World<S>) {
    let ann = || client(ORG, "ann");
    let bob = || client(ORG, "bob");
    assert!(world.put(b"shared", ann()).await.1);
    assert!(!world.put(b"shared", ann()).await.1, "a repetition");
    let (blob, new) = world.put(b"shared", bob()).await;
    assert!(new, "bob must not see that it was there");
    assert!(holds(&world, blob, ann()).await && holds(&world, blob, bob()).await);
}

pub(crate) async fn a_daemon_names_only_what_it_put_for_that_lease<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("w").await;
    let foreign = world.state(5, 0).await;
    let mut finish = held.finish(Outcome::Succeeded);
    finish.state = Some(foreign.clone());
    let refused = world.store.finish(finish.clone()).await;
    let missing = |digest: String| matches!(&refused, Err(Error::BlobMissing { digest: named }) if *named == digest);
    assert!(missing(foreign.blob.digest.to_string()), "{refused:?}");
    let mut update = held.update(2);
    update.checkpoint = Some(foreign);
    let refused = world.store.update(update).await;
    assert!(matches!(refused, Err(Error::BlobMissing { .. })));
    assert_eq!(world.serial("w").await, None);
    assert_eq!(world.done(&finish).await, Disposition::Applied);
    assert_eq!(world.serial("w").await, Some(5));
}

pub(crate) async fn what_a_key_stores_for_unknown_leases_is_bounded<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("w").await;
    let put = |number: u64, size: u64, holder: Holder| {
        let id = BlobId {
            digest: Digest::of(&number.to_be_bytes()),
            size,
        };
        let content = BlobContent::File;
        world.store.insert_blob(NewBlob::new(id, content), holder)
    };
    let unknown = |key: &str| {
        let mut daemon = contact("stranger").daemon;
        key.clone_into(&mut daemon.key);
        lease_of(&daemon, JobId::generate(), LeaseId::generate())
    };
    let most = limits::UNKNOWN_LEASE_BYTES / limits::BLOB;
    for number in 0..most {
        let stored = put(number, limits::BLOB, unknown("key")).await;
        assert!(stored.expect("within the allowance"));
    }
    let refused = put(100, 1, unknown("key")).await;
    assert!(matches!(refused, Err(Error::Allowance(_))), "{refused:?}");
    let id = BlobId {
        digest: Digest::of(b"asked before"),
        size: 1,
    };
    let refused = world.store.hold_blob(id, unknown("key")).await;
    assert!(matches!(refused, Err(Error::Allowance(_))), "{refused:?}");
    put(101, 1, unknown("other key")).await.expect("its own");
    put(102, 1, held.holder()).await.expect("a known lease");
    world.clock.advance(2 * AGE);
    sweep(&world).await;
    put(103, 1, unknown("key")).await.expect("free again");
}

pub(crate) async fn another_daemons_lease_is_no_lease<S: Store>(world: World<S>) {
    let held = world.behind_the_gate("w").await;
    let mut thief = held.clone();
    thief.daemon = contact("thief").daemon;
    let readable = world
        .store
        .readable_blobs(thief.daemon.clone(), held.id, held.lease);
    assert_eq!(readable.await.expect("digests"), []);
    assert!(matches!(
        world.confirm(&thief).await,
        Err(Error::OfferGone { .. })
    ));
    let before = world.job(held.id).await;
    let mut update = thief.update(9);
    update.lines = super::world::lines(1..=1);
    let told = world.tell(update).await.verdict();
    assert_eq!(told, proto::v1::UpdateVerdict::Fenced);
    let mut stolen = thief.finish(Outcome::Failed);
    stolen.state = Some(world.state(66, 0).await);
    assert_eq!(world.done(&stolen).await, Disposition::Unclaimed);
    assert_eq!(world.job(held.id).await, before);
    assert_eq!(world.serial("w").await, None);
    // What the thief said takes no place from what the holder says, even late.
    world.pass(700).await;
    let mut late = held.finish(Outcome::Succeeded);
    late.state = Some(world.state(7, 0).await);
    assert_eq!(world.done(&late).await, Disposition::Late);
    assert_eq!(world.serial("w").await, Some(7));
}

pub(crate) async fn claims_are_forgotten_with_their_age<S: Store>(world: World<S>) {
    let ann = || client(ORG, "ann");
    let bob = || client(ORG, "bob");
    let (blob, _) = world.put(b"named", ann()).await;
    world.clock.advance(2 * AGE);
    world.put(b"named", bob()).await;
    sweep(&world).await;
    assert!(!holds(&world, blob, ann()).await);
    assert!(holds(&world, blob, bob()).await);
}
