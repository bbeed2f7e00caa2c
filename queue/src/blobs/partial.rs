//! Blobs that come in by parts, in calls of their own, maybe at several replicas: what
//! has come of one lies uncompressed in `parts/KEY/HOLDER-SIZE` of the directory that all
//! replicas share, and its length is how much there is. When all of it is there it is
//! checked, stored as any other blob is, and the partial file goes.
//!
//! Nothing here is made durable before the end: whatever a power cut tears is found out by
//! the digest, and the blob begins anew. What nobody adds to any more is collected.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use proto::ids::Digest;
use proto::limits;
use rustix::fs::{FlockOperation, flock};

use super::places::Caller;
use super::sweep::is_older;
use super::write::{self, Incoming, make};
use super::{Blobs, Error, sink};
use crate::store::Store;
use crate::store::model::{BlobContent, BlobId, Holder};

/// Where they are, below the directory of blobs.
const DIRECTORY: &str = "parts";

/// Longer than a daemon waits between two tries, however long the queue was away.
const ABANDONED: Duration = Duration::from_hours(1);

/// A partial file.
#[derive(Debug, Clone)]
struct Partial {
    id: BlobId,
    /// Of all that one key has.
    directory: PathBuf,
    path: PathBuf,
}

impl<S: Store> Blobs<S> {
    /// Takes bytes from `at` on; how many there are now. All of them: it is stored. Bytes
    /// that are there already are not looked at, nor such as would leave a hole.
    ///
    /// # Errors
    /// Not the announced bytes, a limit, disk or store trouble.
    pub async fn put_part(
        &self,
        id: BlobId,
        holder: Holder,
        (at, data): (u64, Bytes),
    ) -> Result<u64, Error> {
        if id.size > limits::BLOB {
            return Err(Error::TooLarge { size: id.size });
        }
        write::fits(id, at.saturating_add(data.len() as u64))?;
        if id.size <= limits::BLOB_INLINE as u64 {
            return self.put_whole(id, holder, (at, data)).await;
        }
        let partial = Partial::of(&self.directory, id, &holder);
        let _place = self.places.take(Caller::from(&holder)).await;
        let adding = partial.clone();
        let received = self.places.on_disk(move || adding.add(at, &data)).await?;
        if received < id.size {
            return Ok(received);
        }
        // Until the row is there, so that no sweep takes the file.
        let seal = self.sealing.begin().await;
        let _seal = seal.map_err(Error::io("write"))?;
        let (directory, whole) = (self.directory.clone(), partial.clone());
        self.places.on_disk(move || whole.store(&directory)).await?;
        sink::insert(self, id, BlobContent::File, holder).await?;
        self.places.on_disk(move || partial.remove()).await?;
        Ok(id.size)
    }

    /// A blob that is small enough comes in one part or not at all.
    async fn put_whole(
        &self,
        id: BlobId,
        holder: Holder,
        (at, data): (u64, Bytes),
    ) -> Result<u64, Error> {
        if at > 0 || (data.len() as u64) < id.size {
            return Ok(0);
        }
        let mut sink = self.put(id, Caller::from(&holder)).await?;
        sink.push(data).await;
        sink.finish(holder).await?;
        Ok(id.size)
    }
}

impl Partial {
    fn of(blobs: &Path, id: BlobId, holder: &Holder) -> Self {
        let (key, lease) = match holder {
            Holder::Lease { daemon, job, lease } => (
                [&*daemon.organization, "key", &*daemon.key],
                format!(
                    "{}\0{}\0{job}\0{}",
                    daemon.name,
                    daemon.instance,
                    Digest::of(lease.as_bytes())
                ),
            ),
            Holder::Client {
                organization,
                owner,
            } => ([&**organization, "owner", &**owner], String::new()),
        };
        let hash = |text: String| Digest::of(text.as_bytes());
        let directory = blobs.join(DIRECTORY).join(hash(key.join("\0")).to_string());
        let name = hash(format!("{}\0{lease}", id.digest));
        Self {
            id,
            path: directory.join(format!("{name}-{}", id.size)),
            directory,
        }
    }

    /// Adds bytes that begin where the file ends.
    fn add(&self, at: u64, data: &[u8]) -> Result<u64, Error> {
        let failed = Error::io("write");
        let Some(file) = self.open(at, data)? else {
            return Ok(0);
        };
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        let there = file.metadata().map_err(&failed)?.len();
        if there != at || there + data.len() as u64 > self.id.size {
            return Ok(there.min(self.id.size));
        }
        file.write_all_at(data, at).map_err(failed)?;
        Ok(there + data.len() as u64)
    }

    /// The file; none when there is none and this is not its beginning.
    fn open(&self, at: u64, data: &[u8]) -> Result<Option<File>, Error> {
        let failed = Error::io("write");
        let mut options = OpenOptions::new();
        options.truncate(false).write(true).mode(0o600);
        match options.open(&self.path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if at > 0 || data.is_empty() {
            return Ok(None);
        }
        if let Some(parent) = self.directory.parent() {
            make(parent).map_err(&failed)?;
        }
        make(&self.directory).map_err(&failed)?;
        self.admit()?;
        let made = options.create(true).open(&self.path);
        made.map(Some).map_err(failed)
    }

    /// Whether its key may begin one more.
    fn admit(&self) -> Result<(), Error> {
        let failed = Error::io("read");
        let (mut count, mut bytes) = (0, self.id.size);
        for entry in std::fs::read_dir(&self.directory).map_err(&failed)? {
            let name = entry.map_err(&failed)?.file_name();
            let name = name.to_string_lossy();
            let size = name
                .rsplit_once('-')
                .and_then(|(_, size)| size.parse().ok());
            count += 1;
            bytes = bytes.saturating_add(size.unwrap_or(0));
        }
        if count >= limits::PARTIAL_BLOBS || bytes > limits::PARTIAL_BYTES {
            return Err(Error::TooManyPartial);
        }
        Ok(())
    }

    /// Makes a blob of it, if it is what was announced; else it is not kept.
    fn store(&self, blobs: &Path) -> Result<(), Error> {
        let stored = self.copy(blobs);
        if let Err(Error::Mismatch { .. }) = stored {
            self.remove()?;
        }
        stored
    }

    fn copy(&self, blobs: &Path) -> Result<(), Error> {
        let failed = Error::io("read");
        let mut file = File::open(&self.path).map_err(&failed)?;
        let mut incoming = Incoming::create(blobs, self.id)?;
        let mut buffer = vec![0; limits::BLOB_CHUNK];
        loop {
            let read = file.read(&mut buffer).map_err(&failed)?;
            if read == 0 {
                return incoming.seal();
            }
            incoming.write(&buffer[..read])?;
        }
    }

    fn remove(&self) -> Result<(), Error> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("write")(error)),
        }
    }
}

/// Removes what nobody has added to for an hour; how many files.
pub(super) fn collect(blobs: &Path) -> std::io::Result<u64> {
    let mut collected = 0;
    let keys = match std::fs::read_dir(blobs.join(DIRECTORY)) {
        Ok(keys) => keys,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for key in keys {
        let key = key?.path();
        for file in std::fs::read_dir(&key)? {
            let path = file?.path();
            if is_older(&path, ABANDONED)? {
                std::fs::remove_file(path)?;
                collected += 1;
            }
        }
        // One that still has files stays.
        let _not_empty = std::fs::remove_dir(&key);
    }
    Ok(collected)
}

#[cfg(test)]
mod tests;
