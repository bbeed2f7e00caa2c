//! What the sweep of blobs takes, and what it must leave.

use std::time::Duration;

use proto::ids::{JobId, LeaseId};

use super::world::World;
use crate::store::Store;
use crate::store::model::{BlobId, Disposition};
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
    assert!(world.store.touch_blob(touched.digest).await.expect("touch"));
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
