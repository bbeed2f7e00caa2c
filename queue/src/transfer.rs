//! Blobs over gRPC streams, for daemons and clients alike; who may transfer what is
//! their services' matter. A peer that hardly moves is cut, so that its place is another's.

use std::time::Duration;

use bytes::Bytes;
use proto::ids::Digest;
use proto::limits;
use proto::v1::put_blob_request::Message;
use proto::v1::{BlobChunk, PutBlobHeader, PutBlobReply, PutBlobRequest};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::{Status, Streaming};

use crate::auth::{Client, Daemon};
use crate::blobs::{Caller, Error, Pushed, Put};
use crate::credentials::Live;
use crate::fleet::{Replies, parse};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::Holder;

/// By which credential a transfer goes on: it ends when that is deleted.
#[derive(Debug, Clone)]
pub enum Bearer {
    /// A daemon's, by its key.
    Key(Live),
    /// A client's, by its token.
    Token(Live),
}

/// Who reads a blob.
#[derive(Debug)]
pub struct Whose {
    /// Whose share of the transfers it takes.
    pub caller: Caller,
    /// What lets it go on.
    pub bearer: Bearer,
}

impl Bearer {
    async fn deleted(&self) -> Refusal {
        match self {
            Self::Key(live) => {
                live.over().await;
                Daemon::deleted()
            }
            Self::Token(live) => {
                live.over().await;
                Client::deleted()
            }
        }
    }
}

/// The first message of a put.
pub async fn header<S: Store>(
    shared: &Shared<S>,
    requests: &mut Streaming<PutBlobRequest>,
) -> Result<PutBlobHeader, Status> {
    let pace = Pace::new(shared.blobs.stall());
    let first = pace.within(requests.message()).await??;
    match first.and_then(|first| first.message) {
        Some(Message::Header(header)) => Ok(header),
        Some(Message::Data(_) | Message::Zstd(_)) | None => Err(Refusal::invalid(
            "INVALID_REQUEST",
            "a put begins with a header that names the blob",
        )
        .into()),
    }
}

/// Receives the bytes that follow a header. What its holder has put already is not read
/// at all, if it is large; what only others have put is read like anything new, and answered like it.
pub async fn receive<S: Store>(
    shared: &Shared<S>,
    header: &PutBlobHeader,
    holder: Holder,
    bearer: &Bearer,
    mut requests: Streaming<PutBlobRequest>,
) -> Result<PutBlobReply, Status> {
    let id = parse::blob(header.blob.as_ref())?;
    // A small one is read sooner than asked about; its row says what is new.
    let large = id.size > limits::BLOB_INLINE as u64;
    if large && shared.blobs.held(id, holder.clone()).await? {
        return Ok(PutBlobReply { stored: false });
    }
    let mut sink = shared.blobs.put(id, Caller::from(&holder)).await?;
    let mut pace = Pace::new(shared.blobs.stall());
    // Both branches are cancel safe.
    while let Some(request) = tokio::select! {
        request = pace.within(requests.message()) => request??,
        refusal = bearer.deleted() => return Err(refusal.into()),
    } {
        let data = match request.message {
            Some(Message::Data(data)) => data,
            Some(Message::Zstd(frame)) => unpacked(&frame, limits::BLOB_CHUNK)?,
            Some(Message::Header(_)) | None => {
                let message = "after the header of a put only data may follow";
                return Err(Refusal::invalid("INVALID_REQUEST", message).into());
            }
        };
        pace.moved(data.len());
        if sink.push(data).await == Pushed::Refused {
            break;
        }
    }
    let put = sink.finish(holder).await?;
    Ok(PutBlobReply {
        stored: put == Put::Stored,
    })
}

/// One frame of data. Whatever it says of its size, no more than `limit` bytes come of it.
///
/// # Errors
/// No frame, or a larger one.
pub fn unpacked(frame: &[u8], limit: usize) -> Result<Bytes, Refusal> {
    let data = zstd::bulk::decompress(frame, limit).map_err(|error| {
        let message = format!("no zstd frame of at most {limit} bytes: {error}");
        Refusal::invalid("INVALID_REQUEST", message)
    })?;
    Ok(data.into())
}

/// Sends a blob from `offset` on.
pub async fn send<S: Store>(
    shared: &Shared<S>,
    digest: Digest,
    offset: u64,
    whose: Whose,
) -> Result<Replies<BlobChunk>, Status> {
    let chunks = shared.blobs.get(digest, offset, whose.caller).await?;
    // One for a chunk, one that is kept for the last word.
    let (replies, stream) = mpsc::channel(2);
    let pace = Pace::new(shared.blobs.stall());
    let (stopping, bearer) = (shared.stopping.clone(), whose.bearer);
    shared.spawn("send blob", async move {
        let Ok(last) = replies.clone().reserve_owned().await else {
            return;
        };
        // The chunk in hand is lost only when the stream must end.
        let ended = tokio::select! {
            ended = send_all(chunks, &replies, pace) => ended,
            () = stopping.cancelled() => Err(Refusal::restarting().into()),
            refusal = bearer.deleted() => Err(refusal.into()),
        };
        if let Err(status) = ended {
            last.send(Err(status));
        }
    });
    Ok(Replies::new(stream))
}

async fn send_all(
    mut chunks: mpsc::Receiver<Result<Bytes, Error>>,
    replies: &mpsc::Sender<Result<BlobChunk, Status>>,
    mut pace: Pace,
) -> Result<(), Status> {
    while let Some(chunk) = chunks.recv().await {
        let data = chunk?;
        let bytes = data.len();
        if pace
            .within(replies.send(Ok(BlobChunk { data })))
            .await?
            .is_err()
        {
            // It went away.
            return Ok(());
        }
        pace.moved(bytes);
    }
    Ok(())
}

/// How fast a peer has to be.
#[derive(Debug)]
struct Pace {
    stall: Duration,
    deadline: Instant,
    moved: u64,
}

impl Pace {
    fn new(stall: Duration) -> Self {
        Self {
            stall,
            deadline: Instant::now() + stall,
            moved: 0,
        }
    }

    /// Waits for the peer, as long as it may take.
    async fn within<T>(&self, peer: impl Future<Output = T>) -> Result<T, Error> {
        let moving = timeout_at(self.deadline, peer).await;
        moving.map_err(|_| Error::Stalled { stall: self.stall })
    }

    fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.moved >= limits::TRANSFER_PACE {
            self.moved = 0;
            self.deadline = Instant::now() + self.stall;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_brings_a_chunk_and_a_bomb_or_noise_brings_nothing() {
        let pack = |size: usize| zstd::bulk::compress(&vec![7; size], 1).expect("packed");
        let chunk = unpacked(&pack(limits::BLOB_CHUNK), limits::BLOB_CHUNK).expect("a chunk");
        assert_eq!(chunk, vec![7; limits::BLOB_CHUNK]);
        assert!(unpacked(&pack(limits::BLOB_CHUNK + 1), limits::BLOB_CHUNK).is_err());
        assert!(unpacked(&pack(64 << 20), limits::BLOB_CHUNK).is_err());
        assert!(unpacked(b"noise", limits::BLOB_CHUNK).is_err());
    }
}
