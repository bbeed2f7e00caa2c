//! Blobs over gRPC streams, for daemons and clients alike; who may transfer what is
//! their services' matter.

use bytes::Bytes;
use proto::ids::Digest;
use proto::limits;
use proto::v1::put_blob_request::Message;
use proto::v1::{BlobChunk, PutBlobHeader, PutBlobReply, PutBlobRequest};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::blobs::{Pushed, Put};
use crate::fleet::{Replies, parse};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::Holder;

/// The first message of a put.
pub async fn header(requests: &mut Streaming<PutBlobRequest>) -> Result<PutBlobHeader, Status> {
    match requests.message().await?.and_then(|first| first.message) {
        Some(Message::Header(header)) => Ok(header),
        Some(Message::Data(_) | Message::Zstd(_)) | None => Err(Refusal::invalid(
            "INVALID_REQUEST",
            "a put begins with a header that names the blob",
        )
        .into()),
    }
}

/// Receives the bytes that follow a header. What its holder has put already is not read
/// at all; what only others have put is read like anything new, and answered like it.
pub async fn receive<S: Store>(
    shared: &Shared<S>,
    header: &PutBlobHeader,
    holder: Holder,
    mut requests: Streaming<PutBlobRequest>,
) -> Result<PutBlobReply, Status> {
    let id = parse::blob(header.blob.as_ref())?;
    if shared.blobs.held(id, holder.clone()).await? {
        return Ok(PutBlobReply { stored: false });
    }
    let mut sink = shared.blobs.put(id).await?;
    while let Some(request) = requests.message().await? {
        let data = match request.message {
            Some(Message::Data(data)) => data,
            Some(Message::Zstd(frame)) => unpacked(&frame)?,
            Some(Message::Header(_)) | None => {
                let message = "after the header of a put only data may follow";
                return Err(Refusal::invalid("INVALID_REQUEST", message).into());
            }
        };
        if sink.push(data).await == Pushed::Refused {
            break;
        }
    }
    let put = sink.finish(holder).await?;
    Ok(PutBlobReply {
        stored: put == Put::Stored,
    })
}

/// One frame of data. Whatever it says of its size, no more than a chunk comes of it.
fn unpacked(frame: &[u8]) -> Result<Bytes, Refusal> {
    let data = zstd::bulk::decompress(frame, limits::BLOB_CHUNK).map_err(|error| {
        let limit = limits::BLOB_CHUNK;
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
) -> Result<Replies<BlobChunk>, Status> {
    let mut chunks = shared.blobs.get(digest, offset).await?;
    let (replies, stream) = mpsc::channel(1);
    let stopping = shared.stopping.clone();
    shared.spawn("send blob", async move {
        // Both branches are cancel safe; the chunk in hand is lost only at shutdown.
        while let Some(chunk) = tokio::select! {
            chunk = chunks.recv() => chunk,
            () = stopping.cancelled() => None,
        } {
            let reply = match chunk {
                Ok(data) => Ok(BlobChunk { data }),
                Err(error) => Err(error.into()),
            };
            if replies.send(reply).await.is_err() {
                return;
            }
        }
        if stopping.is_cancelled() {
            let _gone = replies.send(Err(Refusal::restarting().into())).await;
        }
    });
    Ok(Replies::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_brings_a_chunk_and_a_bomb_or_noise_brings_nothing() {
        let pack = |size: usize| zstd::bulk::compress(&vec![7; size], 1).expect("packed");
        let chunk = unpacked(&pack(limits::BLOB_CHUNK)).expect("a chunk");
        assert_eq!(chunk, vec![7; limits::BLOB_CHUNK]);
        assert!(unpacked(&pack(limits::BLOB_CHUNK + 1)).is_err());
        assert!(unpacked(&pack(64 << 20)).is_err());
        assert!(unpacked(b"noise").is_err());
    }
}
