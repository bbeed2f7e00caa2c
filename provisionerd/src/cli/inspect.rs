//! What the extractor finds in files, without a queue.

use std::path::{Path, PathBuf};

use proto::limits;
use proto::v1::Extraction;
use serde_json::json;

use super::Context;
use crate::failure::{Exit, Failure};
use crate::render::{details, extraction, template};

/// Runs the extractor on a plan, a state or a template directory, without a queue.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  terraform show -json plan.out > plan.json && provisionerd inspect --plan plan.json
  provisionerd inspect --state terraform.tfstate --output json
  provisionerd inspect ./template        variables and tags, read without an engine")]
pub struct Args {
    /// A template directory.
    #[arg(value_name = "DIR", conflicts_with_all = ["plan", "state"])]
    #[arg(required_unless_present_any = ["plan", "state"])]
    directory: Option<PathBuf>,
    /// Output of `show -json PLANFILE`.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Output of `show -json`, or a raw state.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

pub fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    if let Some(directory) = &args.directory {
        return inspect_directory(context, directory);
    }
    let plan = args.plan.as_deref().map(read).transpose()?;
    let state = args.state.as_deref().map(read).transpose()?;
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
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| Failure::file("read", path, &error);
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > limits::PLAN_JSON {
        let limit = limits::PLAN_JSON;
        return Err(Failure::user(
            "FILE_TOO_LARGE",
            format!("{} has {size} bytes, the limit is {limit}", path.display()),
        ));
    }
    std::fs::read(path).map_err(unreadable)
}
