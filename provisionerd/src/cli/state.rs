//! States of a workspace: taken out, put back, looked at.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};

use proto::ids::Digest;
use proto::limits;
use proto::v1;
use sha2::Digest as _;

use super::{Connection, Context};
use crate::client::{Blob, Client};
use crate::failure::{Exit, Failure};
use crate::render::transfer::Transfer;
use crate::render::{entities, tables};

/// States of workspaces.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "states")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Whose workspace; only an admin may name another.
    #[arg(long, global = true)]
    owner: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Prints the raw state. It may hold secrets.
    #[command(after_help = "Example:
  provisionerd state pull dev > dev.tfstate")]
    Pull {
        /// Name of the workspace.
        workspace: String,
        /// A state of the history instead of the current one.
        #[arg(long = "id", value_name = "ID")]
        id: Option<String>,
    },
    /// Prints the raw state of an ending that no job took. Admins only; it may hold secrets.
    #[command(after_help = "Example:
  provisionerd state fetch 3 > found.tfstate      the number is from `jobs unclaimed`")]
    Fetch {
        /// Number of the ending.
        id: u64,
    },
    /// Makes a file the current state; refused while a build runs.
    #[command(after_help = "Example:
  provisionerd state push dev dev.tfstate")]
    Push {
        /// Name of the workspace.
        workspace: String,
        /// The state file.
        file: PathBuf,
        /// Even if its lineage differs or its serial is not higher.
        #[arg(long)]
        force: bool,
    },
    /// Lists all states with where each came from.
    History {
        /// Name of the workspace.
        workspace: String,
    },
    /// Makes a state that was kept aside the current one.
    Adopt {
        /// Name of the workspace.
        workspace: String,
        /// The state's id, from `state history`.
        id: String,
    },
    /// Drops a state that was kept aside.
    Discard {
        /// Name of the workspace.
        workspace: String,
        /// The state's id, from `state history`.
        id: String,
    },
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    let owner = args.owner.unwrap_or_default();
    let record = match args.action {
        Action::Pull { workspace, id } => {
            let request = v1::PullStateRequest {
                workspace,
                owner,
                state_id: id.unwrap_or_default(),
            };
            pull(context, &mut client, request).await?;
            return Ok(Exit::Done);
        }
        Action::Fetch { id } => {
            let request = v1::PullUnclaimedRequest { id };
            client.pull_unclaimed(request, print).await?;
            std::io::stdout().flush().map_err(unwritten)?;
            return Ok(Exit::Done);
        }
        Action::History { workspace } => {
            let request = v1::StateHistoryRequest { workspace, owner };
            let states = client.state_history(request).await?.states;
            context.documents(&states, entities::state, || tables::states(&states))?;
            return Ok(Exit::Done);
        }
        Action::Push {
            workspace,
            file,
            force,
        } => {
            let request = v1::PushStateRequest {
                workspace,
                owner,
                force,
                ..v1::PushStateRequest::default()
            };
            push(context, &mut client, request, &file).await?
        }
        Action::Adopt { workspace, id } => {
            client.adopt_state(resolve(workspace, owner, id)).await?
        }
        Action::Discard { workspace, id } => {
            client.discard_state(resolve(workspace, owner, id)).await?
        }
    };
    context.document(&entities::state(&record), || {
        tables::states(std::slice::from_ref(&record))
    })?;
    Ok(Exit::Done)
}

fn resolve(workspace: String, owner: String, state_id: String) -> v1::ResolveStateRequest {
    v1::ResolveStateRequest {
        workspace,
        owner,
        state_id,
    }
}

async fn pull(
    context: &Context,
    client: &mut Client,
    request: v1::PullStateRequest,
) -> Result<(), Failure> {
    // Where the state itself scrolls by, nothing is drawn into it.
    let transfer = match std::io::stdout().is_terminal() {
        true => Transfer::hidden(),
        false => context.transfers().begin("download", None),
    };
    client
        .pull_state(request, |chunk| {
            transfer.advance(chunk.len());
            print(chunk)
        })
        .await?;
    std::io::stdout().flush().map_err(unwritten)
}

fn print(chunk: &[u8]) -> Result<(), Failure> {
    std::io::stdout().write_all(chunk).map_err(unwritten)
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unwritten(error: std::io::Error) -> Failure {
    Failure::file("write to", Path::new("standard output"), &error)
}

async fn push(
    context: &Context,
    client: &mut Client,
    mut request: v1::PushStateRequest,
    path: &Path,
) -> Result<v1::StateRecord, Failure> {
    let (blob, header) = read(path)?;
    request.serial = header.serial;
    request.lineage = header.lineage;
    request.state = Some(client.upload(blob, context.transfers()).await?);
    client.push_state(request).await
}

/// The part of a state that says which one it is.
#[derive(serde::Deserialize)]
struct Header {
    version: u64,
    serial: u64,
    lineage: String,
}

/// Opens a state, checks that it is one, and computes its digest.
fn read(path: &Path) -> Result<(Blob, Header), Failure> {
    let unreadable = |error: std::io::Error| Failure::file("read", path, &error);
    let mut file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size > limits::STATE {
        let limit = limits::STATE;
        return Err(Failure::user(
            "STATE_TOO_LARGE",
            format!("{} has {size} bytes, the limit is {limit}", path.display()),
        )
        .hint("keep what it holds in several workspaces"));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(unreadable)?;
    let invalid = |reason: String| {
        Failure::user("STATE_INVALID", format!("{}: {reason}", path.display()))
            .hint("pass a state file of version 4, as `state pull` prints it")
    };
    let header: Header = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
    if header.version != 4 || header.lineage.is_empty() {
        return Err(invalid(format!(
            "no state of version 4 (version {})",
            header.version
        )));
    }
    file.rewind().map_err(unreadable)?;
    let digest = Digest::from_array(sha2::Sha256::digest(&text).into());
    let size = text.len() as u64;
    Ok((Blob { file, digest, size }, header))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("write");
        file
    }

    #[test]
    fn a_state_is_known_by_serial_and_lineage() {
        let state = file(r#"{"version":4,"serial":7,"lineage":"l","resources":[]}"#);
        let (blob, header) = read(state.path()).expect("state");
        assert_eq!((header.serial, &*header.lineage), (7, "l"));
        assert_eq!(
            blob.size,
            std::fs::metadata(state.path()).expect("meta").len()
        );
    }

    #[test]
    fn what_is_no_state_is_refused_before_it_is_sent() {
        for text in ["", "{}", "x", r#"{"version":3,"serial":1,"lineage":"l"}"#] {
            let Err(refused) = read(file(text).path()) else {
                panic!("{text:?} was taken for a state");
            };
            assert_eq!(refused.code, "STATE_INVALID");
        }
    }
}
