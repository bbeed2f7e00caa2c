//! Archives and states between the queue and the directory of a job.
//!
//! Bytes stream in both directions and never lie in memory as a whole. What is fetched
//! is checked against its digest before it gets its name; what is put is checked by
//! the queue.

mod fetch;
mod kept;
mod parts;

use std::fs::File;
use std::io::{self, Read as _};

use proto::transport::Transport;
use proto::v1::finish_job_request::Brought;
use proto::v1::put_blob_request::Message;
use proto::v1::{BlobRef, LocalCheckpoint, PutBlobHeader, PutBlobRequest};
use proto::{limits, timings};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use worker::job_dir::JobDir;

use super::context::{Client, Lease};
use crate::connect::{self, Retry};
pub use fetch::Fetch;
pub use kept::{check_kept, open_kept};

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

/// All of a small file that [`open_kept`] opened, as a finish brings it. Blocks on the disk.
///
/// # Errors
/// The disk.
pub fn brought(file: File, blob: &BlobRef, encoding: Encoding) -> Result<Brought, Error> {
    let mut bytes = Vec::new();
    file.take(blob.size).read_to_end(&mut bytes)?;
    Ok(match smaller(encoding.packer()?.as_mut(), &bytes) {
        Some(frame) => Brought::StateZstd(frame),
        None => Brought::StateData(bytes),
    })
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
    match smaller(packer, &chunk) {
        Some(frame) => Message::Zstd(frame.into()),
        None => Message::Data(chunk.into()),
    }
}

/// As one frame, when that is smaller.
fn smaller(packer: Option<&mut zstd::bulk::Compressor<'static>>, bytes: &[u8]) -> Option<Vec<u8>> {
    let frame = packer.and_then(|packer| packer.compress(bytes).ok());
    frame.filter(|frame| frame.len() < bytes.len())
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
