//! Who the caller is, and who may call: organizations, provisioner keys, client tokens.

use proto::credential::{Credential, hash};
use proto::tags::Allowed;
use proto::v1;
use tonic::Status;

use crate::auth::Client;
use crate::names;
use crate::refusal::{Refusal, shown};
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::{NewKey, NewToken, Role};

pub async fn info<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    _request: v1::GetInfoRequest,
) -> Result<v1::GetInfoReply, Status> {
    Ok(v1::GetInfoReply {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: shared.store.backend().to_owned(),
        access_url: shared.access_url.clone(),
        owner: client.owner.clone(),
        role: client.role.as_str().to_owned(),
    })
}

pub async fn create_organization<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::CreateOrganizationRequest,
) -> Result<v1::Organization, Status> {
    client.must_be_admin("make organizations")?;
    if client.bound_to.is_some() {
        let message = "a token of one organization cannot make others";
        return Err(Refusal::not_allowed("ORGANIZATION_NOT_ALLOWED", message).into());
    }
    names::check("organization", &request.name)?;
    Ok(shared.by(client).create_organization(request.name).await?)
}

pub async fn list_organizations<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    _request: v1::ListOrganizationsRequest,
) -> Result<v1::ListOrganizationsReply, Status> {
    let mut organizations = shared.store.list_organizations().await?;
    if let Some(only) = &client.bound_to {
        organizations.retain(|organization| organization.name == *only);
    }
    Ok(v1::ListOrganizationsReply { organizations })
}

pub async fn create_key<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::CreateKeyRequest,
) -> Result<v1::CreateKeyReply, Status> {
    client.must_be_admin("make provisioner keys")?;
    names::check("provisioner key", &request.name)?;
    let tags = Allowed::new(request.tags)
        .map_err(|error| Refusal::invalid("INVALID_TAGS", error.to_string()))?;
    let secret = Credential::Key.generate();
    let key = NewKey {
        organization: client.organization.clone(),
        name: request.name,
        tags: tags.into_pairs(),
        hash: hash(&secret),
    };
    let info = shared.by(client).create_key(key).await?;
    Ok(v1::CreateKeyReply {
        key: secret.expose().to_owned(),
        info: Some(info),
    })
}

pub async fn list_keys<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    _request: v1::ListKeysRequest,
) -> Result<v1::ListKeysReply, Status> {
    client.must_be_admin("see provisioner keys")?;
    let keys = shared.store.list_keys(client.organization.clone()).await?;
    Ok(v1::ListKeysReply { keys })
}

pub async fn delete_key<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::DeleteKeyRequest,
) -> Result<v1::DeleteKeyReply, Status> {
    client.must_be_admin("delete provisioner keys")?;
    let organization = client.organization.clone();
    let (key, store) = (request.name, shared.by(client));
    store.delete_key(organization.clone(), key.clone()).await?;
    // Before the answer, and not only with the event: who has it finds the key gone.
    shared.credentials.key_deleted(&organization, &key);
    shared.controls.end_revoked();
    Ok(v1::DeleteKeyReply {})
}

/// A member's token is bound to the organization it is made in; an admin's reaches as
/// far as its maker's.
pub async fn create_token<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::CreateTokenRequest,
) -> Result<v1::CreateTokenReply, Status> {
    client.must_be_admin("make client tokens")?;
    names::check("client token", &request.name)?;
    names::check("owner", &request.owner)?;
    let role = match request.role.as_str() {
        "" => Role::Member,
        text => Role::from_text(text).ok_or_else(|| {
            let message = format!("`{}` is no role", shown(text));
            Refusal::invalid("INVALID_ROLE", message).hint("use member or admin")
        })?,
    };
    let organization = match role {
        Role::Member => Some(client.organization.clone()),
        Role::Admin => client.bound_to.clone(),
    };
    let secret = Credential::Token.generate();
    let token = NewToken {
        organization,
        name: request.name,
        owner: request.owner,
        role,
        hash: hash(&secret),
    };
    let info = shared.by(client).create_token(token).await?;
    Ok(v1::CreateTokenReply {
        token: secret.expose().to_owned(),
        info: Some(info),
    })
}

pub async fn list_tokens<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    _request: v1::ListTokensRequest,
) -> Result<v1::ListTokensReply, Status> {
    client.must_be_admin("see client tokens")?;
    let tokens = shared.store.list_tokens(client.bound_to.clone()).await?;
    Ok(v1::ListTokensReply { tokens })
}

pub async fn delete_token<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::DeleteTokenRequest,
) -> Result<v1::DeleteTokenReply, Status> {
    client.must_be_admin("delete client tokens")?;
    if client.bound_to.is_some() {
        let own = shared.store.list_tokens(client.bound_to.clone()).await?;
        if !own.iter().any(|token| token.name == request.name) {
            let unknown = Refusal::not_found("client token", &request.name);
            let hint = "`provisionerd tokens list` shows those that exist";
            return Err(unknown.hint(hint).into());
        }
    }
    let store = shared.by(client);
    store.delete_token(request.name.clone()).await?;
    // Before the answer, and not only with the event: who has it finds the token gone.
    shared.credentials.token_deleted(&request.name);
    Ok(v1::DeleteTokenReply {})
}
