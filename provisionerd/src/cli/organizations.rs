//! Organizations: what keys, templates and workspaces belong to.

use proto::v1;

use super::{Connection, Context};
use crate::failure::{Exit, Failure};
use crate::render::{entities, tables};

/// Organizations, each with its own keys, templates and workspaces.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "organization")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Makes an organization.
    Create {
        /// Its name.
        name: String,
    },
    /// Lists all organizations.
    List,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    match args.action {
        Action::Create { name } => {
            let request = v1::CreateOrganizationRequest { name };
            let made = client.create_organization(request).await?;
            context.document(&entities::organization(&made), || {
                tables::organizations(std::slice::from_ref(&made))
            })?;
        }
        Action::List => {
            let reply = client
                .list_organizations(v1::ListOrganizationsRequest {})
                .await?;
            context.documents(&reply.organizations, entities::organization, || {
                tables::organizations(&reply.organizations)
            })?;
        }
    }
    Ok(Exit::Done)
}
