//! The embedded store.

use std::path::Path;

use proto::timings::Timings;

/// The embedded store: one file, one writer thread.
#[derive(Debug, Clone)]
pub struct Sqlite {}

/// Where a store's time comes from.
#[derive(Debug, Clone)]
pub enum TimeSource {
    /// The machine.
    System,
    /// A test.
    Manual(super::clock::Manual),
}

impl Sqlite {
    /// Opens or makes the database file at `path`; the caller owns its directory.
    /// Blocks while migrations run.
    pub fn open(path: &Path, timings: Timings, time: TimeSource) -> super::Result<Self> {
        let _ = (path, timings, time);
        unimplemented!()
    }
}
