//! Provisioner daemons, as the queue sees them.

use proto::v1;

use super::{Connection, Context};
use crate::failure::{Exit, Failure};
use crate::render::{entities, tables};

/// Provisioner daemons: who is there, what they run, and how to retire one.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "daemon")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists daemons: status, slots, tags, sandbox, versions, jobs, last seen.
    #[command(after_help = "Example:
  provisionerd daemons list --output json | jq -r .[].name")]
    List,
    /// Lets a daemon finish its jobs, take no more and end; so it does at each start, until
    /// `undrain`.
    #[command(after_help = "Example:
  provisionerd daemons drain eu-1")]
    Drain {
        /// Its name.
        name: String,
    },
    /// Lets a daemon that was drained take jobs again, from its next start on.
    #[command(after_help = "Example:
  provisionerd daemons undrain eu-1")]
    Undrain {
        /// Its name.
        name: String,
    },
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    match args.action {
        Action::List => {
            let reply = client.list_daemons(v1::ListDaemonsRequest {}).await?;
            context.documents(&reply.daemons, entities::daemon, || {
                tables::daemons(&reply.daemons)
            })?;
        }
        Action::Drain { name } => {
            let request = v1::DrainDaemonRequest { name };
            show(context, &client.drain_daemon(request).await?)?;
        }
        Action::Undrain { name } => {
            let request = v1::UndrainDaemonRequest { name };
            show(context, &client.undrain_daemon(request).await?)?;
        }
    }
    Ok(Exit::Done)
}

fn show(context: &Context, daemon: &v1::Daemon) -> Result<(), Failure> {
    context.document(&entities::daemon(daemon), || {
        tables::daemons(std::slice::from_ref(daemon))
    })
}
