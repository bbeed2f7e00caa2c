//! Workspaces and their builds.

use proto::v1::{self, Transition};
use serde_json::json;

use super::pairs::{self, Pair};
use super::submit;
use super::templates::waiting;
use super::turn::Turn;
use super::{Connection, Context};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::render::job::unconfirmed;
use crate::render::{details, entities, outcome, tables};

/// Workspaces: what templates are made into, build by build.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "workspace")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Makes a workspace and starts it for the first time.
    #[command(after_help = "Examples:
  provisionerd workspaces create dev --template aws --parameter region=eu-west-1
  provisionerd workspaces create dev --template aws --parameter 'key=@id.pub' --no-wait")]
    Create(Create),
    /// Starts a workspace on its own template version.
    #[command(after_help = "Example:
  provisionerd workspaces start dev --parameter cpu=8

Parameters that are not given keep their values.")]
    Start(Build),
    /// Stops a workspace; what its template keeps stays.
    #[command(after_help = "Example:
  provisionerd workspaces stop dev --no-wait")]
    Stop(Build),
    /// Starts a workspace on the active template version.
    #[command(after_help = "Example:
  provisionerd workspaces update dev --parameter region=eu")]
    Update(Build),
    /// Deletes everything that a workspace has made, and the workspace.
    #[command(after_help = "Examples:
  provisionerd workspaces delete dev
  provisionerd workspaces delete dev --forget      although something may go on to exist")]
    Delete {
        #[command(flatten)]
        build: Build,
        /// Drop unconfirmed resources knowingly: they may go on to exist untracked.
        #[arg(long)]
        forget: bool,
    },
    /// Lists workspaces.
    #[command(after_help = "Example:
  provisionerd workspaces list --output json | jq -r .[].name")]
    List {
        /// Deleted ones too.
        #[arg(long)]
        deleted: bool,
    },
    /// Shows a workspace: parameters, resources, last build, what is unconfirmed.
    #[command(after_help = "Example:
  provisionerd workspaces show dev")]
    Show {
        /// Its name.
        name: String,
        /// Whose; only an admin may name another.
        #[arg(long)]
        owner: Option<String>,
    },
    /// Takes unconfirmed resources off the list, once you know what became of them.
    #[command(after_help = "Example:
  provisionerd workspaces forget dev 'aws_instance.box[0]'

