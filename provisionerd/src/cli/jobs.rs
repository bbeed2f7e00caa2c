//! Jobs: what the fleet does and did.

use proto::v1::{self, JobKind, JobStatus};

use super::submit::{self, Wait};
use super::{Connection, Context, logs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::render::{entities, job, outcome, tables};

/// Jobs: imports, dry runs and builds.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "job")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists jobs, newest first.
    #[command(after_help = "Example:
  provisionerd jobs list --status failed --limit 5")]
    List(List),
    /// Shows one job; exit code 0 whatever became of it.
    #[command(after_help = "Example:
  provisionerd jobs show ID --timeline")]
    Show {
        /// The job's id.
        id: String,
        /// Where its time went, phase by phase.
        #[arg(long)]
        timeline: bool,
    },
    /// Asks a job to stop: its engine is interrupted once and what it made is saved.
    #[command(after_help = "Examples:
  provisionerd jobs cancel ID
  provisionerd jobs cancel ID --force      when it does not end by itself")]
    Cancel {
        /// The job's id.
        id: String,
        /// Kill it after 5 seconds; resources may stay unconfirmed.
        #[arg(long)]
        force: bool,
    },
    /// Runs a failed or canceled job again, as a new job.
    #[command(after_help = "Example:
  provisionerd jobs retry ID")]
    Retry {
        /// The job's id.
        id: String,
        /// Do not wait for the new job.
        #[arg(long)]
        no_wait: bool,
    },
    /// Waits until a job has ended; exit code 1 if it did not succeed.
    #[command(after_help = "Example:
  provisionerd jobs wait ID && provisionerd state pull dev")]
    Wait {
        /// The job's id.
        id: String,
    },
    /// Gives up a job whose daemon cannot be reached: verdict at once.
    #[command(after_help = "Example:
  provisionerd jobs abandon ID      then look at what it names as unconfirmed")]
    Abandon {
        /// The job's id.
        id: String,
        /// Allow new builds before the old engine is proved dead.
        #[arg(long)]
        force: bool,
    },
    /// Lists endings that no job took: of jobs or leases the queue does not know, or of
    /// workspaces that were deleted meanwhile. The newest hundred. Admins only.
    #[command(after_help = "Examples:
  provisionerd jobs unclaimed && provisionerd state fetch 3 > found.tfstate
  provisionerd jobs unclaimed --before 3")]
    Unclaimed {
        /// Only those with a lower number.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        before: Option<u64>,
    },
    /// Forgets an ending that no job took, and its state. Admins only.
    #[command(after_help = "Example:
  provisionerd state fetch 3 > found.tfstate && provisionerd jobs discard 3")]
    Discard {
        /// Its number, from `jobs unclaimed`.
        id: u64,
    },
    /// Prints a job's log.
    #[command(after_help = "Examples:
  provisionerd jobs logs ID --follow
  provisionerd jobs logs ID --output json | jq -r .text")]
    Logs(logs::Args),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only jobs with this status.
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only jobs of this kind.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only jobs of this workspace.
    #[arg(long)]
    workspace: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Status {
    Pending,
    Running,
    Canceling,
    Succeeded,
    Canceled,
    Failed,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    TemplateImport,
    TemplateDryRun,
    WorkspaceBuild,
}

impl From<Status> for JobStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Running => Self::Running,
            Status::Canceling => Self::Canceling,
            Status::Succeeded => Self::Succeeded,
            Status::Canceled => Self::Canceled,
            Status::Failed => Self::Failed,
        }
    }
}

