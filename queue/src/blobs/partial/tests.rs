use std::time::SystemTime;

use proto::ids::{JobId, LeaseId};
use proto::timings::Timings;

use super::*;
use crate::blobs::Used;
use crate::store::clock::Manual;
use crate::store::model::DaemonRef;
use crate::store::sqlite::{Sqlite, TimeSource};

const PART: usize = limits::BLOB_PART;

struct Place {
    dir: tempfile::TempDir,
    blobs: Blobs<Sqlite>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let time = TimeSource::Manual(Manual::at(1_700_000_000_000));
        let store = Sqlite::open(&dir.path().join("db"), Timings::default(), time);
        let blobs = dir.path().join("blobs");
        let blobs = Blobs::open(store.expect("store"), blobs, Used::Alone).expect("blobs");
        Self { dir, blobs }
    }

    /// As another process that opens the same directory.
    fn again(&self) -> Blobs<Sqlite> {
        let path = self.dir.path().join("blobs");
        Blobs::open(self.blobs.store.clone(), path, Used::Alone).expect("blobs")
    }

    fn partial(&self) -> Vec<PathBuf> {
        let parts = self.dir.path().join("blobs").join(DIRECTORY);
        let Ok(keys) = std::fs::read_dir(parts) else {
            return Vec::new();
        };
        let files = keys.flat_map(|key| std::fs::read_dir(key.expect("key").path()).expect("dir"));
        files.map(|file| file.expect("file").path()).collect()
    }
}

fn holder(name: &str) -> Holder {
    Holder::Lease {
        daemon: DaemonRef {
            organization: "default".to_owned(),
            key: "key".to_owned(),
            name: name.to_owned(),
            instance: "i".to_owned(),
        },
        job: JobId::generate(),
        lease: LeaseId::generate(),
    }
}

fn id(bytes: &[u8]) -> BlobId {
    BlobId {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    }
}

fn bytes(size: usize) -> Bytes {
    (0..size).map(|n| (n / 7 % 251) as u8).collect()
}

#[tokio::test]
async fn parts_come_together_whoever_takes_them_and_however_often() {
    let place = Place::new();
    let whole = bytes(2 * PART + 10);
    let (id, holder) = (id(&whole), holder("one"));
    let (at, rest) = (PART as u64, whole.slice(PART..2 * PART));
    let put = |blobs: &Blobs<Sqlite>, at: u64, data: Bytes| {
        let (blobs, holder) = (blobs.clone(), holder.clone());
        async move { blobs.put_part(id, holder, (at, data)).await.expect("taken") }
    };
    let first = whole.slice(..PART);
    assert_eq!(put(&place.blobs, 0, Bytes::new()).await, 0, "a question");
    assert!(place.partial().is_empty(), "which leaves nothing");
    assert_eq!(put(&place.blobs, at, rest.clone()).await, 0, "no beginning");
    assert_eq!(put(&place.blobs, 0, first.clone()).await, at);
    assert_eq!(put(&place.blobs, 0, first).await, at, "repeated");
    assert_eq!(
        put(&place.blobs, 2 * at, whole.slice(..3)).await,
        at,
        "a hole"
    );
    let other = place.again();
    assert_eq!(put(&other, 0, Bytes::new()).await, at, "kept");
    assert_eq!(put(&other, at, rest).await, 2 * at);
    assert_eq!(
        put(&place.blobs, 2 * at, whole.slice(2 * PART..)).await,
        id.size
    );
    assert!(place.partial().is_empty(), "it is a blob now");
    for (at, part) in [(PART, PART..2 * PART), (2 * PART, 2 * PART..2 * PART + 10)] {
        let read = place.blobs.part(id.digest, at as u64, Caller::Queue).await;
        let (read, _place) = read.expect("read");
        assert_eq!(read, whole.slice(part));
    }
    assert!(place.blobs.held(id, holder.clone()).await.expect("asked"));
}

