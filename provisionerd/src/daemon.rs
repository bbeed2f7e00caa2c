//! The provisioner daemon: takes jobs from the queue and sees each one to its end.
//!
//! It holds the credentials of the fleet, the journals and the redaction; it starts
//! supervisors and nothing else, and it never parses what a template wrote.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proto::secret::Secret;
use proto::timings::Timings;

use crate::connect::{self, Target};

mod backoff;
mod journal;
mod lease;
mod outbox;
mod redact;
mod shutdown;

pub use shutdown::{Shutdown, Step, Trigger, channel as shutdown};

/// Which engine runs jobs that do not name one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineChoice {
    /// The first of `terraform` and `tofu` on `PATH`.
    Auto,
    /// By name, from `PATH`.
    Named(EngineName),
    /// This binary and no other.
    Path(PathBuf),
}

/// The engines we drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineName {
    /// HashiCorp Terraform.
    Terraform,
    /// OpenTofu.
    Tofu,
}

impl EngineName {
    /// As on the wire and on `PATH`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terraform => "terraform",
            Self::Tofu => "tofu",
        }
    }
}

/// How a job may use a host path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Shown read-only.
    Read,
    /// Shown for writing.
    Write,
}

/// A host path that every job sees (`--bind SRC[=DST][:rw]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the job: the same path, or `~/…` for a place in the job's HOME.
    pub destination: PathBuf,
    /// Reading or writing.
    pub access: Access,
}

/// Everything a daemon is told at its start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the queue is.
    pub target: Target,
    /// The provisioner key.
    pub key: Secret,
    /// Unique among the live daemons of the key.
    pub name: String,
    /// Tags that jobs are matched by.
    pub tags: BTreeMap<String, String>,
    /// Jobs at once, 1 to [`proto::limits::SLOTS`].
    pub slots: u32,
    /// This daemon's own directory; made if missing, locked while it runs.
    pub data_dir: PathBuf,
    /// The engine for jobs that do not name one.
    pub engine: EngineChoice,
    /// Directories of unpacked mirrors and https URLs of network mirrors.
    pub provider_mirrors: Vec<String>,
    /// Whether the registry may be asked for what no mirror has.
    pub direct: Registry,
    /// When the daemon ends by itself.
    pub lifetime: Lifetime,
    /// From a drain to the end of its last job, uploads included.
    pub drain_deadline: Duration,
    /// SIGINT to SIGKILL after a user's cancel.
    pub cancel_grace: Duration,
    /// Host paths that jobs see.
    pub binds: Vec<Bind>,
    /// Environment of engine and providers that the operator sets (credentials).
    pub engine_env: Vec<(String, Secret)>,
    /// Every wait.
    pub timings: Timings,
    /// The binary that is started as `supervise`, `worker` and `jail`.
    pub exe: PathBuf,
}

/// Whether engines may fetch providers from their registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// For what no mirror has.
    Allowed,
    /// Mirrors only.
    Refused,
}

/// When a daemon ends without being told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Never.
    Unlimited,
    /// After one job (`--once`).
    Once,
    /// After this long without a job (`--exit-after-idle`).
    Idle(Duration),
}

/// What a daemon did, for its last words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Jobs whose finish the queue has stored.
    pub finished: u64,
    /// Finished journals that the queue has not taken yet; sent at the next start.
    pub unsent: u64,
}

/// Why a daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue's address or our credentials are unusable.
    #[error("cannot use the connection settings")]
    Connect(#[from] connect::Error),
}

/// Runs a daemon until it is told to stop, its lifetime is over or the queue refuses
/// it for good. Every job it holds has ended, with its finish in its journal, when
/// this returns.
///
/// # Errors
/// See [`Error`]; nothing that a job made is lost by any of them.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<Summary, Error> {
    let _ = (options, shutdown);
    unimplemented!()
}
