//! Blobs: immutable bytes named by the SHA-256 of their uncompressed form.
//!
//! Up to `limits::BLOB_INLINE` they live in the store's rows. Larger ones are zstd files
//! `blobs/ab/cdef…`, written under a temporary name in the same directory, fsynced,
//! renamed, the directory fsynced, and only then named by a row. No blob is ever held in
//! memory whole beyond the inline size, and none holds a thread while its peer is waited
//! for (`places`). Nothing is deleted here but temporary files of a
//! process that died, and what the sweep finds to be old and named by nothing.

mod error;
mod partial;
pub mod place;
mod places;
mod read;
mod sink;
mod sweep;
mod write;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::ids::Digest;
use proto::{limits, timings};
use tokio::sync::mpsc;

use crate::store::Store;
use crate::store::model::{BlobContent, BlobId, Holder, StoredBlob};
pub use error::Error;
pub(crate) use places::Places;
pub use places::{Caller, Place};
pub use sink::{Pushed, Sink};
pub(crate) use sweep::{Seal, Sealing, named};
pub(crate) use write::make;

/// Chunks between the disk and a connection: enough to keep both busy.
const QUEUED_CHUNKS: usize = 2;

/// How the name of a file that is being written begins.
pub(crate) const TEMPORARY: &str = "new-";

/// Whose a directory of blobs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// This process's: what is half written in it was left by a dead one.
    Alone,
    /// All replicas': others may be writing.
    ByReplicas,
}

/// Whether a put brought something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Its holder may name it now.
    Stored,
    /// It could before.
    Known,
}

/// The blobs of one queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs<S> {
    store: S,
    directory: Arc<Path>,
    places: Places,
    stall: Duration,
    sealing: Sealing,
}

impl<S: Store> Blobs<S> {
    /// Opens the directory, making it if needed, and removes what a dead process left
    /// half written. Blocks on the disk; the caller holds the queue's lock.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(store: S, directory: PathBuf, used: Used) -> std::io::Result<Self> {
        write::prepare(&directory, used)?;
        Ok(Self {
            store,
            sealing: Sealing::open(&directory)?,
            directory: directory.into(),
            places: Places::default(),
            stall: timings::TRANSFER_STALL,
        })
    }

    /// Whether a holder may name a blob without putting it. One that it may will not be
    /// swept before it can be named.
    ///
    /// # Errors
    /// The store failed, or an unknown lease has no allowance for it.
    pub async fn held(&self, id: BlobId, holder: Holder) -> Result<bool, Error> {
        self.store.hold_blob(id, holder).await.map_err(Error::Store)
    }

    /// Begins a put; bytes go to [`Sink::push`]. Dropping the sink forgets them.
    ///
    /// # Errors
    /// Larger than the largest blob, or a file that cannot be made.
    pub async fn put(&self, id: BlobId, caller: Caller) -> Result<Sink<S>, Error> {
        if id.size > limits::BLOB {
            return Err(Error::TooLarge { size: id.size });
        }
        Sink::begin(self.clone(), id, caller).await
    }

    /// Bytes of a blob from `offset` on, in chunks of at most `limits::BLOB_CHUNK`.
    /// Dropping the receiver ends the reading.
    ///
    /// # Errors
    /// Not stored, or an offset beyond its end; what fails later comes in the channel.
    pub async fn get(
        &self,
        digest: Digest,
        offset: u64,
        caller: Caller,
    ) -> Result<mpsc::Receiver<Result<Bytes, Error>>, Error> {
        let blob = self.from(digest, offset).await?;
        let (chunks, received) = mpsc::channel(QUEUED_CHUNKS);
        match blob.content {
            BlobContent::Inline(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = Bytes::from(bytes).slice(start..);
                if !rest.is_empty() {
                    let _fits = chunks.try_send(Ok(rest));
                }
            }
            BlobContent::File => {
                let place = self.places.take(caller).await;
                let path = path_of(&self.directory, digest);
                let places = self.places.clone();
                tokio::spawn(async move {
                    let _place = place;
                    read::send_all(&places, path, offset, &chunks).await;
                });
            }
        }
        Ok(received)
    }

    /// At most `limits::BLOB_PART` bytes of a blob from `offset` on, with the place they
    /// take.
    ///
    /// # Errors
    /// Not stored, an offset beyond its end, or the disk.
    pub async fn part(
        &self,
        digest: Digest,
        offset: u64,
        caller: Caller,
    ) -> Result<(Bytes, Option<Place>), Error> {
        let blob = self.from(digest, offset).await?;
        match blob.content {
            BlobContent::Inline(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                Ok((Bytes::from(bytes).slice(start..), None))
            }
            BlobContent::File => {
                let place = self.places.take(caller).await;
                let path = path_of(&self.directory, digest);
                let reading = self.places.on_disk(move || {
                    read::part(&path, offset, limits::BLOB_PART).map_err(Error::io("read"))
                });
                Ok((reading.await?, Some(place)))
            }
        }
    }

    /// A known blob that has so many bytes at least.
    async fn from(&self, digest: Digest, offset: u64) -> Result<StoredBlob, Error> {
        let found = self.store.blob(digest).await.map_err(Error::Store)?;
        let blob = found.ok_or(Error::Missing(digest))?;
        if offset > blob.id.size {
            return Err(Error::Offset {
                offset,
                size: blob.id.size,
            });
        }
        Ok(blob)
    }

    /// Lets `look` read a whole blob, on a thread that may block.
    ///
    /// # Errors
    /// Not stored with this size, or its file cannot be opened.
    pub async fn look<T: Send + 'static>(
        &self,
        id: BlobId,
        look: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let found = self.store.blob(id.digest).await.map_err(Error::Store)?;
        let blob = found.filter(|blob| blob.id == id);
        let blob = blob.ok_or(Error::Missing(id.digest))?;
        let path = path_of(&self.directory, id.digest);
        let looking = self.places.on_disk(move || match blob.content {
            BlobContent::Inline(bytes) => Ok(look(&mut bytes.as_slice())),
            BlobContent::File => {
                let opened = read::open(&path).map(|mut bytes| look(&mut bytes));
                opened.map_err(Error::io("read"))
            }
        });
        looking.await
    }

    /// In which time a peer has to move `limits::TRANSFER_PACE` bytes.
    #[must_use]
    pub fn stall(&self) -> Duration {
        self.stall
    }

    /// The same, in another time.
    #[must_use]
    pub fn with_stall(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// Open transfers of files.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        self.places.taken()
    }
}

/// `blobs/ab/cdef…`: 256 directories keep each of them small.
pub(crate) fn path_of(directory: &Path, digest: Digest) -> PathBuf {
    let name = digest.to_string();
    let (first, rest) = name.split_at(2);
    directory.join(first).join(rest)
}
