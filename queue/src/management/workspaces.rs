//! Workspaces and their builds. A member has their own; an admin everybody's.

use proto::parameters::Check;
use proto::v1;
use tonic::Status;

use super::resolve::{self, Wish};
use crate::auth::Client;
use crate::names;
use crate::refusal::{Refusal, shown};
use crate::shared::Shared;
use crate::store::model::{
    BuildWorkspace, CreateWorkspace, Forget, Role, VersionSelector, WorkspaceName,
};
use crate::store::{self, BaseVersion, Deleted, Store};
use crate::words::Transition;

pub async fn create<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::CreateWorkspaceRequest,
) -> Result<v1::BuildReply, Status> {
    names::check("workspace", &request.name)?;
    let owner = client.acting_for(&request.owner)?;
    let organization = client.organization.clone();
    let active = VersionSelector::Active;
    let found = shared
        .store
        .imported_version(organization.clone(), request.template, active);
    let version = found.await?;
    let wish = Wish {
        version: &version,
        given: &request.parameters,
        previous: &[],
        check: Check::All,
        owner: &owner,
        turn: resolve::turn!(request),
    };
    let (parameters, submission) = resolve::resolve(client, &wish)?;
    let create = CreateWorkspace {
        workspace: WorkspaceName {
            organization,
            owner,
            name: request.name,
        },
        version: version.id,
        parameters,
        submission,
    };
    let submitted = shared.by(client).create_workspace(create).await?;
    Ok(resolve::build_reply(shared, submitted).await)
}

pub async fn build<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::BuildWorkspaceRequest,
) -> Result<v1::BuildReply, Status> {
    let transition = Transition::from_wire(request.transition).ok_or_else(|| {
        Refusal::invalid("INVALID_REQUEST", "a build is a start, a stop or a delete")
    })?;
    let workspace = find(shared, client, &request.owner, &request.name).await?;
    let owner = workspace.owner.clone();
    let from = if request.update {
        BaseVersion::Active
    } else {
        BaseVersion::Own
    };
    let base = shared.store.build_base(workspace, from).await?;
    let wish = Wish {
        version: &base.version,
        given: &request.parameters,
        previous: &base.previous,
        check: match transition {
            Transition::Start => Check::All,
            Transition::Stop | Transition::Delete => Check::GivenOnly,
        },
        owner: &owner,
        turn: resolve::turn!(request),
    };
    let (parameters, submission) = resolve::resolve(client, &wish)?;
    let build = BuildWorkspace {
        workspace: base.workspace,
        base: base.number,
        transition,
        version: base.version.id,
        parameters,
        forget: if request.forget {
            Forget::Drop
        } else {
            Forget::Refuse
        },
        submission,
    };
    let submitted = shared.by(client).build_workspace(build).await?;
    Ok(resolve::build_reply(shared, submitted).await)
}

pub async fn list<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::ListWorkspacesRequest,
) -> Result<v1::ListWorkspacesReply, Status> {
    let owner = match client.role {
        Role::Admin => None,
        Role::Member => Some(client.owner.clone()),
    };
    let deleted = if request.include_deleted {
        Deleted::Show
    } else {
        Deleted::Hide
    };
    let organization = client.organization.clone();
    let found = shared.store.list_workspaces(organization, owner, deleted);
    Ok(v1::ListWorkspacesReply {
        workspaces: found.await?,
    })
}

pub async fn get<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::GetWorkspaceRequest,
) -> Result<v1::Workspace, Status> {
    let workspace = find(shared, client, &request.owner, &request.name).await?;
    Ok(shared.store.workspace(workspace).await?)
}

pub async fn forget<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::ForgetResourcesRequest,
) -> Result<v1::ForgetResourcesReply, Status> {
    if request.addresses.is_empty() {
        let message = "no address is named";
        return Err(Refusal::invalid("INVALID_REQUEST", message).into());
    }
    let workspace = find(shared, client, &request.owner, &request.name).await?;
    let forgotten = shared
        .by(client)
        .forget(workspace.clone(), request.addresses)
        .await?;
    Ok(v1::ForgetResourcesReply {
        forgotten,
        workspace: Some(shared.store.workspace(workspace).await?),
    })
}

/// The workspace a client means: its own; for an admin who names no owner also the only
/// one of that name.
pub async fn find<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    owner: &str,
    name: &str,
) -> Result<WorkspaceName, Status> {
    let own = WorkspaceName {
        organization: client.organization.clone(),
        owner: client.acting_for(owner)?,
        name: name.to_owned(),
    };
    if client.role == Role::Member || !owner.is_empty() {
        return Ok(own);
    }
    match shared.store.workspace(own.clone()).await {
        Ok(found) if !found.deleted => return Ok(own),
        Ok(_) | Err(store::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let organization = client.organization.clone();
    let all = shared
        .store
        .list_workspaces(organization, None, Deleted::Hide);
    let mut owners: Vec<String> = all
        .await?
        .into_iter()
        .filter(|workspace| workspace.name == name)
        .map(|workspace| workspace.owner)
        .collect();
    match owners.len() {
        // The store says what there is under the caller's own name, deleted or not.
        0 => Ok(own),
        1 => Ok(WorkspaceName {
            owner: owners.remove(0),
            ..own
        }),
        _ => {
            let message = format!(
                "several owners have a workspace `{}`: {}",
                shown(name),
                owners.join(", ")
            );
            Err(Refusal::invalid("WORKSPACE_AMBIGUOUS", message)
                .hint("name one with --owner")
                .into())
        }
    }
}
