//! Templates and their versions.

use std::path::PathBuf;

use proto::v1;

use super::pairs::{self, Pair};
use super::submit::{self, PushSource, Wait};
use super::turn::Turn;
use super::{Connection, Context};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::render::{tables, template};

/// Templates: what workspaces are made from.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "template")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Packs a directory, imports it, waits, and makes it the active version.
    #[command(after_help = "Examples:
  provisionerd templates push aws -d ./aws --tag region=eu
  provisionerd templates push db --variable password=@secret.txt --variable-file prod.tfvars

A failed import never becomes active. `.terraform/`, `.git/` and state files are left out.")]
    Push(Push),
    /// Lists templates.
    List,
    /// Shows versions, parameters, variables, tags, and what start and stop would make.
    #[command(after_help = "Example:
  provisionerd templates show aws")]
    Show {
        /// Its name.
        name: String,
    },
    /// Lists the versions of a template.
    Versions {
        /// Its name.
        name: String,
    },
    /// Makes another version the active one.
    #[command(after_help = "Example:
  provisionerd templates promote aws 3")]
    Promote {
        /// Its name.
        name: String,
        /// Number or id of the version.
        #[arg(id = "template_version", value_name = "VERSION")]
        version: String,
    },
    /// Dry run: shows what a workspace would be made of, without making it.
    #[command(after_help = "Example:
  provisionerd templates plan aws --parameter region=eu-west-1")]
    Plan(Plan),
}

#[derive(Debug, clap::Args)]
struct Push {
    /// Name of the template; it is made if there is none.
    name: String,
    /// The template's directory.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Tag that a daemon must have to run this template's jobs.
    #[arg(long, value_name = "K=V", value_parser = pairs::parse)]
    tag: Vec<Pair>,
    /// Value of a template variable; `K=@FILE` reads it from a file.
    #[arg(long, value_name = "K=V", value_parser = pairs::parse)]
    variable: Vec<Pair>,
    /// File with values of template variables, .tfvars or .tfvars.json.
    #[arg(long, value_name = "FILE")]
    variable_file: Vec<PathBuf>,
    /// Engine that the template needs; by default the daemon's own.
    #[arg(long, value_parser = ["terraform", "tofu"])]
    engine: Option<String>,
    #[command(flatten)]
    turn: Turn,
    /// Do not wait for the import.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, clap::Args)]
struct Plan {
    /// Name of the template.
    name: String,
    /// Value of a parameter; `K=@FILE` reads it from a file.
    #[arg(long, value_name = "K=V", value_parser = pairs::parse)]
    parameter: Vec<Pair>,
    /// Number or id of a version, by default the active one.
    #[arg(
        id = "template_version",
        long = "template-version",
        alias = "template_version",
        value_name = "VERSION"
    )]
    version: Option<String>,
    /// For whom; only an admin may name another.
    #[arg(long)]
    owner: Option<String>,
    #[command(flatten)]
    turn: Turn,
    /// Do not wait for the dry run.
    #[arg(long)]
    no_wait: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    match args.action {
        Action::Push(args) => return push(context, &mut client, args).await,
        Action::Plan(args) => return plan(context, &mut client, args).await,
        Action::List => {
            let reply = client.list_templates(v1::ListTemplatesRequest {}).await?;
            context.documents(&reply.templates, template::template, || {
                tables::templates(&reply.templates)
            })?;
        }
        Action::Show { name } => show(context, &mut client, name).await?,
        Action::Versions { name } => {
            let request = v1::ListTemplateVersionsRequest { name };
            let reply = client.list_template_versions(request).await?;
            context.documents(&reply.versions, template::version, || {
                tables::versions(&reply.versions)
            })?;
        }
        Action::Promote { name, version } => {
            let request = v1::PromoteTemplateVersionRequest { name, version };
            let promoted = client.promote_template_version(request).await?;
            context.document(&template::template(&promoted), || {
                tables::templates(std::slice::from_ref(&promoted))
            })?;
        }
    }
    Ok(Exit::Done)
}

async fn push(context: &Context, client: &mut Client, args: Push) -> Result<Exit, Failure> {
    let source = PushSource {
        name: args.name,
        tags: pairs::map("tag", args.tag)?,
        variables: pairs::variables(&args.variable_file, args.variable)?,
        engine: args.engine.unwrap_or_default(),
        turn: Some(args.turn),
    };
    let archive = submit::pack_directory(context, &args.directory).await?;
    let mut reply = submit::push_template(context, client, archive, source).await?;
    let job = reply.job.take().unwrap_or_default();
    let wait = waiting(args.no_wait);
    submit::conclude(context, client, job, wait, |job| {
        submit::pushed(&reply, &job)
    })
    .await
}

async fn plan(context: &Context, client: &mut Client, args: Plan) -> Result<Exit, Failure> {
    let request = v1::PlanTemplateRequest {
        name: args.name,
        parameters: pairs::parameters(args.parameter)?,
        owner: args.owner.unwrap_or_default(),
        version: args.version.unwrap_or_default(),
        priority: args.turn.priority(),
        queue_deadline_ms: args.turn.queue_deadline_ms(),
        run_deadline_ms: args.turn.run_deadline_ms(),
    };
    let job = client.plan_template(request).await?;
    submit::conclude(context, client, job, waiting(args.no_wait), |job| job).await
}

async fn show(context: &Context, client: &mut Client, name: String) -> Result<(), Failure> {
    let request = v1::GetTemplateRequest { name: name.clone() };
    let found = client.get_template(request).await?;
    let request = v1::ListTemplateVersionsRequest { name };
    let versions = client.list_template_versions(request).await?.versions;
    context.document(&template::shown(&found, &versions), || {
        crate::render::details::template(&found, &versions)
    })
}

/// What `--no-wait` asks for.
pub fn waiting(no_wait: bool) -> Wait {
    if no_wait { Wait::No } else { Wait::Until }
}
