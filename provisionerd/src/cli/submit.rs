//! Sends a template and shows its import.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use proto::ids::Digest;
use proto::v1::{self, BlobRef, Priority, VariableValue};
use serde_json::{Value, json};

use super::context::Context;
use super::follow::{Interrupt, Watched, exit_of, follow};
use super::pack::{self, Archive};
use super::turn::Turn;
use crate::client::{Blob, Client};
use crate::failure::{Exit, Failure};
use crate::render::{job, outcome, write_stdout};

/// Whether a command waits for the job that it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until it has ended.
    Until,
    /// Not at all.
    No,
}

/// A template to import.
pub struct PushSource {
    pub name: String,
    pub tags: HashMap<String, String>,
    pub variables: Vec<VariableValue>,
    pub engine: String,
    /// How its turn comes; an interactive job without deadlines when unset.
    pub turn: Option<Turn>,
}

/// Packs `dir` beside the runtime and says what was left out.
///
/// # Errors
/// See [`pack::directory`].
pub async fn pack_directory(context: &Context, dir: &Path) -> Result<Archive, Failure> {
    let owned: PathBuf = dir.to_owned();
    let transfers = context.transfers();
    let packed = tokio::task::spawn_blocking(move || pack::directory(&owned, transfers)).await;
    let archive = packed.map_err(|error| Failure::internal("PACK", error.to_string()))??;
    if !archive.skipped.is_empty() {
        context.say(&format!("left out: {}", archive.skipped.join(", ")));
    }
    Ok(archive)
}

/// Uploads `archive` and starts its import.
///
/// # Errors
/// The queue refuses it or cannot be reached.
pub async fn push_template(
    context: &Context,
    client: &mut Client,
    archive: Archive,
    source: PushSource,
) -> Result<v1::PushTemplateReply, Failure> {
    let Archive {
        file, digest, size, ..
    } = archive;
    let archive = client
        .upload(Blob { file, digest, size }, context.transfers())
        .await?;
    let request = v1::PushTemplateRequest {
        name: source.name,
        archive: Some(archive),
        tags: source.tags,
        variables: source.variables,
        engine: source.engine,
        activate: true,
        priority: source
            .turn
            .map_or(Priority::Interactive.into(), Turn::priority),
        queue_deadline_ms: source.turn.map_or(0, Turn::queue_deadline_ms),
        run_deadline_ms: source.turn.map_or(0, Turn::run_deadline_ms),
    };
    client.push_template(request).await
}

/// Whether a stored blob is the one with `digest`.
pub fn is_same(blob: Option<&BlobRef>, digest: &Digest) -> bool {
    blob.is_some_and(|blob| blob.sha256 == digest.as_bytes())
}

/// Waits for `job` if asked to, prints `document` with it, and says how it ended.
///
/// # Errors
/// The queue refuses or stays unreachable, or stdout cannot be written.
pub async fn conclude(
    context: &Context,
    client: &Client,
    view: v1::JobView,
    wait: Wait,
    document: impl FnOnce(Value) -> Value,
) -> Result<Exit, Failure> {
    let (view, interrupted) = match wait {
        Wait::No => (view, false),
        Wait::Until => match follow(context, client, view.clone(), Interrupt::LeavesJob).await? {
            Watched::Ended(ended) => (*ended, false),
            Watched::Interrupted => (view, true),
        },
    };
    context.document(&document(job::document(&view)), String::new)?;
    if interrupted {
        return Ok(Exit::Interrupted);
    }
    if wait == Wait::No {
        context.say(&format!(
            "job {} is queued; `provisionerd jobs wait {}`",
            view.id, view.id
        ));
        return Ok(Exit::Done);
    }
    ended(context, &view)
}

/// The end of a job for people: what exists, or why it failed.
///
/// # Errors
/// Stdout cannot be written.
pub fn ended(context: &Context, view: &v1::JobView) -> Result<Exit, Failure> {
    let exit = exit_of(view);
    if exit != Exit::Done {
        eprintln!(
            "{}",
            outcome::verdict(view, crate::render::paint::Paint::stderr())
        );
        return Ok(exit);
    }
    if !context.is_json() {
        write_stdout(outcome::success(view).as_bytes())?;
    }
    Ok(exit)
}

/// The document of `templates push`.
pub fn pushed(reply: &v1::PushTemplateReply, job: &Value) -> Value {
    json!({ "template": reply.template, "version_id": reply.version_id, "job": job })
}
