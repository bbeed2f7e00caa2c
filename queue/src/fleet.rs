//! The service that provisioner daemons call. Each call is a file of its own; here they
//! are wired; the guard has checked the caller's key and identity.

mod acquire;
mod blob;
mod control;
pub mod parse;
mod parts;
mod report;

use proto::v1::fleet_server::Fleet;
use proto::v1::{
    AcquireNowReply, AcquireNowRequest, AcquireReply, AcquireRequest, BlobChunk, ConfirmJobReply,
    ConfirmJobRequest, ControlNowReply, ControlRequest, FinishJobReply, FinishJobRequest,
    GetBlobPartReply, GetBlobPartRequest, GetBlobRequest, PutBlobPartReply, PutBlobPartRequest,
    PutBlobReply, PutBlobRequest, UpdateJobReply, UpdateJobRequest,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use crate::auth::Daemon;
use crate::guard;
use crate::settle;
use crate::shared::Shared;
use crate::store::Store;
use crate::trace;

pub use control::sessions::{Controls, Ticket};

/// Metadata of replies to updates: in which encodings blobs may be put.
const BLOB_ENCODINGS: &str = "x-blob-encodings";

/// Metadata of replies to updates: what a finish may bring itself.
const FINISH_BRINGS: &str = "x-finish-brings";

/// A stream of replies, fed by a task of its own.
pub type Replies<T> = ReceiverStream<Result<T, Status>>;

/// See the module.
#[derive(Debug, Clone)]
pub struct FleetService<S>(pub Shared<S>);

fn daemon<T>(request: &mut Request<T>) -> Result<Daemon, Status> {
    guard::caller(request)
}

#[tonic::async_trait]
impl<S: Store> Fleet for FleetService<S> {
    type AcquireJobStream = Replies<AcquireReply>;
    type GetBlobStream = Replies<BlobChunk>;
    type ControlStream = control::Events<S>;

    async fn acquire_job(
        &self,
        mut request: Request<Streaming<AcquireRequest>>,
    ) -> Result<Response<Self::AcquireJobStream>, Status> {
        let daemon = daemon(&mut request)?;
        let replies = acquire::acquire(&self.0, daemon, request.into_inner());
        Ok(Response::new(replies))
    }

    async fn update_job(
        &self,
        mut request: Request<UpdateJobRequest>,
    ) -> Result<Response<UpdateJobReply>, Status> {
        let daemon = daemon(&mut request)?;
        let update = report::update(daemon.id, request.into_inner())?;
        let mut reply = Response::new(self.0.store.update(update).await?);
        for (what, known) in [(BLOB_ENCODINGS, "zstd"), (FINISH_BRINGS, "state")] {
            let known = MetadataValue::from_static(known);
            reply.metadata_mut().insert(what, known);
        }
        Ok(reply)
    }

    async fn finish_job(
        &self,
        mut request: Request<FinishJobRequest>,
    ) -> Result<Response<FinishJobReply>, Status> {
        let span = trace::request("commit state", request.metadata());
        let daemon = daemon(&mut request)?;
        let finish = report::finish(daemon.id.clone(), request.into_inner())?;
        let store = self.0.store.acting(daemon.doing("FinishJob", finish.job));
        let finished = store.finish(finish).instrument(span).await?;
        if let Some(workspace) = finished.in_doubt {
            settle::after_finish(&self.0, workspace).await;
        }
        Ok(Response::new(report::disposition(finished.disposition)))
    }

    async fn get_blob(
        &self,
        mut request: Request<GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        let daemon = daemon(&mut request)?;
        let chunks = blob::get(&self.0, daemon, request.into_inner()).await?;
        Ok(Response::new(chunks))
    }

    async fn put_blob(
        &self,
        mut request: Request<Streaming<PutBlobRequest>>,
    ) -> Result<Response<PutBlobReply>, Status> {
        let daemon = daemon(&mut request)?;
        let reply = blob::put(&self.0, daemon, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn control(
        &self,
        mut request: Request<ControlRequest>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let daemon = daemon(&mut request)?;
        let events = control::open(&self.0, daemon, request.into_inner()).await?;
        Ok(Response::new(events))
    }

    async fn acquire_now(
        &self,
        mut request: Request<AcquireNowRequest>,
    ) -> Result<Response<AcquireNowReply>, Status> {
        let daemon = daemon(&mut request)?;
        let reply = acquire::now::acquire(&self.0, daemon, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn confirm_job(
        &self,
        mut request: Request<ConfirmJobRequest>,
    ) -> Result<Response<ConfirmJobReply>, Status> {
        let daemon = daemon(&mut request)?;
        let reply = acquire::now::confirm(&self.0, daemon, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn get_blob_part(
        &self,
        mut request: Request<GetBlobPartRequest>,
    ) -> Result<Response<GetBlobPartReply>, Status> {
        let daemon = daemon(&mut request)?;
        parts::get(&self.0, daemon, request.into_inner()).await
    }

    async fn put_blob_part(
        &self,
        mut request: Request<PutBlobPartRequest>,
    ) -> Result<Response<PutBlobPartReply>, Status> {
        let daemon = daemon(&mut request)?;
        let reply = parts::put(&self.0, daemon, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn control_now(
        &self,
        mut request: Request<ControlRequest>,
    ) -> Result<Response<ControlNowReply>, Status> {
        let daemon = daemon(&mut request)?;
        let reply = control::now::answer(&self.0, daemon, request.into_inner()).await?;
        Ok(Response::new(reply))
    }
}