#[tokio::test]
async fn what_is_not_what_was_announced_is_refused_and_begins_anew() {
    let place = Place::new();
    let whole = bytes(PART + 10);
    let (id, holder) = (id(&whole), holder("one"));
    let put = |at: u64, data: Bytes| place.blobs.put_part(id, holder.clone(), (at, data));
    put(0, whole.slice(..PART)).await.expect("taken");
    let wrong = put(PART as u64, Bytes::from(vec![0; 10])).await;
    assert!(matches!(wrong, Err(Error::Mismatch { .. })), "{wrong:?}");
    assert!(place.partial().is_empty());
    let over = put(PART as u64, whole.slice(..11)).await;
    assert!(matches!(over, Err(Error::Mismatch { .. })), "{over:?}");
    put(0, whole.slice(..PART)).await.expect("taken");
    // As after a power cut.
    std::fs::write(&place.partial()[0], vec![0; PART]).expect("torn");
    let torn = put(PART as u64, whole.slice(PART..)).await;
    assert!(matches!(torn, Err(Error::Mismatch { .. })), "{torn:?}");
    put(0, whole.slice(..PART)).await.expect("taken");
    assert_eq!(
        put(PART as u64, whole.slice(PART..)).await.expect("stored"),
        id.size
    );
}

#[tokio::test]
async fn two_holders_of_one_digest_do_not_share_what_is_not_whole() {
    let place = Place::new();
    let whole = bytes(PART + 10);
    let put = async |holder: Holder, at: u64, data: Bytes| {
        place
            .blobs
            .put_part(id(&whole), holder, (at, data))
            .await
            .expect("taken")
    };
    put(holder("one"), 0, whole.slice(..PART)).await;
    assert_eq!(
        put(holder("two"), PART as u64, whole.slice(PART..)).await,
        0
    );
    assert_eq!(place.partial().len(), 1);
}

#[tokio::test]
async fn a_small_blob_comes_whole() {
    let place = Place::new();
    let whole = bytes(100);
    let put = |at: u64, data: Bytes| place.blobs.put_part(id(&whole), holder("one"), (at, data));
    assert_eq!(put(0, whole.slice(..50)).await.expect("answered"), 0);
    assert_eq!(put(0, whole.clone()).await.expect("stored"), 100);
    let wrong = put(0, Bytes::from(vec![1; 100])).await;
    assert!(matches!(wrong, Err(Error::Mismatch { .. })), "{wrong:?}");
}

#[tokio::test]
async fn a_key_that_finishes_nothing_is_refused_and_another_is_not() {
    let place = Place::new();
    let blob = |n: u64| BlobId {
        digest: Digest::of(&n.to_le_bytes()),
        size: limits::BLOB,
    };
    let most = limits::PARTIAL_BYTES / limits::BLOB;
    let begin = |n: u64, holder: Holder| {
        let part = (0, Bytes::from_static(b"begun"));
        place.blobs.put_part(blob(n), holder, part)
    };
    for n in 0..most {
        begin(n, holder("one")).await.expect("within the limit");
    }
    let refused = begin(most, holder("two")).await;
    assert!(matches!(refused, Err(Error::TooManyPartial)), "{refused:?}");
    let mut other = holder("three");
    if let Holder::Lease { daemon, .. } = &mut other {
        daemon.key = "another".to_owned();
    }
    begin(most, other).await.expect("another key");
}

#[tokio::test]
async fn what_nobody_adds_to_is_collected() {
    let place = Place::new();
    let whole = bytes(PART + 10);
    for name in ["old", "young"] {
        let part = (0, whole.slice(..PART));
        let put = place.blobs.put_part(id(&whole), holder(name), part).await;
        put.expect("taken");
    }
    let old = place.partial().remove(0);
    let file = File::options().write(true).open(&old).expect("file");
    let long_ago = SystemTime::now() - 2 * ABANDONED;
    file.set_modified(long_ago).expect("time");
    let swept = place.blobs.sweep(Duration::from_hours(24)).await;
    assert_eq!(swept.expect("swept").partial, 1);
    let left = place.partial();
    assert!(left.len() == 1 && left[0] != old);
}
