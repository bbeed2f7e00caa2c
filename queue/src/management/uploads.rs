//! Bytes that a client brings before it names them: archives and states.

use proto::ids::Digest;
use proto::v1;
use tonic::{Status, Streaming};

use crate::auth::Client;
use crate::shared::Shared;
use crate::store::Store;
use crate::transfer::{self, Bearer};

/// What was stored is noted; what the client had put before is not stored again.
pub async fn upload<S: Store>(
    shared: &Shared<S>,
    client: Client,
    mut requests: Streaming<v1::PutBlobRequest>,
) -> Result<v1::PutBlobReply, Status> {
    let header = transfer::header(shared, &mut requests).await?;
    let digest = header.blob.as_ref().map(|blob| blob.sha256.as_slice());
    let digest = digest.and_then(|bytes| Digest::try_from(bytes).ok());
    let object = digest.map(|digest| digest.to_string()).unwrap_or_default();
    let client = client.doing("Upload".into(), &object);
    let bearer = Bearer::Token(client.live.clone());
    let received = transfer::receive(shared, &header, client.holder(), &bearer, requests).await;
    let reply = received.inspect_err(|status| shared.refused(&client, "upload", status))?;
    if reply.stored {
        shared.note_done(&client).await?;
    }
    Ok(reply)
}
