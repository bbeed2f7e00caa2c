//! Endings that no job took, for the operator.

use proto::v1;
use tonic::Status;

use crate::auth::Client;
use crate::blobs::Caller;
use crate::fleet::{Replies, parse};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::transfer::{self, Bearer, Whose};

pub async fn list<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::ListUnclaimedRequest,
) -> Result<v1::ListUnclaimedReply, Status> {
    client.must_be_admin("see unclaimed endings")?;
    let organization = client.organization.clone();
    let before = Some(request.before).filter(|before| *before > 0);
    let finishes = shared.store.unclaimed(organization, before).await?;
    Ok(v1::ListUnclaimedReply { finishes })
}

pub async fn discard<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::DiscardUnclaimedRequest,
) -> Result<v1::UnclaimedFinish, Status> {
    client.must_be_admin("discard unclaimed endings")?;
    let organization = client.organization.clone();
    let store = shared.by(client);
    Ok(store.discard_unclaimed(organization, request.id).await?)
}

pub async fn pull<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::PullUnclaimedRequest,
) -> Result<Replies<v1::BlobChunk>, Status> {
    client.must_be_admin("fetch states of unclaimed endings")?;
    let organization = client.organization.clone();
    let found = shared.store.unclaimed_finish(organization, request.id);
    let found = found.await?;
    let Some(state) = found.state else {
        let name = request.id.to_string();
        return Err(Refusal::not_found("state of unclaimed ending", &name).into());
    };
    let blob = parse::blob(state.blob.as_ref())?;
    shared.note_done(client).await?;
    let caller = Caller::from(&client.holder());
    let whose = Whose {
        caller,
        bearer: Bearer::Token(client.live.clone()),
    };
    transfer::send(shared, blob.digest, 0, whose).await
}
