//! GetBlobPart and PutBlobPart: blobs of daemons in short calls, with the rights of
//! [`blob`](super::blob).

use proto::limits;
use proto::v1::put_blob_part_request::Part;
use proto::v1::{GetBlobPartReply, GetBlobPartRequest, PutBlobPartReply, PutBlobPartRequest};
use tonic::{Response, Status};

use super::{blob, parse};
use crate::auth::Daemon;
use crate::blobs::Caller;
use crate::guard::Lent;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::transfer::unpacked;

pub async fn get<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    request: GetBlobPartRequest,
) -> Result<Response<GetBlobPartReply>, Status> {
    let lease = (request.job_id.as_str(), request.lease_id.as_slice());
    let caller = Caller::Daemon(daemon.id.clone());
    let digest = blob::readable(shared, daemon.id, lease, &request.sha256).await?;
    let (data, place) = shared.blobs.part(digest, request.offset, caller).await?;
    let mut reply = Response::new(GetBlobPartReply { data });
    if let Some(place) = place {
        reply.extensions_mut().insert(Lent::from(place));
    }
    Ok(reply)
}

pub async fn put<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    request: PutBlobPartRequest,
) -> Result<PutBlobPartReply, Status> {
    let header = request.header.unwrap_or_default();
    let id = parse::blob(header.blob.as_ref())?;
    let holder = blob::holder(daemon.id, &header)?;
    let data = match request.part {
        Some(Part::Data(data)) => data,
        Some(Part::Zstd(frame)) => unpacked(&frame, limits::BLOB_PART)?,
        None => bytes::Bytes::new(),
    };
    if data.len() > limits::BLOB_PART {
        let limit = limits::BLOB_PART;
        let message = format!(
            "a part of {} bytes exceeds the limit of {limit}",
            data.len()
        );
        return Err(Refusal::invalid("INVALID_REQUEST", message).into());
    }
    let received = match shared.blobs.held(id, holder.clone()).await? {
        true => id.size,
        false => {
            let at = request.offset;
            shared.blobs.put_part(id, holder, (at, data)).await?
        }
    };
    Ok(PutBlobPartReply { received })
}
