use super::*;
use crate::blobs::{Caller, Pushed, Used};
use crate::store::clock::Manual;
use crate::store::model::{BlobId, Holder};
use crate::store::sqlite::{Sqlite, TimeSource};
use proto::timings::Timings;

const AGE: Duration = Duration::from_secs(3_600);

struct Place {
    dir: tempfile::TempDir,
    blobs: Blobs<Sqlite>,
    clock: Manual,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let clock = Manual::at(1_700_000_000_000);
        let time = TimeSource::Manual(clock.clone());
        let store = Sqlite::open(&dir.path().join("db"), Timings::default(), time);
        let store = store.expect("store");
        let blobs = Blobs::open(store, dir.path().join("blobs"), Used::Alone).expect("blobs");
        Self { dir, blobs, clock }
    }

    /// A blob that is a file, and where.
    async fn file(&self, filler: u8) -> (BlobId, std::path::PathBuf) {
        let bytes = vec![filler; proto::limits::BLOB_INLINE + 1];
        let id = BlobId {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
        };
        let mut sink = self.blobs.put(id, Caller::Queue).await.expect("put");
        assert_eq!(sink.push(bytes.into()).await, Pushed::Taken);
        sink.finish(client()).await.expect("stored");
        let path = path_of(&self.dir.path().join("blobs"), id.digest);
        assert!(path.exists());
        (id, path)
    }
}

fn client() -> Holder {
    Holder::Client {
        organization: "default".to_owned(),
        owner: "ann".to_owned(),
    }
}

fn make_old(path: &Path) {
    let file = File::options().write(true).open(path);
    let long_ago = SystemTime::now() - 2 * AGE;
    file.and_then(|file| file.set_modified(long_ago))
        .expect("time of a file");
}

#[tokio::test]
async fn an_old_file_goes_with_its_row_and_a_young_one_stays() {
    let place = Place::new();
    let (_, old) = place.file(1).await;
    make_old(&old);
    place.clock.advance(2 * AGE);
    let (_, young) = place.file(2).await;
    let swept = place.blobs.sweep(AGE).await.expect("sweep");
    assert_eq!(
        swept,
        Swept {
            rows: 1,
            files: 1,
            partial: 0
        }
    );
    assert!(!old.exists() && young.exists());
    let again = place.blobs.sweep(AGE).await.expect("sweep");
    assert_eq!(
        again,
        Swept {
            rows: 0,
            files: 0,
            partial: 0
        }
    );
}

#[tokio::test]
async fn a_blob_that_is_put_again_is_young_again() {
    let place = Place::new();
    let (id, path) = place.file(1).await;
    make_old(&path);
    place.clock.advance(2 * AGE);
    assert!(place.blobs.held(id, client()).await.expect("an answer"));
    let swept = place.blobs.sweep(AGE).await.expect("sweep");
    assert_eq!(
        swept,
        Swept {
            rows: 0,
            files: 0,
            partial: 0
        }
    );
    assert!(path.exists());
}

#[tokio::test]
async fn a_file_whose_put_has_no_row_yet_is_left_alone() {
    let place = Place::new();
    let directory = place.dir.path().join("blobs/ab");
    std::fs::create_dir(&directory).expect("dir");
    let path = directory.join("0".repeat(62));
    std::fs::write(&path, b"x").expect("file");
    make_old(&path);
    let seal = place.blobs.sealing.begin().await.expect("lock");
    place.blobs.sweep(AGE).await.expect("sweep");
    assert!(path.exists());
    drop(seal);
    let swept = place.blobs.sweep(AGE).await.expect("sweep");
    assert_eq!((swept.files, path.exists()), (1, false));
}
