//! Provisioner keys: the credentials of daemons.

use proto::v1;

use super::pairs::{self, Pair};
use super::{Connection, Context};
use crate::failure::{Exit, Failure};
use crate::render::{entities, tables};

/// Provisioner keys: what a daemon proves itself with, and which tags it may carry.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "key")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Makes a key and prints its secret, this once.
    #[command(after_help = "Examples:
  provisionerd keys create eu --tag region=eu > eu.key
  provisionerd keys create any --tag 'region=*'     any value of `region`")]
    Create {
        /// Its name.
        name: String,
        /// Tag that daemons with this key carry: `k=v`, or `k=*` for any value.
        #[arg(long, value_name = "K=V", value_parser = pairs::parse)]
        tag: Vec<Pair>,
    },
    /// Lists keys, without their secrets.
    List,
    /// Takes a key back; its daemons lose their access.
    Delete {
        /// Its name.
        name: String,
    },
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    match args.action {
        Action::Create { name, tag } => {
            let tags = pairs::map("tag", tag)?;
            let note = format!(
                "This is the only time the key `{name}` is shown. Keep it in a file for \
                 `start --key-file`."
            );
            let reply = client
                .create_key(v1::CreateKeyRequest { name, tags })
                .await?;
            context.secret(&entities::created_key(&reply), &reply.key, &note)?;
        }
        Action::List => {
            let reply = client.list_keys(v1::ListKeysRequest {}).await?;
            context.documents(&reply.keys, entities::key, || tables::keys(&reply.keys))?;
        }
        Action::Delete { name } => {
            let request = v1::DeleteKeyRequest { name: name.clone() };
            client.delete_key(request).await?;
            context.deleted("key", &name)?;
        }
    }
    Ok(Exit::Done)
}
