//! Templates: pushed and promoted by admins, read by everybody.

use std::collections::BTreeSet;

use proto::limits;
use proto::parameters::Check;
use proto::tags::Tags;
use proto::v1;
use tonic::Status;

use super::placement;
use super::resolve::{self, Wish};
use crate::auth::Client;
use crate::fleet::parse;
use crate::names;
use crate::refusal::{Refusal, shown};
use crate::shared::Shared;
use crate::store::model::{Activate, PlanTemplate, PushTemplate};
use crate::store::{self, Store};

pub async fn push<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::PushTemplateRequest,
) -> Result<v1::PushTemplateReply, Status> {
    client.must_be_admin("push templates")?;
    names::check("template", &request.name)?;
    check_engine(&request.engine)?;
    check_variables(&request.variables)?;
    let archive = parse::blob(request.archive.as_ref())?;
    if archive.size > limits::ARCHIVE {
        let message = format!(
            "the archive has {} bytes, more than the limit of {}",
            archive.size,
            limits::ARCHIVE
        );
        return Err(Refusal::invalid("ARCHIVE_TOO_LARGE", message).into());
    }
    // Before anything looks into it: another's upload is none of the caller's.
    if !shared.blobs.held(archive, client.holder()).await? {
        let digest = archive.digest.to_string();
        return Err(store::Error::BlobMissing { digest }.into());
    }
    let tags = Tags::new(request.tags.clone()).map_err(resolve::bad_tags)?;
    let import = placement::tags(shared, archive.digest, &request.variables, request.tags).await?;
    let submission = resolve::submission(client, &client.owner, resolve::turn!(request), import)?;
    let push = PushTemplate {
        organization: client.organization.clone(),
        template: request.name,
        archive,
        variables: request.variables,
        engine: request.engine,
        activate: if request.activate {
            Activate::OnSuccess
        } else {
            Activate::Never
        },
        tags: resolve::for_owner(tags, &client.owner)?.into_pairs(),
        submission,
    };
    let (version, submitted) = shared.by(client).push_template(push).await?;
    Ok(v1::PushTemplateReply {
        template: version.template,
        version_id: version.id.to_string(),
        job: Some(resolve::foreseen(shared, submitted).await),
    })
}

pub async fn list<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    _request: v1::ListTemplatesRequest,
) -> Result<v1::ListTemplatesReply, Status> {
    let organization = client.organization.clone();
    let templates = shared.store.list_templates(organization).await?;
    Ok(v1::ListTemplatesReply { templates })
}

pub async fn get<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::GetTemplateRequest,
) -> Result<v1::Template, Status> {
    let organization = client.organization.clone();
    Ok(shared.store.template(organization, request.name).await?)
}

pub async fn versions<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::ListTemplateVersionsRequest,
) -> Result<v1::ListTemplateVersionsReply, Status> {
    let organization = client.organization.clone();
    let found = shared.store.template_versions(organization, request.name);
    Ok(v1::ListTemplateVersionsReply {
        versions: found.await?,
    })
}

pub async fn promote<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::PromoteTemplateVersionRequest,
) -> Result<v1::Template, Status> {
    client.must_be_admin("promote template versions")?;
    if request.version.is_empty() {
        let message = "a promote names the version";
        return Err(Refusal::invalid("INVALID_REQUEST", message).into());
    }
    let version = resolve::selector(&request.version)?;
    let organization = client.organization.clone();
    let store = shared.by(client);
    Ok(store.promote(organization, request.name, version).await?)
}

pub async fn plan<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::PlanTemplateRequest,
) -> Result<v1::JobView, Status> {
    let owner = client.acting_for(&request.owner)?;
    let selector = resolve::selector(&request.version)?;
    let organization = client.organization.clone();
    let found = shared
        .store
        .imported_version(organization.clone(), request.name, selector);
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
    let plan = PlanTemplate {
        organization,
        version: version.id,
        parameters,
        submission,
    };
    let submitted = shared.by(client).plan_template(plan).await?;
    Ok(resolve::foreseen(shared, submitted).await)
}

fn check_engine(engine: &str) -> Result<(), Refusal> {
    if ["", "terraform", "tofu"].contains(&engine) {
        return Ok(());
    }
    let message = format!("`{}` is no engine", shown(engine));
    Err(Refusal::invalid("INVALID_ENGINE", message).hint("use terraform or tofu"))
}

fn check_variables(variables: &[v1::VariableValue]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for variable in variables {
        let name = shown(&variable.name);
        if variable.name.is_empty() || variable.name.len() > limits::TAG {
            let message = format!("`{name}` cannot be the name of a variable");
            return Err(Refusal::invalid("INVALID_VARIABLE", message));
        }
        if !seen.insert(&variable.name) {
            let message = format!("variable `{name}` is given twice");
            return Err(Refusal::invalid("INVALID_VARIABLE", message));
        }
    }
    Ok(())
}
