//! Client tokens: the credentials of people and programs.

use proto::v1;

use super::{Connection, Context};
use crate::failure::{Exit, Failure};
use crate::render::{entities, tables};

/// Client tokens: what a person or a program proves itself with.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "token")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Makes a token and prints its secret, this once.
    #[command(after_help = "Example:
  provisionerd tokens create ci --owner robot --role member > ci.token")]
    Create {
        /// Its name.
        name: String,
        /// Who works with it; fairness between owners counts by this name.
        #[arg(long)]
        owner: String,
        /// What it may do: an admin also manages organizations, keys and tokens.
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
    },
    /// Lists tokens, without their secrets.
    List,
    /// Takes a token back.
    Delete {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    Member,
    Admin,
}

impl Role {
    fn word(self) -> String {
        match self {
            Self::Member => "member".to_owned(),
            Self::Admin => "admin".to_owned(),
        }
    }
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    match args.action {
        Action::Create { name, owner, role } => {
            let role = role.word();
            let note = format!("This is the only time the token `{name}` is shown.");
            let request = v1::CreateTokenRequest { name, owner, role };
            let reply = client.create_token(request).await?;
            context.secret(&entities::created_token(&reply), &reply.token, &note)?;
        }
        Action::List => {
            let reply = client.list_tokens(v1::ListTokensRequest {}).await?;
            context.documents(&reply.tokens, entities::token, || {
                tables::tokens(&reply.tokens)
            })?;
        }
        Action::Delete { name } => {
            let request = v1::DeleteTokenRequest { name: name.clone() };
            client.delete_token(request).await?;
            context.deleted("token", &name)?;
        }
    }
    Ok(Exit::Done)
}
