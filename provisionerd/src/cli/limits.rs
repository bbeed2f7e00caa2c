//! Limits: how many jobs of an owner or of a template may run at once.

use proto::v1;

use super::{Connection, Context};
use crate::failure::{Exit, Failure};
use crate::render::{entities, tables};

/// Concurrency limits of owners and templates.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "limit")]
#[command(after_help = "Examples:
  provisionerd limits set owner ann 4
  provisionerd limits set template aws 10
  provisionerd limits set owner ann --none
  provisionerd limits list

A limit counts jobs of every kind from their hand-out to their end. It keeps further ones
waiting; `jobs show` names it. Jobs that run already go on, and 0 hands nothing out.")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Says how many jobs of an owner or a template may run at once.
    Set {
        /// What is limited.
        of: Of,
        /// The owner's or the template's name.
        name: String,
        /// Jobs at once.
        #[arg(required_unless_present = "none", conflicts_with = "none")]
        most: Option<u32>,
        /// Lifts the limit.
        #[arg(long)]
        none: bool,
    },
    /// Lists all limits, with the jobs that count against each now.
    List,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    Owner,
    Template,
}

impl From<Of> for v1::LimitOf {
    fn from(of: Of) -> Self {
        match of {
            Of::Owner => Self::Owner,
            Of::Template => Self::Template,
        }
    }
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    match args.action {
        Action::Set { of, name, most, .. } => {
            let of = v1::LimitOf::from(of).into();
            let set = v1::SetLimitRequest { of, name, most };
            let set = client.set_limit(set).await?;
            context.document(&entities::limit(&set), || {
                tables::limits(std::slice::from_ref(&set))
            })?;
        }
        Action::List => {
            let reply = client.list_limits(v1::ListLimitsRequest {}).await?;
            context.documents(&reply.limits, entities::limit, || {
                tables::limits(&reply.limits)
            })?;
        }
    }
    Ok(Exit::Done)
}
