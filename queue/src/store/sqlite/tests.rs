use proto::timings::Timings;
use tempfile::TempDir;

use super::*;
use crate::store::clock::Manual;

async fn open(clock: Manual) -> (Sqlite, TempDir) {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("queue.db");
    let store = Sqlite::open(&path, Timings::default(), TimeSource::Manual(clock));
    (store.expect("a store"), dir)
}

crate::store::conformance::conformance!(crate::store::sqlite::tests::open);
