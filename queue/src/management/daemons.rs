//! The fleet as clients see it.

use proto::v1;
use tonic::Status;

use crate::auth::Client;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::Drain;

pub async fn list<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    _request: v1::ListDaemonsRequest,
) -> Result<v1::ListDaemonsReply, Status> {
    let organization = client.organization.clone();
    let daemons = shared.store.list_daemons(organization).await?;
    Ok(v1::ListDaemonsReply { daemons })
}

pub async fn drain<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::DrainDaemonRequest,
) -> Result<v1::Daemon, Status> {
    client.must_be_admin("drain daemons")?;
    let organization = client.organization.clone();
    let drained = shared
        .store
        .set_drain(organization, request.name, Drain::On);
    Ok(drained.await?)
}
