//! Archives and states between the queue and the directory of a job.
//!
//! Bytes stream in both directions and never lie in memory as a whole. What is fetched
//! is checked against its digest before it gets its name; what is put is checked by
//! the queue.

mod parts;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use proto::ids::Digest;
use proto::transport::Transport;
use proto::v1::put_blob_request::Message;
use proto::v1::{BlobRef, GetBlobRequest, LocalCheckpoint, PutBlobHeader, PutBlobRequest};
use proto::{limits, timings};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use sha2::Digest as _;
use tokio::io::AsyncWriteExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use worker::job_dir::JobDir;

use super::context::{Client, Lease};
use crate::connect::{self, Retry};

/// A transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue or the path to it.
    #[error("the queue did not go along: {}", .0.message())]
    Queue(#[source] Box<Status>),
    /// Our own disk.
    #[error("the disk did not go along")]
    Disk(#[from] io::Error),
    /// What arrived is not what was announced.
    #[error("the blob {digest} arrived damaged")]
    Damaged {
        /// What was asked for.
        digest: String,
    },
    /// Announced over the limit.
    #[error("a blob of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Announced size.
        size: u64,
        /// [`limits::BLOB`].
        limit: u64,
    },
    /// The digest is none.
    #[error("the blob's name is no SHA-256")]
    Name,
    /// A worker named something else than a file of its own below `keep/`.
    #[error("the worker named `{name}`, which is no regular file of {size} bytes below keep/")]
    NotKept {
        /// As it said.
        name: String,
        /// The size that it said.
        size: u64,
    },
}

impl Error {
    /// Whether the same transfer may succeed later.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Queue(status) => connect::retry(status),
            Self::Disk(_)
            | Self::Damaged { .. }
            | Self::TooLarge { .. }
            | Self::Name
            | Self::NotKept { .. } => Retry::Never,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Queue(Box::new(status))
    }
}

/// A blob on its way to the disk. Kept between tries, so that a broken transfer goes
/// on where it stopped.
pub struct Fetch {
    blob: BlobRef,
    digest: Digest,
    hasher: sha2::Sha256,
    received: u64,
    file: tokio::fs::File,
    fresh: std::path::PathBuf,
    target: std::path::PathBuf,
}

impl Fetch {
    /// Begins to fetch `blob` to `target`, under a temporary name beside it.
    ///
    /// # Errors
    /// The reference is over the limit, or the disk refuses.
    pub async fn begin(blob: &BlobRef, target: &Path) -> Result<Self, Error> {
        let digest = Digest::try_from(blob.sha256.as_ref()).map_err(|_| Error::Name)?;
        if blob.size > limits::BLOB {
            return Err(Error::TooLarge {
                size: blob.size,
                limit: limits::BLOB,
            });
        }
        let fresh = target.with_extension("part");
        let file = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .await?;
        Ok(Self {
            blob: blob.clone(),
            digest,
            hasher: sha2::Sha256::new(),
            received: 0,
            file,
            fresh,
            target: target.to_owned(),
        })
    }

    /// Takes what is missing. After an error worth a retry it may be called again, by
    /// another transport too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn go_on(
        &mut self,
        client: &Client,
        lease: &Lease,
        by: Transport,
    ) -> Result<(), Error> {
        match by {
            Transport::Streams => self.stream(client, lease).await?,
            Transport::Unary => self.take_parts(client, lease).await?,
        }
        if self.received < self.blob.size {
            return Err(Status::unavailable("the transfer ended early").into());
        }
        self.complete().await
    }

    async fn stream(&mut self, client: &Client, lease: &Lease) -> Result<(), Error> {
        let request = GetBlobRequest {
            sha256: self.blob.sha256.clone(),
            offset: self.received,
            job_id: lease.job_id.clone(),
            lease_id: lease.lease_id.clone(),
        };
        let mut chunks = client.clone().get_blob(request).await?.into_inner();
        // A stream that is held back for ever is tried again by what works then.
        while let Some(chunk) = in_time(chunks.message()).await? {
            self.take(&chunk.data).await?;
        }
        Ok(())
    }

    async fn take(&mut self, data: &[u8]) -> Result<(), Error> {
        self.received += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if self.received > self.blob.size {
            return Err(self.damaged());
        }
        self.hasher.update(data);
        self.file.write_all(data).await?;
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), Error> {
        self.file.flush().await?;
        let arrived = Digest::from_array(self.hasher.clone().finalize().into());
        if arrived != self.digest {
            return Err(self.damaged());
        }
        tokio::fs::rename(&self.fresh, &self.target).await?;
        Ok(())
    }

    fn damaged(&self) -> Error {
        Error::Damaged {
            digest: self.digest.to_string(),
        }
    }
}

