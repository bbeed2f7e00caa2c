//! Blobs over gRPC streams, for daemons and clients alike; who may transfer what is
//! their services' matter.

use std::time::Duration;

use proto::ids::Digest;
use proto::v1::put_blob_request::Message;
use proto::v1::{BlobChunk, PutBlobHeader, PutBlobReply, PutBlobRequest};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::auth::{Client, Daemon};
use crate::blobs::{Pushed, Put};
use crate::credentials::Live;
use crate::fleet::{Replies, parse};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::Holder;

/// How long a reader that is slow may take for the word that its stream ends.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Whose transfer it is: it ends when the credential is deleted.
#[derive(Debug, Clone)]
pub enum Bearer {
    /// A daemon's, by its key.
    Key(Live),
    /// A client's, by its token.
    Token(Live),
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
pub async fn header(requests: &mut Streaming<PutBlobRequest>) -> Result<PutBlobHeader, Status> {
    match requests.message().await?.and_then(|first| first.message) {
        Some(Message::Header(header)) => Ok(header),
        Some(Message::Data(_)) | None => Err(Refusal::invalid(
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
    bearer: &Bearer,
    mut requests: Streaming<PutBlobRequest>,
) -> Result<PutBlobReply, Status> {
    let id = parse::blob(header.blob.as_ref())?;
    if shared.blobs.held(id, holder.clone()).await? {
        return Ok(PutBlobReply { stored: false });
    }
    let mut sink = shared.blobs.put(id).await?;
    // Both branches are cancel safe.
    while let Some(request) = tokio::select! {
        request = requests.message() => request?,
        refusal = bearer.deleted() => return Err(refusal.into()),
    } {
        let Some(Message::Data(data)) = request.message else {
            let message = "after the header of a put only data may follow";
            return Err(Refusal::invalid("INVALID_REQUEST", message).into());
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

/// Sends a blob from `offset` on.
pub async fn send<S: Store>(
    shared: &Shared<S>,
    digest: Digest,
    offset: u64,
    bearer: Bearer,
) -> Result<Replies<BlobChunk>, Status> {
    let mut chunks = shared.blobs.get(digest, offset).await?;
    let (replies, stream) = mpsc::channel(1);
    let stopping = shared.stopping.clone();
    shared.spawn("send blob", async move {
        let sending = async {
            while let Some(chunk) = chunks.recv().await {
                let reply = match chunk {
                    Ok(data) => Ok(BlobChunk { data }),
                    Err(error) => Err(error.into()),
                };
                if replies.send(reply).await.is_err() {
                    return;
                }
            }
        };
        // What is in hand is lost only when the stream must end.
        let refusal = tokio::select! {
            () = sending => return,
            () = stopping.cancelled() => Refusal::restarting(),
            refusal = bearer.deleted() => refusal,
        };
        let _unread = tokio::time::timeout(LAST_WORD, replies.send(Err(refusal.into()))).await;
    });
    Ok(Replies::new(stream))
}
