//! Jobs as clients see them. What is not the caller's does not exist for them.

use proto::ids::JobId;
use proto::v1;
use tonic::Status;

use super::resolve;
use crate::auth::Client;
use crate::fleet::parse;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::{Abandon, JobFilter, Role};
use crate::words::{Cancel, Kind, Status as JobStatus};

/// Jobs in a list that names no limit.
const LISTED: u32 = 50;
/// Most jobs in one list.
pub const LISTED_MOST: u32 = 1_000;

pub async fn list<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::ListJobsRequest,
) -> Result<v1::ListJobsReply, Status> {
    let filter = JobFilter {
        organization: client.organization.clone(),
        status: JobStatus::from_wire(request.status),
        kind: Kind::from_wire(request.kind),
        owner: match client.role {
            Role::Admin => None,
            Role::Member => Some(client.owner.clone()),
        },
        workspace: Some(request.workspace).filter(|name| !name.is_empty()),
        limit: match request.limit {
            0 => LISTED,
            limit => limit.min(LISTED_MOST),
        },
    };
    let jobs = shared.store.list_jobs(filter).await?;
    Ok(v1::ListJobsReply { jobs })
}

pub async fn get<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::GetJobRequest,
) -> Result<v1::JobView, Status> {
    let (job, mut view) = visible(shared, client, &request.id).await?;
    if view.status() == v1::JobStatus::Pending {
        let organization = client.organization.clone();
        let place = shared.store.place(organization, job).await?;
        let told = shared
            .forecasts
            .tell(&shared.store, &mut view, place.as_ref());
        told.await;
    }
    Ok(view)
}

pub async fn cancel<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::CancelJobRequest,
) -> Result<v1::JobView, Status> {
    let (job, _) = visible(shared, client, &request.id).await?;
    let kind = if request.force {
        Cancel::Force
    } else {
        Cancel::Cancel
    };
    let organization = client.organization.clone();
    Ok(shared.by(client).cancel(organization, job, kind).await?)
}

pub async fn retry<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::GetJobRequest,
) -> Result<v1::BuildReply, Status> {
    let (job, view) = visible(shared, client, &request.id).await?;
    if Kind::from_wire(view.kind) == Some(Kind::TemplateImport) {
        client.must_be_admin("import templates")?;
    }
    let organization = client.organization.clone();
    let store = shared.by(client);
    let submitted = store.retry(organization, job, client.submits()).await?;
    Ok(resolve::build_reply(shared, submitted).await)
}

pub async fn abandon<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::AbandonJobRequest,
) -> Result<v1::JobView, Status> {
    client.must_be_admin("abandon jobs")?;
    let (job, _) = visible(shared, client, &request.id).await?;
    let how = if request.force {
        Abandon::Force
    } else {
        Abandon::Careful
    };
    let organization = client.organization.clone();
    Ok(shared.by(client).abandon(organization, job, how).await?)
}

pub async fn ledger<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::GetJobRequest,
) -> Result<v1::GetLedgerReply, Status> {
    let (job, _) = visible(shared, client, &request.id).await?;
    let organization = client.organization.clone();
    let entries = shared.store.ledger(organization, job).await?;
    Ok(v1::GetLedgerReply { entries })
}

/// A job that this client may see.
pub async fn visible<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    id: &str,
) -> Result<(JobId, v1::JobView), Status> {
    let job = parse::job(id)?;
    let view = shared.store.job(client.organization.clone(), job).await?;
    if client.may_see(&view.owner) {
        Ok((job, view))
    } else {
        Err(Refusal::not_found("job", id).into())
    }
}
