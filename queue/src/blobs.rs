//! Blobs: immutable bytes named by the SHA-256 of their uncompressed form.
//!
//! Up to `limits::BLOB_INLINE` they live in the store's rows. Larger ones are zstd files
//! `blobs/ab/cdef…`, written under a temporary name in the same directory, fsynced,
//! renamed, the directory fsynced, and only then named by a row. No blob is ever held in
//! memory whole beyond the inline size. Nothing is deleted here but temporary files of a
//! process that died, and what the sweep finds to be old and named by nothing.

pub mod place;
mod read;
mod sweep;
mod write;

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proto::ids::Digest;
use proto::limits;
use tokio::sync::{Semaphore, mpsc};

use crate::refusal::Refusal;
use crate::store::Store;
use crate::store::model::{BlobContent, BlobId, Holder, NewBlob};
pub(crate) use sweep::{Seal, Sealing, named};
use write::Written;
pub(crate) use write::make;

/// Chunks between a connection and the disk: enough to keep both busy.
const QUEUED_CHUNKS: usize = 4;

/// Transfers that read or write files at once; others wait. Each holds one thread.
const TRANSFERS: usize = 32;

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

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More bytes than the largest blob.
    #[error("a blob of {size} bytes exceeds the limit of {} bytes", limits::BLOB)]
    TooLarge {
        /// Announced size.
        size: u64,
    },
    /// The bytes are not those that were announced.
    #[error("the bytes do not match: {what}")]
    Mismatch {
        /// Size or digest, announced and found.
        what: String,
    },
    /// The sender gave up.
    #[error("the transfer broke off after {received} of {size} bytes")]
    BrokenOff {
        /// What came.
        received: u64,
        /// What was announced.
        size: u64,
    },
    /// No room left.
    #[error("no space left on the queue's disk")]
    DiskFull,
    /// Disk trouble.
    #[error("cannot {doing} a blob file")]
    Io {
        /// `read`, `write` or `sweep`.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody has put it.
    #[error("blob {0} is not stored")]
    Missing(Digest),
    /// Resuming beyond the end.
    #[error("offset {offset} is beyond the {size} bytes of the blob")]
    Offset {
        /// What was asked for.
        offset: u64,
        /// What there is.
        size: u64,
    },
    /// The store refused.
    #[error("the store did not take or give the blob")]
    Store(#[source] crate::store::Error),
}

impl Error {
    fn io(doing: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { doing, source },
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::TooLarge { .. } => Self::invalid("BLOB_TOO_LARGE", message),
            Error::Mismatch { .. } => Self::invalid("BLOB_MISMATCH", message)
                .hint("the transfer was damaged, or the file changed meanwhile; send it again"),
            Error::BrokenOff { .. } => Self::invalid("BLOB_BROKEN_OFF", message),
            Error::DiskFull => Self::capacity("DISK_FULL", message)
                .hint("free some space on the machine that runs the queue"),
            Error::Io { .. } => {
                tracing::error!(error = %crate::refusal::chain(&error), "a blob file failed");
                Self::internal("BLOB_FILE", message).hint("see the queue's log")
            }
            Error::Missing(digest) => Self::not_found("blob", &digest.to_string()),
            Error::Offset { .. } => Self::invalid("BLOB_OFFSET", message),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
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
    transfers: Arc<Semaphore>,
    sealing: Sealing,
}

/// Takes the bytes of one put.
#[derive(Debug)]
pub struct Sink<S> {
    blobs: Blobs<S>,
    id: BlobId,
    chunks: mpsc::Sender<Bytes>,
    writer: tokio::task::JoinHandle<Result<Written, Error>>,
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
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
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
    /// Larger than the largest blob.
    pub async fn put(&self, id: BlobId) -> Result<Sink<S>, Error> {
        if id.size > limits::BLOB {
            return Err(Error::TooLarge { size: id.size });
        }
        let permit = self.permit().await;
        let (chunks, received) = mpsc::channel(QUEUED_CHUNKS);
        let directory = Arc::clone(&self.directory);
        let writer = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            write::write(&directory, id, received)
        });
        Ok(Sink {
            blobs: self.clone(),
            id,
            chunks,
            writer,
        })
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
    ) -> Result<mpsc::Receiver<Result<Bytes, Error>>, Error> {
        let found = self.store.blob(digest).await.map_err(Error::Store)?;
        let blob = found.ok_or(Error::Missing(digest))?;
        if offset > blob.id.size {
            return Err(Error::Offset {
                offset,
                size: blob.id.size,
            });
        }
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
                let permit = self.permit().await;
                let path = path_of(&self.directory, digest);
                tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    read::read(&path, offset, &chunks);
                });
            }
        }
        Ok(received)
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
        let permit = self.permit().await;
        let path = path_of(&self.directory, id.digest);
        let looking = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            match blob.content {
                BlobContent::Inline(bytes) => Ok(look(&mut bytes.as_slice())),
                BlobContent::File => read::open(&path).map(|mut bytes| look(&mut bytes)),
            }
        });
        let looked = looking.await.map_err(std::io::Error::other);
        looked.flatten().map_err(Error::io("read"))
    }

    async fn permit(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.transfers)
            .acquire_owned()
            .await
            .expect("invariant: the semaphore is never closed")
    }
}

impl<S: Store> Sink<S> {
    /// Takes the next bytes; an error is told by [`Sink::finish`].
    pub async fn push(&mut self, bytes: Bytes) -> Pushed {
        match self.chunks.send(bytes).await {
            Ok(()) => Pushed::Taken,
            Err(_) => Pushed::Refused,
        }
    }

    /// Checks size and digest, makes the bytes durable and then known.
    ///
    /// # Errors
    /// Not the announced bytes, no room, disk or store trouble; nothing is stored then.
    pub async fn finish(self, holder: Holder) -> Result<Put, Error> {
        let _seal = self
            .blobs
            .sealing
            .begin()
            .await
            .map_err(Error::io("write"))?;
        // The writer gives the file its name once no more can come.
        drop(self.chunks);
        let written = self
            .writer
            .await
            .map_err(|join| Error::io("write")(std::io::Error::other(join)))??;
        let content = match written {
            Written::Small(bytes) => BlobContent::Inline(bytes),
            Written::File => BlobContent::File,
        };
        let blob = NewBlob {
            id: self.id,
            content,
        };
        let new = self.blobs.store.insert_blob(blob, holder).await;
        Ok(if new.map_err(Error::Store)? {
            Put::Stored
        } else {
            Put::Known
        })
    }
}

/// Whether a sink wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It does.
    Taken,
    /// It has failed; `finish` says why.
    Refused,
}

/// `blobs/ab/cdef…`: 256 directories keep each of them small.
pub(crate) fn path_of(directory: &Path, digest: Digest) -> PathBuf {
    let name = digest.to_string();
    let (first, rest) = name.split_at(2);
    directory.join(first).join(rest)
}
