//! A queue as one stream: backup, restore, and the way from SQLite to PostgreSQL.
//!
//! ```text
//!              ┌────────── Sink ──────────┐
//!  Source ────▶│ header, blobs, rows, end │────▶ Archive (a tar file) or Target
//!              └──────────────────────────┘
//!  Archive ───▶                                  Target
//! ```
//!
//! A source reads one snapshot of a database, also while queues serve
//! it, and keeps the sweep of blobs away meanwhile. A target is empty
//! before and takes all rows in one transaction, after the last blob and before nothing
//! else: a restore that fails leaves nothing that a queue would start on. Rows travel by
//! the names of their columns, so either database can take what the other one gave; both
//! must have the columns of this release.
//!
//! Everything here blocks and belongs to a process of its own.

mod archive;
mod blob_files;
mod error;
mod row;
mod source;
mod tables;
mod target;

use std::io::{Read, Write};
use std::path::PathBuf;

use proto::ids::Digest;
use serde::{Deserialize, Serialize};

use crate::data_dir::DataDir;
use crate::options::Database;
pub use error::Error;
use row::{Row, Table};

/// Where a queue is kept.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its rows.
    pub database: Database,
    /// Its blobs, unless they lie in the data directory.
    pub blob_dir: Option<PathBuf>,
}

impl Place {
    fn blobs(&self) -> PathBuf {
        let own = || DataDir::blobs_below(&self.data_dir);
        self.blob_dir.clone().unwrap_or_else(own)
    }
}

/// What was carried, and how far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Rows of all tables.
    pub rows: u64,
    /// Blobs that are files.
    pub blobs: u64,
    /// Their bytes, compressed as they lie on disk.
    pub blob_bytes: u64,
}

/// What stands before everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Of the archive: [`FORMAT`].
    format: u32,
    /// The release that wrote it.
    release: String,
    /// The store's clock at the snapshot, in Unix milliseconds.
    now_ms: i64,
    /// Tables and their columns.
    tables: Vec<Table>,
}

/// The layout of the stream; another number is another layout.
const FORMAT: u32 = 1;

type Result<T> = std::result::Result<T, Error>;

/// What takes a queue, in this order: header, blobs, rows, end.
pub(crate) trait Sink {
    fn begin(&mut self, header: &Header) -> Result<()>;
    /// A blob's file, `size` bytes of zstd.
    fn blob(&mut self, digest: Digest, size: u64, file: &mut dyn Read) -> Result<()>;
    /// Rows of one table of the header.
    fn rows(&mut self, table: &Table, rows: Vec<Row>) -> Result<()>;
    /// All of it came; makes it last.
    fn end(&mut self, totals: &Totals) -> Result<()>;
}

/// Told now and then what was carried so far.
pub type Progress<'p> = &'p mut dyn FnMut(&Totals);

/// Writes everything that a queue keeps, as of one moment. Queues may serve meanwhile.
///
/// # Errors
/// There is no queue, or it cannot be read, or `out` not be written; what was written
/// then has no end, and a restore refuses it.
pub fn backup(from: &Place, out: impl Write, progress: Progress<'_>) -> Result<Totals> {
    let source = source::Source::open(from, source::BATCH)?;
    source.pour(&mut archive::Writer::new(out, archive::LARGEST), progress)
}

/// Makes a queue of what [`backup`] wrote, in a place where none is yet.
///
/// # Errors
/// There is one already, or the backup is torn, damaged or of another release; nothing a
/// queue would start on is left then.
pub fn restore(from: impl Read, to: &Place, progress: Progress<'_>) -> Result<Totals> {
    let mut target = target::Target::open(to)?;
    archive::read(from, archive::LARGEST, &mut target, progress)
}

/// Carries a queue on SQLite, which must not be served meanwhile, to another place.
///
/// # Errors
/// As of [`backup`] and [`restore`].
pub fn migrate(from: &Place, to: &Place, progress: Progress<'_>) -> Result<Totals> {
    // The lock: what a serving queue would still write would be lost.
    let _alone = DataDir::open(&from.data_dir).map_err(Error::Open)?;
    let source = source::Source::open(from, source::BATCH)?;
    let mut target = target::Target::open(to)?;
    source.pour(&mut target, progress)
}

#[cfg(test)]
mod tests;