/// Opens a file that a worker says it keeps: below `keep/`, no link anywhere on the
/// way, a regular file of exactly the announced size.
///
/// # Errors
/// [`Error::NotKept`] for anything else.
pub fn open_kept(dir: &JobDir, name: &str, blob: &BlobRef) -> Result<File, Error> {
    let not_kept = || Error::NotKept {
        name: name.to_owned(),
        size: blob.size,
    };
    let name_in_keep = name.strip_prefix("keep/").unwrap_or(name);
    let keep = File::open(dir.keep())?;
    let file: File = rustix::fs::openat2(
        &keep,
        name_in_keep,
        // Not blocking: opening a FIFO would wait for its writer.
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(|_| not_kept())?
    .into();
    let metadata = file.metadata()?;
    let fits = metadata.is_file() && metadata.len() == blob.size && blob.size <= limits::BLOB;
    if fits { Ok(file) } else { Err(not_kept()) }
}

/// Whether a kept file is there and holds what was said of it. Blocks: reads all of it.
///
/// # Errors
/// [`Error::NotKept`], [`Error::Damaged`], or the disk.
pub fn check_kept(dir: &JobDir, kept: &LocalCheckpoint) -> Result<(), Error> {
    let blob = kept.checkpoint.as_ref().and_then(|it| it.blob.clone());
    let blob = blob.unwrap_or_default();
    let digest = Digest::try_from(blob.sha256.as_ref()).map_err(|_| Error::Name)?;
    let mut file = open_kept(dir, &kept.file, &blob)?;
    let mut hasher = sha2::Sha256::new();
    read_chunks(&mut file, |chunk| {
        hasher.update(&chunk);
        true
    })?;
    if Digest::from_array(hasher.finalize().into()) == digest {
        return Ok(());
    }
    Err(Error::Damaged {
        digest: digest.to_string(),
    })
}

/// Sends a file that [`open_kept`] opened. Idempotent.
///
/// # Errors
/// See [`Error`].
pub async fn put(
    client: &Client,
    lease: &Lease,
    blob: &BlobRef,
    (file, encoding): (File, Encoding),
) -> Result<(), Error> {
    let header = PutBlobHeader {
        blob: Some(blob.clone()),
        job_id: lease.job_id.clone(),
        lease_id: lease.lease_id.clone(),
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    let size = blob.size;
    let reading = tokio::task::spawn_blocking(move || {
        let send = |message| {
            sender
                .blocking_send(PutBlobRequest {
                    message: Some(message),
                })
                // The call has ended already; its result says why.
                .is_ok()
        };
        if send(Message::Header(header)) {
            let mut packer = encoding.packer()?;
            read_chunks(&mut file.take(size), |data| {
                send(packed(packer.as_mut(), data))
            })?;
        }
        Ok::<_, io::Error>(())
    });
    let reply = client.clone().put_blob(ReceiverStream::new(receiver)).await;
    reading.await.map_err(io::Error::other)??;
    reply?;
    Ok(())
}

/// [`open_kept`], then [`put`].
///
/// # Errors
/// See [`Error`].
pub async fn ship(
    client: &Client,
    lease: &Lease,
    dir: &JobDir,
    (kept, how): (&LocalCheckpoint, How),
) -> Result<(), Error> {
    let blob = kept
        .checkpoint
        .as_ref()
        .and_then(|checkpoint| checkpoint.blob.clone())
        .unwrap_or_default();
    let file = open_kept(dir, &kept.file, &blob)?;
    let put_all = match how.transport {
        Transport::Streams => put(client, lease, &blob, (file, how.encoding)).await,
        Transport::Unary => parts::put(client, lease, &blob, (file, how.encoding)).await,
    };
    match put_all {
        // Another replica may be of an older release.
        Err(error) if how != How::PLAIN && error.retry() == Retry::Never => {
            let file = open_kept(dir, &kept.file, &blob)?;
            put(client, lease, &blob, (file, Encoding::Plain)).await
        }
        ended => ended,
    }
}

/// An answer that does not come at all is none.
async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answered = tokio::time::timeout(timings::TRANSFER_STALL, answer).await;
    answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("the transfer stands still")))
}

/// By which calls blobs travel, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// To the queue.
    pub encoding: Encoding,
    /// Both ways.
    pub transport: Transport,
}

impl How {
    /// As every release understands it.
    const PLAIN: Self = Self {
        encoding: Encoding::Plain,
        transport: Transport::Streams,
    };
}

/// How bytes of a blob travel to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Plain,
    /// Each chunk as a zstd frame.
    Zstd,
}

/// States shrink to a tenth at the fast end already.
const ZSTD_LEVEL: i32 = 1;

impl Encoding {
    fn packer(self) -> io::Result<Option<zstd::bulk::Compressor<'static>>> {
        match self {
            Self::Plain => Ok(None),
            Self::Zstd => zstd::bulk::Compressor::new(ZSTD_LEVEL).map(Some),
        }
    }
}

/// A chunk as it travels: as it is when packing does not make it smaller.
fn packed(packer: Option<&mut zstd::bulk::Compressor<'static>>, chunk: Vec<u8>) -> Message {
    let frame = packer.and_then(|packer| packer.compress(&chunk).ok());
    match frame.filter(|frame| frame.len() < chunk.len()) {
        Some(frame) => Message::Zstd(frame.into()),
        None => Message::Data(chunk.into()),
    }
}

fn read_chunks(
    source: &mut impl io::Read,
    mut send: impl FnMut(Vec<u8>) -> bool,
) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; limits::BLOB_CHUNK];
        let mut filled = 0;
        while filled < chunk.len() {
            match source.read(&mut chunk[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        chunk.truncate(filled);
        if filled == 0 || !send(chunk) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
