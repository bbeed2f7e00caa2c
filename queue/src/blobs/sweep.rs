//! Takes away blobs that nothing names: first the row, then the file, so that no row
//! ever names a file that is gone. A file without a row is found by looking at the
//! directory, whether its row went a moment ago or a dead process never wrote one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use proto::ids::Digest;

use super::{Blobs, Error, path_of};
use crate::store::Store;

/// What a sweep took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Rows.
    pub rows: u64,
    /// Files, with those that never had a row.
    pub files: u64,
}

/// Puts that are between their file and their row: those files are left alone.
#[derive(Debug, Clone, Default)]
pub struct Sealing(Arc<Mutex<HashMap<Digest, usize>>>);

/// One such put.
#[derive(Debug)]
pub struct Seal {
    of: Sealing,
    digest: Digest,
}

impl Sealing {
    /// To be held from before the file gets its name until the row is stored.
    pub fn begin(&self, digest: Digest) -> Seal {
        *self.lock().entry(digest).or_default() += 1;
        Seal {
            of: self.clone(),
            digest,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a file that had no row, unless a put came meanwhile: it either is in
    /// the table, or has made the file young.
    fn remove(&self, path: &Path, digest: Digest, age: Duration) -> std::io::Result<bool> {
        let sealing = self.lock();
        if sealing.contains_key(&digest) || !is_older(path, age)? {
            return Ok(false);
        }
        std::fs::remove_file(path)?;
        Ok(true)
    }
}

impl Drop for Seal {
    fn drop(&mut self) {
        let mut sealing = self.of.lock();
        if let Some(count) = sealing.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                sealing.remove(&self.digest);
            }
        }
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
            let removed = blocking(move || sealing.remove(&path, digest, age)).await?;
            files += u64::from(removed);
        }
        Ok(Swept { rows, files })
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

/// The blob whose file has this name.
fn named(name: &str) -> Option<Digest> {
    let byte = |at: usize| u8::from_str_radix(name.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..name.len()).step_by(2).map(byte).collect();
    let digest = Digest::try_from(bytes?.as_slice()).ok()?;
    (digest.to_string() == name).then_some(digest)
}

fn is_older(path: &Path, age: Duration) -> std::io::Result<bool> {
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
