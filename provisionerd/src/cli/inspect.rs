//! What the extractor finds in files, without a queue.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, FromArgMatches};
use proto::limits;
use proto::v1::Extraction;
use serde_json::json;

use super::Context;
use super::exclusive::{self, Counts};
use crate::failure::{Exit, Failure};
use crate::render::{details, extraction, template};

/// Runs the extractor on a plan, a state or a template directory, without a queue.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  terraform show -json plan.out > plan.json && provisionerd inspect --plan plan.json
  provisionerd inspect --state terraform.tfstate --output json
  provisionerd inspect ./template        variables and tags, read without an engine")]
pub struct Args {
    #[command(flatten)]
    look: Look,
}

/// What is looked at.
#[derive(Debug)]
enum Look {
    /// A template directory.
    Directory(PathBuf),
    /// What an engine has written.
    Files {
        plan: Option<PathBuf>,
        state: Option<PathBuf>,
    },
}

/// The arguments behind [`Look`].
#[derive(clap::Args)]
struct Flags {
    /// A template directory.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Output of `show -json PLANFILE`.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Output of `show -json`, or a raw state.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

impl clap::Args for Look {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for Look {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let source = |id| exclusive::source(matches, id);
        let flags = Flags::from_arg_matches(matches)?;
        let files = ("--plan or --state", source("plan").max(source("state")));
        let missing = || {
            let message = "a DIR is missing, or --plan or --state\n";
            clap::Error::raw(ErrorKind::MissingRequiredArgument, message)
        };
        match exclusive::stronger(("DIR", source("directory")), files)? {
            Counts::Neither => Err(missing()),
            Counts::First => flags.directory.map(Self::Directory).ok_or_else(missing),
            Counts::Second => Ok(Self::Files {
                plan: flags.plan,
                state: flags.state,
            }),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

pub fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (plan, state) = match &args.look {
        Look::Directory(directory) => return inspect_directory(context, directory),
        Look::Files { plan, state } => (plan, state),
    };
    let plan = plan.as_deref().map(read).transpose()?;
    let state = state.as_deref().map(read).transpose()?;
    let found = match (&state, &plan) {
        (Some(state), plan) => worker::extract::from_state(state, plan.as_deref(), &[]),
        (None, Some(plan)) => worker::extract::from_plan(plan, &[]),
        (None, None) => Ok(Extraction::default()),
    };
    let found = found.map_err(|error| refused(&error))?;
    for warning in &found.warnings {
        context.warn(warning);
    }
    context.document(&extraction::document(&found), || {
        details::extraction(&found)
    })?;
    Ok(Exit::Done)
}

fn inspect_directory(context: &Context, directory: &Path) -> Result<Exit, Failure> {
    let found = worker::analyze::directory(directory).map_err(|error| refused(&error))?;
    for warning in &found.warnings {
        context.warn(warning);
    }
    let readme = String::from_utf8_lossy(&found.readme);
    let mut document = extraction::document(&Extraction {
        warnings: found.warnings.clone(),
        ..Extraction::default()
    });
    document["variables"] = template::declared(&found.variables);
    document["workspace_tags"] = template::workspace_tags(&found.workspace_tags);
    document["readme"] = json!(readme);
    context.document(&document, || details::variables(&found.variables))?;
    Ok(Exit::Done)
}

fn refused(error: &(impl std::error::Error + 'static)) -> Failure {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Failure::user("INSPECT_FAILED", message)
        .hint("pass what `terraform show -json` prints, a state file or a template directory")
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| Failure::file("read", path, &error);
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > limits::PLAN_JSON {
        let limit = limits::PLAN_JSON;
        return Err(Failure::user(
            "FILE_TOO_LARGE",
            format!("{} has {size} bytes, the limit is {limit}", path.display()),
        )
        .hint("pass what `terraform show -json` prints of one plan or state"));
    }
    std::fs::read(path).map_err(unreadable)
}