Whatever still exists of them goes on to exist, and nothing will name it again.")]
    Forget {
        /// Name of the workspace.
        name: String,
        /// Addresses, as `workspaces show` names them.
        #[arg(required = true)]
        addresses: Vec<String>,
        /// Whose; only an admin may name another.
        #[arg(long)]
        owner: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Name of the workspace.
    name: String,
    /// Template to make it from.
    #[arg(long)]
    template: String,
    /// For whom; only an admin may name another.
    #[arg(long)]
    owner: Option<String>,
    /// Value of a parameter; `K=@FILE` reads it from a file.
    #[arg(long, value_name = "K=V", value_parser = pairs::parse)]
    parameter: Vec<Pair>,
    #[command(flatten)]
    turn: Turn,
    /// Do not wait for the build.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, clap::Args)]
struct Build {
    /// Name of the workspace.
    name: String,
    /// Whose; only an admin may name another.
    #[arg(long)]
    owner: Option<String>,
    /// New value of a parameter; the others stay as they were.
    #[arg(long, value_name = "K=V", value_parser = pairs::parse)]
    parameter: Vec<Pair>,
    #[command(flatten)]
    turn: Turn,
    /// Do not wait for the build.
    #[arg(long)]
    no_wait: bool,
}

/// What a build does besides its transition.
#[derive(Default)]
struct Extra {
    update: bool,
    forget: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    let client = &mut client;
    let plain = Extra::default;
    match args.action {
        Action::Create(args) => create(context, client, args).await,
        Action::Start(args) => build(context, client, args, Transition::Start, plain()).await,
        Action::Stop(args) => build(context, client, args, Transition::Stop, plain()).await,
        Action::Update(args) => {
            let extra = Extra {
                update: true,
                ..plain()
            };
            build(context, client, args, Transition::Start, extra).await
        }
        Action::Delete {
            build: args,
            forget,
        } => {
            let extra = Extra { forget, ..plain() };
            build(context, client, args, Transition::Delete, extra).await
        }
        Action::List { deleted } => list(context, client, deleted).await,
        Action::Show { name, owner } => {
            let owner = owner.unwrap_or_default();
            let request = v1::GetWorkspaceRequest { name, owner };
            let found = client.get_workspace(request).await?;
            context.document(&entities::workspace(&found), || details::workspace(&found))?;
            Ok(Exit::Done)
        }
        Action::Forget {
            name,
            addresses,
            owner,
        } => {
            let request = v1::ForgetResourcesRequest {
                name,
                owner: owner.unwrap_or_default(),
                addresses,
            };
            forget(context, client, request).await
        }
    }
}

async fn forget(
    context: &Context,
    client: &mut Client,
    request: v1::ForgetResourcesRequest,
) -> Result<Exit, Failure> {
    let reply = client.forget_resources(request).await?;
    let left = reply.workspace.unwrap_or_default().unconfirmed;
    let document = json!({
        "forgotten": unconfirmed(&reply.forgotten),
        "unconfirmed": unconfirmed(&left),
    });
    context.document(&document, || outcome::forgotten(&reply.forgotten, &left))?;
    Ok(Exit::Done)
}

async fn list(context: &Context, client: &mut Client, deleted: bool) -> Result<Exit, Failure> {
    let request = v1::ListWorkspacesRequest {
        include_deleted: deleted,
    };
    let reply = client.list_workspaces(request).await?;
    context.documents(&reply.workspaces, entities::workspace, || {
        tables::workspaces(&reply.workspaces)
    })?;
    Ok(Exit::Done)
}

async fn create(context: &Context, client: &mut Client, args: Create) -> Result<Exit, Failure> {
    let request = v1::CreateWorkspaceRequest {
        name: args.name,
        template: args.template,
        owner: args.owner.unwrap_or_default(),
        parameters: pairs::parameters(args.parameter)?,
        priority: args.turn.priority(),
        queue_deadline_ms: args.turn.queue_deadline_ms(),
        run_deadline_ms: args.turn.run_deadline_ms(),
    };
    let reply = client.create_workspace(request).await?;
    started(context, client, reply, args.no_wait).await
}

async fn build(
    context: &Context,
    client: &mut Client,
    args: Build,
    transition: Transition,
    extra: Extra,
) -> Result<Exit, Failure> {
    let request = v1::BuildWorkspaceRequest {
        name: args.name,
        transition: transition.into(),
        parameters: pairs::parameters(args.parameter)?,
        update: extra.update,
        forget: extra.forget,
        priority: args.turn.priority(),
        queue_deadline_ms: args.turn.queue_deadline_ms(),
        run_deadline_ms: args.turn.run_deadline_ms(),
        owner: args.owner.unwrap_or_default(),
    };
    let reply = client.build_workspace(request).await?;
    started(context, client, reply, args.no_wait).await
}

/// Waits for a build unless told not to, and prints `{workspace, build, job}`. Names
/// that other commands take are given as names, the rest of both objects beside them.
pub async fn started(
    context: &Context,
    client: &Client,
    reply: v1::BuildReply,
    no_wait: bool,
) -> Result<Exit, Failure> {
    let job = reply.job.clone().unwrap_or_default();
    submit::conclude(context, client, job, waiting(no_wait), |job| {
        json!({
            "workspace": reply.workspace.as_ref().map(entities::workspace),
            "build": reply.build.as_ref().map(entities::build),
            "job": job,
        })
    })
    .await
}
