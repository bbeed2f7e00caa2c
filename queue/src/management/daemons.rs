//! The fleet as clients see it: a member sees every daemon, but only own jobs on it.

use std::collections::HashSet;

use proto::v1;
use tonic::Status;

use super::jobs::LISTED_MOST;
use crate::auth::Client;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::{Drain, JobFilter, Role};

pub async fn list<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    _request: v1::ListDaemonsRequest,
) -> Result<v1::ListDaemonsReply, Status> {
    let organization = client.organization.clone();
    let mut daemons = shared.store.list_daemons(organization).await?;
    if client.role == Role::Member {
        let own = own_jobs(shared, client).await?;
        for daemon in &mut daemons {
            daemon.key.clear();
            daemon.jobs.retain(|job| own.contains(job));
        }
    }
    Ok(v1::ListDaemonsReply { daemons })
}

/// Ids of the caller's newest jobs: what a member may see of what daemons do.
async fn own_jobs<S: Store>(
    shared: &Shared<S>,
    client: &Client,
) -> Result<HashSet<String>, Status> {
    let filter = JobFilter {
        organization: client.organization.clone(),
        status: None,
        kind: None,
        owner: Some(client.owner.clone()),
        workspace: None,
        limit: LISTED_MOST,
    };
    let jobs = shared.store.list_jobs(filter).await?;
    Ok(jobs.into_iter().map(|job| job.id).collect())
}

pub async fn drain<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::DrainDaemonRequest,
) -> Result<v1::Daemon, Status> {
    set_drain(shared, client, request.name, Drain::On).await
}

pub async fn undrain<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::UndrainDaemonRequest,
) -> Result<v1::Daemon, Status> {
    set_drain(shared, client, request.name, Drain::Off).await
}

async fn set_drain<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    name: String,
    drain: Drain,
) -> Result<v1::Daemon, Status> {
    client.must_be_admin("drain daemons")?;
    let organization = client.organization.clone();
    let store = shared.by(client);
    Ok(store.set_drain(organization, name, drain).await?)
}
