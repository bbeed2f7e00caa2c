//! What a transition can answer instead of doing it. Class, code and the next step are
//! chosen here, where the refusal is born.

use std::time::Duration;

use proto::ids::{BuildId, JobId};
use proto::v1::{ErrorClass, JobError};

use crate::allowance::Spent;
use crate::words::Status;

/// Why a transition did not happen; nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing, or it belongs to another organization.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// How it was asked for.
        name: String,
    },
    /// It was there, and was kept for as long as the operator asked for.
    #[error("{what} `{name}` was kept for as long as was asked for, and is gone")]
    Pruned {
        /// The kind of thing.
        what: &'static str,
        /// How it was asked for.
        name: String,
    },
    /// The name is in use.
    #[error("{what} `{name}` already exists")]
    Exists {
        /// The kind of thing.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The template has no version that could be built.
    #[error("template `{template}` has no active version")]
    NoActiveVersion {
        /// The template.
        template: String,
    },
    /// The version's import did not succeed.
    #[error("version {version} of template `{template}` was not imported: its import is {status}")]
    NotImported {
        /// The template.
        template: String,
        /// The version's number.
        version: u32,
        /// Where the import stands.
        status: Status,
    },
    /// The workspace has a build that has not ended.
    #[error("workspace `{workspace}` has a running build (job {job})")]
    BuildRunning {
        /// The workspace.
        workspace: String,
        /// The job of that build.
        job: JobId,
    },
    /// Another build came between reading the base and submitting.
    #[error("workspace `{workspace}` was built by someone else in between")]
    BaseChanged {
        /// The workspace.
        workspace: String,
    },
    /// A late state waits for a decision.
    #[error("workspace `{workspace}` has a state that waits for a decision")]
    StateConflict {
        /// The workspace.
        workspace: String,
    },
    /// The engine of an abandoned job may still run.
    #[error("the engine of abandoned job {job} may still run for {remaining_s} s")]
    OldEngineMayRun {
        /// The abandoned job.
        job: JobId,
        /// Seconds until its lease has surely ended.
        remaining_s: u64,
    },
    /// A delete would forget resources that may exist.
    #[error("workspace `{workspace}` has {count} unconfirmed resources")]
    Unconfirmed {
        /// The workspace.
        workspace: String,
        /// How many.
        count: usize,
    },
    /// The workspace is deleted.
    #[error("workspace `{workspace}` is deleted")]
    Deleted {
        /// The workspace.
        workspace: String,
    },
    /// The job is not in a state that allows the request.
    #[error("job {job} is {status}: {need}")]
    WrongStatus {
        /// The job.
        job: JobId,
        /// Where it stands.
        status: Status,
        /// What the request needs, in plain words.
        need: &'static str,
    },
    /// The hand-out was withdrawn or belongs to another daemon.
    #[error("job {job} is no longer offered to this daemon")]
    OfferGone {
        /// The job.
        job: JobId,
    },
    /// Another living instance uses the daemon's name.
    #[error("a daemon named `{name}` is already connected, as another instance")]
    DaemonNameTaken {
        /// The name.
        name: String,
    },
    /// The pushed state does not continue the current one.
    #[error("the state does not follow the current one: {why}")]
    StateMismatch {
        /// Lineage or serial, with both values.
        why: String,
    },
    /// A request names a blob that was not uploaded.
    #[error("blob {digest} was not uploaded")]
    BlobMissing {
        /// SHA-256 in hex.
        digest: String,
    },
    /// Too much was put for leases that the queue does not know.
    #[error(transparent)]
    Allowance(#[from] Spent),
    /// The request breaks a rule of the protocol.
    #[error("{what}")]
    Invalid {
        /// The rule and the value that broke it.
        what: String,
    },
    /// The build has no state of that id, or it waits for nothing.
    #[error("state `{state}` of build {build:?} waits for no decision")]
    NotWaiting {
        /// The state.
        state: String,
        /// The build that made it, when known.
        build: Option<BuildId>,
    },
    /// The store is shut down or its thread has ended.
    #[error("the store is closed")]
    Closed,
    /// The database server is away.
    #[error("the database cannot be reached")]
    Unreachable {
        /// What was tried.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A step of the schema did not get the tables that it changes.
    #[error(
        "a step of the schema was kept out for the limit of {} s; its tables are held {holders}",
        .limit.as_secs_f64()
    )]
    MigrationBlocked {
        /// How long it waited.
        limit: Duration,
        /// By whom, in words.
        holders: String,
    },
    /// The database refused or broke.
    #[error("the store failed while it {doing}")]
    Backend {
        /// What the store was doing.
        doing: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// SCREAMING_SNAKE_CASE; each has a page in `docs/errors/`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NOT_FOUND",
            Self::Pruned { .. } => "PRUNED",
            Self::Exists { .. } => "ALREADY_EXISTS",
            Self::NoActiveVersion { .. } => "NO_ACTIVE_VERSION",
            Self::NotImported { .. } => "VERSION_NOT_IMPORTED",
            Self::BuildRunning { .. } => "BUILD_RUNNING",
            Self::BaseChanged { .. } => "BUILD_RACED",
            Self::StateConflict { .. } => "STATE_CONFLICT",
            Self::OldEngineMayRun { .. } => "OLD_ENGINE_MAY_RUN",
            Self::Unconfirmed { .. } => "UNCONFIRMED_RESOURCES",
            Self::Deleted { .. } => "WORKSPACE_DELETED",
            Self::WrongStatus { .. } => "WRONG_JOB_STATUS",
            Self::OfferGone { .. } => "OFFER_GONE",
            Self::DaemonNameTaken { .. } => "DAEMON_NAME_TAKEN",
            Self::StateMismatch { .. } => "STATE_MISMATCH",
            Self::BlobMissing { .. } => "BLOB_MISSING",
            Self::Allowance(_) => "BLOB_ALLOWANCE",
            Self::Invalid { .. } => "INVALID_REQUEST",
            Self::NotWaiting { .. } => "STATE_NOT_WAITING",
            Self::Closed => "STORE_CLOSED",
            Self::Unreachable { .. } => "STORE_UNREACHABLE",
            Self::MigrationBlocked { .. } => "MIGRATION_BLOCKED",
            Self::Backend { .. } => "STORE_FAILED",
        }
    }

    /// Whose matter it is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Closed
            | Self::Unreachable { .. }
            | Self::MigrationBlocked { .. }
            | Self::Backend { .. } => ErrorClass::Internal,
            Self::Allowance(_) => ErrorClass::Capacity,
            Self::NotFound { .. }
            | Self::Pruned { .. }
            | Self::Exists { .. }
            | Self::NoActiveVersion { .. }
            | Self::NotImported { .. }
            | Self::BuildRunning { .. }
            | Self::BaseChanged { .. }
            | Self::StateConflict { .. }
            | Self::OldEngineMayRun { .. }
            | Self::Unconfirmed { .. }
            | Self::Deleted { .. }
            | Self::WrongStatus { .. }
            | Self::OfferGone { .. }
            | Self::DaemonNameTaken { .. }
            | Self::StateMismatch { .. }
            | Self::BlobMissing { .. }
            | Self::Invalid { .. }
            | Self::NotWaiting { .. } => ErrorClass::User,
        }
    }

    /// What to do next; empty when the message says it all.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoActiveVersion { template } => {
                format!("push one with `provisionerd templates push {template}`")
            }
            Self::NotImported { template, .. } => {
                format!("see `provisionerd templates versions {template}`")
            }
            Self::BuildRunning { job, .. } => {
                format!("wait with `provisionerd jobs wait {job}` or cancel it")
            }
            Self::BaseChanged { .. } => "try again".to_owned(),
            Self::StateConflict { workspace } => format!(
                "see `provisionerd state history {workspace}`, then `state adopt` or `state discard`"
            ),
            Self::OldEngineMayRun { job, .. } => format!(
                "wait until then, or if its machine is surely off: `provisionerd jobs abandon {job} --force`"
            ),
            Self::Unconfirmed { workspace, .. } => format!(
                "see `provisionerd workspaces show {workspace}`; import or remove them, then `workspaces forget`, or delete with `--forget`"
            ),
            Self::DaemonNameTaken { .. } => "give one of the two another `--name`".to_owned(),
            Self::StateMismatch { .. } => "push with `--force` to replace it knowingly".to_owned(),
            Self::Allowance(_) => {
                "`provisionerd jobs unclaimed` lists the endings, `jobs discard N` makes room; \
                 what none of them names is swept within a day. A daemon keeps what is refused \
                 and sends it again"
                    .to_owned()
            }
            Self::Closed | Self::Backend { .. } => "see the queue's log".to_owned(),
            Self::Unreachable { .. } => "try again in a moment".to_owned(),
            Self::MigrationBlocked { .. } => {
                "start it again once they have ended; `SELECT pg_terminate_backend(N)` ends \
                 session N, which loses what it has not committed"
                    .to_owned()
            }
            Self::NotFound { what, .. } => where_to_look(what).to_owned(),
            Self::Pruned { .. } => {
                "`serve --keep-logs` and `--keep-jobs` say how long; a backup may have it"
                    .to_owned()
            }
            Self::Exists { what, .. } => {
                let those = where_to_look(what);
                format!("choose another name, or use that one; {those}")
            }
            Self::Deleted { .. } => "`provisionerd workspaces create` makes another one".to_owned(),
            Self::WrongStatus { job, .. } => format!("see `provisionerd jobs show {job}`"),
            Self::NotWaiting { .. } => {
                "`provisionerd state history NAME` shows which states wait".to_owned()
            }
            Self::OfferGone { .. } | Self::BlobMissing { .. } | Self::Invalid { .. } => {
                String::new()
            }
        }
    }
}

/// The command that lists what there is.
fn where_to_look(what: &str) -> &'static str {
    match what {
        "template" => "`provisionerd templates list` shows those that exist",
        "template version" => "`provisionerd templates versions NAME` shows those that exist",
        "unconfirmed resource" => "`provisionerd workspaces show NAME` names those in doubt",
        "unclaimed ending" => "`provisionerd jobs unclaimed` shows those that exist",
        "workspace" => "`provisionerd workspaces list` shows those that exist",
        "job" => "`provisionerd jobs list` shows those that exist; old ones go (serve --keep-jobs)",
        "daemon" => "`provisionerd daemons list` shows those that exist",
        "provisioner key" => "`provisionerd keys list` shows those that exist",
        "token" => "`provisionerd tokens list` shows those that exist",
        "organization" => "`provisionerd organizations list` shows those that exist",
        "state" | "state of workspace" => {
            "`provisionerd state history NAME` shows those that exist; old ones go (serve --keep-states)"
        }
        _ => "",
    }
}

impl From<&Error> for JobError {
    fn from(error: &Error) -> Self {
        Self {
            class: error.class().into(),
            code: error.code().to_owned(),
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}
