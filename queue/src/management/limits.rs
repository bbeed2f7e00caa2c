//! How many jobs of an owner or a template may run at once.

use proto::v1;
use tonic::Status;

use crate::auth::Client;
use crate::names;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::SetLimit;
use crate::words::LimitOf;

pub async fn set<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::SetLimitRequest,
) -> Result<v1::Limit, Status> {
    client.must_be_admin("set limits")?;
    let of = LimitOf::from_wire(request.of).ok_or_else(|| {
        let message = "a limit is of an owner or of a template";
        Refusal::invalid("INVALID_REQUEST", message)
    })?;
    match of {
        LimitOf::Owner => names::check("owner", &request.name)?,
        LimitOf::Template => names::check("template", &request.name)?,
    }
    let set = SetLimit {
        organization: client.organization.clone(),
        of,
        name: request.name,
        most: request.most,
    };
    Ok(shared.by(client).set_limit(set).await?)
}

pub async fn list<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    _request: v1::ListLimitsRequest,
) -> Result<v1::ListLimitsReply, Status> {
    client.must_be_admin("see limits")?;
    let limits = shared.store.list_limits(client.organization.clone());
    Ok(v1::ListLimitsReply {
        limits: limits.await?,
    })
}
