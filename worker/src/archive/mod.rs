//! Unpacks a template archive into an empty directory.
//!
//! Whatever is not a plain file or a directory inside that directory, or exceeds a
//! limit, fails the whole archive by name. Nothing is cut short and nothing is left out
//! without a notice.

mod error;

pub use error::Error;

use std::io::Read;
use std::path::Path;

use proto::v1::Limits;

/// What an archive brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries in the archive, those left out included.
    pub entries: u64,
    /// Regular files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// One line for each thing that was knowingly left out; belongs in the job's log.
    pub notices: Vec<String>,
}

/// Unpacks a plain, gzip or zstd compressed tar into `into`, an existing empty
/// directory. On an error the directory holds a part of the archive and must be
/// thrown away. Blocks: call it off the async threads.
pub fn unpack(reader: impl Read, into: &Path, limits: &Limits) -> Result<Summary, Error> {
    let _ = (reader, into, limits);
    unimplemented!()
}
