//! Takes away blobs that nothing names: first the row, then the file, so that no row
//! ever names a file that is gone. A file without a row is found by looking at the
//! directory, whether its row went a moment ago or a dead process never wrote one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proto::ids::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Blobs, Error, partial, path_of};
use crate::store::Store;

/// What a sweep took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Rows.
    pub rows: u64,
    /// Files, with those that never had a row.
    pub files: u64,
    /// Blobs that had begun to come in by parts.
    pub partial: u64,
}

/// A lock file in the directory of blobs: held shared by puts that are between their file
/// and their row, and alone by whoever removes a file, in whichever process.
#[derive(Debug, Clone)]
pub struct Sealing(Arc<Path>);

/// A put between its file and its row.
#[derive(Debug)]
pub struct Seal {
    /// Held, never read.
    _lock: File,
}

impl Sealing {
    /// The lock of this directory, made when it is missing.
    pub fn open(directory: &Path) -> std::io::Result<Self> {
        let sealing = Self(directory.join("lock").into());
        sealing.file()?;
        Ok(sealing)
    }

    /// To be held from before the file gets its name until the row is stored.
    pub async fn begin(&self) -> std::io::Result<Seal> {
        let this = self.clone();
        let locking = tokio::task::spawn_blocking(move || this.hold());
        locking.await.map_err(std::io::Error::other).flatten()
    }

    /// The same, on a thread that may block: it waits for at most one removal of a file.
    pub fn hold(&self) -> std::io::Result<Seal> {
        let lock = self.file()?;
        flock(&lock, FlockOperation::LockShared)?;
        Ok(Seal { _lock: lock })
    }

    /// Removes a file that had no row, unless a put came meanwhile: it either holds the
    /// lock, or has made the file young.
    fn remove(&self, path: &Path, age: Duration) -> std::io::Result<bool> {
        let lock = self.file()?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // The next sweep finds it again.
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        if !is_older(path, age)? {
            return Ok(false);
        }
        std::fs::remove_file(path)?;
        Ok(true)
    }

    fn file(&self) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        options.open(&self.0)
    }
}

impl<S: Store> Blobs<S> {
    /// Takes away what is older than `age` and named by nothing. Harmless to repeat, and
    /// to break off.
    ///
    /// # Errors
    /// The store failed, or the directory cannot be read or changed.
    pub async fn sweep(&self, age: Duration) -> Result<Swept, Error> {
        let rows = self.store.sweep_blobs(age).await.map_err(Error::Store)?;
        let directory = Arc::clone(&self.directory);
        let old = blocking(move || old_files(&directory, age)).await?;
        let mut files = 0;
        for digest in old {
            let known = self.store.blob(digest).await.map_err(Error::Store)?;
            if known.is_some() {
                continue;
            }
            let (path, sealing) = (path_of(&self.directory, digest), self.sealing.clone());
            let removed = blocking(move || sealing.remove(&path, age)).await?;
            files += u64::from(removed);
        }
        let directory = Arc::clone(&self.directory);
        let partial = blocking(move || partial::collect(&directory)).await?;
        Ok(Swept {
            rows,
            files,
            partial,
        })
    }
}

/// Blobs that are files older than `age`.
fn old_files(directory: &Path, age: Duration) -> std::io::Result<Vec<Digest>> {
    let mut old = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let first = entry.file_name().to_string_lossy().into_owned();
        for file in std::fs::read_dir(entry.path())? {
            let file = file?;
            let name = format!("{first}{}", file.file_name().to_string_lossy());
            // A temporary file is no digest; it belongs to a put.
            if let Some(digest) = named(&name)
                && is_older(&file.path(), age)?
            {
                old.push(digest);
            }
        }
    }
    Ok(old)
}

/// The blob whose name this is, in hexadecimal digits.
pub(crate) fn named(name: &str) -> Option<Digest> {
    let byte = |at: usize| u8::from_str_radix(name.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..name.len()).step_by(2).map(byte).collect();
    let digest = Digest::try_from(bytes?.as_slice()).ok()?;
    (digest.to_string() == name).then_some(digest)
}

pub(super) fn is_older(path: &Path, age: Duration) -> std::io::Result<bool> {
    let written = match std::fs::symlink_metadata(path) {
        Ok(found) => found.modified()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // A file of the future is young: the clock was set back.
    let passed = SystemTime::now().duration_since(written);
    Ok(passed.is_ok_and(|passed| passed > age))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let worked = tokio::task::spawn_blocking(work).await;
    let worked = worked.map_err(std::io::Error::other).flatten();
    worked.map_err(Error::io("sweep"))
}

#[cfg(test)]
mod tests;