impl From<Kind> for JobKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::TemplateImport => Self::TemplateImport,
            Kind::TemplateDryRun => Self::TemplateDryRun,
            Kind::WorkspaceBuild => Self::WorkspaceBuild,
        }
    }
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    let client = &mut client;
    match args.action {
        Action::List(args) => list(context, client, args).await,
        Action::Show { id, timeline } => show(context, client, id, timeline).await,
        Action::Cancel { id, force } => {
            let request = v1::CancelJobRequest { id, force };
            let view = client.cancel_job(request).await?;
            print(context, &view)
        }
        Action::Retry { id, no_wait } => {
            let reply = client.retry_job(v1::GetJobRequest { id }).await?;
            super::workspaces::started(context, client, reply, no_wait).await
        }
        Action::Wait { id } => {
            let view = client.get_job(v1::GetJobRequest { id }).await?;
            submit::conclude(context, client, view, Wait::Until, |job| job).await
        }
        Action::Abandon { id, force } => {
            let request = v1::AbandonJobRequest { id, force };
            let view = client.abandon_job(request).await?;
            abandoned(context, &view, force)
        }
        Action::Unclaimed { before } => {
            let before = before.unwrap_or_default();
            let request = v1::ListUnclaimedRequest { before };
            let found = client.list_unclaimed(request).await?.finishes;
            context.documents(&found, entities::unclaimed, || tables::unclaimed(&found))?;
            Ok(Exit::Done)
        }
        Action::Discard { id } => {
            let request = v1::DiscardUnclaimedRequest { id };
            let gone = client.discard_unclaimed(request).await?;
            let table = || tables::unclaimed(std::slice::from_ref(&gone));
            context.document(&entities::unclaimed(&gone), table)?;
            Ok(Exit::Done)
        }
        Action::Logs(args) => logs::run(context, client, args).await,
    }
}

async fn list(context: &Context, client: &mut Client, args: List) -> Result<Exit, Failure> {
    let status = args.status.map_or(JobStatus::Unspecified, JobStatus::from);
    let kind = args.kind.map_or(JobKind::Unspecified, JobKind::from);
    let request = v1::ListJobsRequest {
        status: status.into(),
        kind: kind.into(),
        limit: args.limit,
        workspace: args.workspace.unwrap_or_default(),
    };
    let jobs = client.list_jobs(request).await?.jobs;
    context.documents(&jobs, job::document, || tables::jobs(&jobs))?;
    Ok(Exit::Done)
}

async fn show(
    context: &Context,
    client: &mut Client,
    id: String,
    timeline: bool,
) -> Result<Exit, Failure> {
    let view = client.get_job(v1::GetJobRequest { id }).await?;
    context.document(&job::document(&view), || {
        let mut text = outcome::job(&view);
        if view.error.is_some() || !view.unconfirmed.is_empty() {
            text.push('\n');
            text.push_str(&outcome::verdict(&view, context.paint));
            text.push('\n');
        }
        if let Some(found) = view.extraction.as_ref().filter(|e| !e.resources.is_empty()) {
            text.push('\n');
            if matches!(view.status(), JobStatus::Failed | JobStatus::Canceled) {
                text.push_str("what the saved state holds\n");
            }
            text.push_str(&outcome::resources(&found.resources));
        }
        if timeline {
            text.push('\n');
            text.push_str(&outcome::timeline(&view));
        }
        text
    })?;
    Ok(Exit::Done)
}

/// An operator's verdict, and why the next start may have to wait.
fn abandoned(context: &Context, view: &v1::JobView, force: bool) -> Result<Exit, Failure> {
    context.document(&job::document(view), || {
        let mut text = outcome::job(view);
        text.push('\n');
        text.push_str(&outcome::verdict(view, context.paint));
        text.push('\n');
        text
    })?;
    if view.gate_open && !force {
        context.warn(&format!(
            "the engine of this job may still run: starts are refused until its lease has run \
             out; when its machine is surely off: provisionerd jobs abandon {} --force",
            view.id
        ));
    }
    Ok(Exit::Done)
}

fn print(context: &Context, view: &v1::JobView) -> Result<Exit, Failure> {
    context.document(&job::document(view), || outcome::job(view))?;
    Ok(Exit::Done)
}
