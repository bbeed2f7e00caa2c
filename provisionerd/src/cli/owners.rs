//! Owners: what templates may know of the people whose workspaces they make.

use proto::v1;

use super::{Connection, Context};
use crate::failure::{Exit, Failure};
use crate::render::{entities, tables};

/// Owners of workspaces, as templates see them.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "owner")]
#[command(after_help = "Examples:
  provisionerd owners set ada --email ada@example.com --full-name 'Ada Lovelace' --group dev
  provisionerd owners list")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Says all that templates may know of an owner; what is not given is emptied.
    Set {
        /// The owner's name.
        name: String,
        /// E-mail address.
        #[arg(long)]
        email: Option<String>,
        /// Name as people write it.
        #[arg(long, value_name = "NAME")]
        full_name: Option<String>,
        /// Name of a group the owner is in.
        #[arg(long)]
        group: Vec<String>,
    },
    /// Lists all owners.
    List,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    match args.action {
        Action::Set {
            name,
            email,
            full_name,
            group,
        } => {
            let owner = v1::Owner {
                name,
                email: email.unwrap_or_default(),
                full_name: full_name.unwrap_or_default(),
                groups: group,
            };
            let set = client.put_owner(owner).await?;
            context.document(&entities::owner(&set), || {
                tables::owners(std::slice::from_ref(&set))
            })?;
        }
        Action::List => {
            let reply = client.list_owners(v1::ListOwnersRequest {}).await?;
            context.documents(&reply.owners, entities::owner, || {
                tables::owners(&reply.owners)
            })?;
        }
    }
    Ok(Exit::Done)
}
