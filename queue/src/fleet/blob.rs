//! GetBlob and PutBlob of daemons: only for leases.
//!
//! A lease may read what its job names. It may write as long as the queue knows it, and
//! also when it does not: after a restore from an older backup a daemon still has to
//! deliver the state of a job that the queue has forgotten (FinishJob keeps it as
//! unclaimed), and a state is never refused.

use proto::v1::{BlobChunk, GetBlobRequest, PutBlobHeader, PutBlobReply, PutBlobRequest};
use tonic::{Status, Streaming};

use super::{Replies, parse};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::LeaseStanding;
use crate::transfer;

pub async fn get<S: Store>(
    shared: &Shared<S>,
    request: GetBlobRequest,
) -> Result<Replies<BlobChunk>, Status> {
    let job = parse::job(&request.job_id)?;
    let lease = parse::lease(&request.lease_id)?;
    let digest = parse::digest(&request.sha256)?;
    let readable = shared.store.readable_blobs(job, lease).await?;
    if !readable.contains(&digest) {
        let message = format!("the lease on job {job} does not name blob {digest}");
        return Err(Refusal::not_allowed("BLOB_NOT_LEASED", message).into());
    }
    transfer::send(shared, digest, request.offset).await
}

pub async fn put<S: Store>(
    shared: &Shared<S>,
    mut requests: Streaming<PutBlobRequest>,
) -> Result<PutBlobReply, Status> {
    let header = transfer::header(&mut requests).await?;
    leased(shared, &header).await?;
    transfer::receive(shared, &header, requests).await
}

async fn leased<S: Store>(shared: &Shared<S>, header: &PutBlobHeader) -> Result<(), Status> {
    let job = parse::job(&header.job_id)?;
    let lease = parse::lease(&header.lease_id)?;
    match shared.store.lease_standing(job, lease).await? {
        LeaseStanding::Live | LeaseStanding::Past => {}
        LeaseStanding::Unknown => {
            tracing::warn!(job.id = %job, "a daemon puts a blob for a lease that is not known");
        }
    }
    Ok(())
}
