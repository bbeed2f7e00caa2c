//! Looks whether a state that has just become a workspace's current one shows what was in
//! doubt there. Apart from the transition that made it current, because it reads the
//! state's bytes. A look that breaks off leaves the doubts to the next state or to a
//! person: never the other way round.

use proto::state_index::StateIndex;
use proto::v1;

use crate::blobs;
use crate::fleet::parse;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::{Settle, Shown, WorkspaceName};

/// Why a look broke off.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the store failed")]
    Store(#[from] crate::store::Error),
    #[error("the state cannot be read")]
    Blob(#[from] blobs::Error),
    #[error("the state is none")]
    State(#[from] serde_json::Error),
    #[error("the record names no blob or has no id")]
    Record,
}

/// After a finish that brought a state to a workspace with doubts.
pub async fn after_finish<S: Store>(shared: &Shared<S>, workspace: WorkspaceName) {
    let look = async {
        match shared.store.state(workspace.clone(), None).await {
            Ok(record) => look(shared, workspace, &record, StateIndex::default()).await,
            Err(crate::store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    };
    told(look.await);
}

/// After a person made `record` the current state; `before` is the one it replaced.
pub async fn after_choice<S: Store>(
    shared: &Shared<S>,
    workspace: WorkspaceName,
    record: &v1::StateRecord,
    before: Option<&v1::StateRecord>,
) {
    let look = async {
        let view = shared.store.workspace(workspace.clone()).await?;
        if view.unconfirmed.is_empty() {
            return Ok(());
        }
        let before = match before {
            None => StateIndex::default(),
            Some(before) => index(shared, before).await?,
        };
        look(shared, workspace, record, before).await
    };
    told(look.await);
}

async fn look<S: Store>(
    shared: &Shared<S>,
    workspace: WorkspaceName,
    record: &v1::StateRecord,
    before: StateIndex,
) -> Result<(), Error> {
    let now = index(shared, record).await?;
    let settle = Settle {
        workspace,
        state: record.id.parse().map_err(|_| Error::Record)?,
        shown: Shown { now, before },
    };
    Ok(shared.store.settle(settle).await?)
}

async fn index<S: Store>(
    shared: &Shared<S>,
    record: &v1::StateRecord,
) -> Result<StateIndex, Error> {
    let blob = parse::blob(record.blob.as_ref()).map_err(|_: Refusal| Error::Record)?;
    let read = |bytes: &mut dyn std::io::Read| StateIndex::from_reader(bytes);
    Ok(shared.blobs.look(blob, read).await??)
}

fn told(looked: Result<(), Error>) {
    if let Err(error) = looked {
        let error = crate::refusal::chain(&error);
        tracing::warn!(%error, "what a state shows of unconfirmed resources was not looked at");
    }
}
