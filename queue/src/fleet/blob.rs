//! GetBlob and PutBlob of daemons: only for leases.
//!
//! A lease may read what its job names, in the hands of the daemon that it was given to.
//! It may write as long as the queue knows it, and within its key's allowance also when it
//! does not: after a restore from an older backup a daemon still has to deliver the state
//! of a job that the queue has forgotten (FinishJob keeps it as unclaimed), and a state is
//! never refused. The lease of another daemon is one that the queue does not know.

use proto::ids::Digest;
use proto::v1::{BlobChunk, GetBlobRequest, PutBlobHeader, PutBlobReply, PutBlobRequest};
use tonic::{Status, Streaming};

use super::{Replies, parse};
use crate::auth::Daemon;
use crate::blobs::Caller;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::{DaemonRef, Holder};
use crate::transfer::{self, Bearer, Whose};

pub async fn get<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    request: GetBlobRequest,
) -> Result<Replies<BlobChunk>, Status> {
    let lease = (request.job_id.as_str(), request.lease_id.as_slice());
    let bearer = Bearer::Key(daemon.live);
    let caller = Caller::Daemon(daemon.id.clone());
    let digest = readable(shared, daemon.id, lease, &request.sha256).await?;
    let whose = Whose { caller, bearer };
    transfer::send(shared, digest, request.offset, whose).await
}

/// The digest of a blob that this lease may read.
pub async fn readable<S: Store>(
    shared: &Shared<S>,
    daemon: DaemonRef,
    (job, lease): (&str, &[u8]),
    sha256: &[u8],
) -> Result<Digest, Refusal> {
    let (job, lease) = (parse::job(job)?, parse::lease(lease)?);
    let digest = parse::digest(sha256)?;
    let readable = shared.store.readable_blobs(daemon, job, lease).await?;
    if !readable.contains(&digest) {
        let message = format!("the lease on job {job} does not name blob {digest}");
        return Err(Refusal::not_allowed("BLOB_NOT_LEASED", message));
    }
    Ok(digest)
}

pub async fn put<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    mut requests: Streaming<PutBlobRequest>,
) -> Result<PutBlobReply, Status> {
    let header = transfer::header(shared, &mut requests).await?;
    let bearer = Bearer::Key(daemon.live);
    let holder = holder(daemon.id, &header)?;
    transfer::receive(shared, &header, holder, &bearer, requests).await
}

/// As whom a daemon puts.
pub fn holder(daemon: DaemonRef, header: &PutBlobHeader) -> Result<Holder, Refusal> {
    Ok(Holder::Lease {
        daemon,
        job: parse::job(&header.job_id)?,
        lease: parse::lease(&header.lease_id)?,
    })
}
