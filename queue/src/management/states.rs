//! States of workspaces: pulled, pushed, and decided on when a late one waits.

use proto::ids::{Digest, StateId};
use proto::limits;
use proto::state_file::{self, Header, Invalid};
use proto::v1;
use tonic::Status;

use super::workspaces::find;
use crate::auth::Client;
use crate::blobs::{self, Caller};
use crate::fleet::{Replies, parse};
use crate::refusal::{Refusal, shown};
use crate::settle;
use crate::shared::Shared;
use crate::store::model::{BlobId, PushState, Replace};
use crate::store::{self, Store};
use crate::transfer::{self, Bearer, Whose};

pub async fn pull<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::PullStateRequest,
) -> Result<Replies<v1::BlobChunk>, Status> {
    let workspace = find(shared, client, &request.owner, &request.workspace).await?;
    let state = match request.state_id.as_str() {
        "" => None,
        id => Some(state_id(id)?),
    };
    let record = shared.store.state(workspace, state).await?;
    shared.note_done(client).await?;
    let blob = parse::blob(record.blob.as_ref())?;
    let whose = Whose {
        caller: Caller::from(&client.holder()),
        bearer: Bearer::Token(client.live.clone()),
    };
    transfer::send(shared, blob.digest, 0, whose).await
}

pub async fn push<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::PushStateRequest,
) -> Result<v1::StateRecord, Status> {
    let workspace = find(shared, client, &request.owner, &request.workspace).await?;
    let blob = parse::blob(request.state.as_ref())?;
    if blob.size > limits::STATE {
        let message = format!(
            "the state has {} bytes, more than the limit of {}",
            blob.size,
            limits::STATE
        );
        return Err(Refusal::invalid("STATE_TOO_LARGE", message).into());
    }
    if !shared.blobs.held(blob, client.holder()).await? {
        return Err(missing(blob.digest).into());
    }
    let header = header(shared, blob).await?;
    let push = PushState {
        workspace,
        by: client.owner.clone(),
        blob,
        serial: header.serial,
        lineage: header.lineage,
        replace: if request.force {
            Replace::Force
        } else {
            Replace::Continue
        },
    };
    let before = match shared.store.state(push.workspace.clone(), None).await {
        Ok(record) => Some(record),
        Err(store::Error::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let workspace = push.workspace.clone();
    let record = shared.by(client).push_state(push).await?;
    settle::after_choice(shared, workspace, &record, before.as_ref()).await;
    Ok(record)
}

/// What the state itself says; the client's word for it is not taken.
async fn header<S: Store>(shared: &Shared<S>, blob: BlobId) -> Result<Header, Status> {
    let read = shared
        .blobs
        .look(blob, |bytes| state_file::header_from(bytes));
    match read.await {
        Ok(Ok(header)) => Ok(header),
        Ok(Err(Invalid::Torn(error))) if error.is_io() => Err(blobs::Error::Io {
            doing: "read",
            source: error.into(),
        }
        .into()),
        Ok(Err(invalid)) => Err(Refusal::invalid("STATE_INVALID", invalid.to_string())
            .hint("pass a state file of version 4, as `state pull` prints it")
            .into()),
        Err(blobs::Error::Missing(digest)) => Err(missing(digest).into()),
        Err(error) => Err(error.into()),
    }
}

/// Not uploaded by the caller, whoever else may have done so.
fn missing(digest: Digest) -> store::Error {
    store::Error::BlobMissing {
        digest: digest.to_string(),
    }
}

pub async fn history<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::StateHistoryRequest,
) -> Result<v1::StateHistoryReply, Status> {
    let workspace = find(shared, client, &request.owner, &request.workspace).await?;
    let states = shared.store.states(workspace).await?;
    Ok(v1::StateHistoryReply { states })
}

pub async fn adopt<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::ResolveStateRequest,
) -> Result<v1::StateRecord, Status> {
    let workspace = find(shared, client, &request.owner, &request.workspace).await?;
    let state = state_id(&request.state_id)?;
    let store = shared.by(client);
    let record = store.adopt_state(workspace.clone(), state).await?;
    settle::after_choice(shared, workspace, &record, None).await;
    Ok(record)
}

pub async fn discard<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::ResolveStateRequest,
) -> Result<v1::StateRecord, Status> {
    let workspace = find(shared, client, &request.owner, &request.workspace).await?;
    let state = state_id(&request.state_id)?;
    Ok(shared.by(client).discard_state(workspace, state).await?)
}

fn state_id(id: &str) -> Result<StateId, Refusal> {
    id.parse().map_err(|_| {
        Refusal::invalid("INVALID_ID", format!("`{}` is no state id", shown(id)))
            .hint("`provisionerd state history WORKSPACE` shows the ids")
    })
}
