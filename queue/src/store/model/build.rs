//! Workspaces and their builds.

use std::collections::HashMap;
use std::time::Duration;

use proto::ids::{JobId, VersionId, WorkspaceId};
use proto::v1;

use super::{Place, VersionRow};
use crate::matching::Tags;
use crate::words::{Priority, Transition};

/// What every submitted job has.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Whose job it is: fairness goes by it. Made known when it is new.
    pub owner: String,
    /// Who waits for it.
    pub priority: Priority,
    /// Final tags: version tags with evaluated workspace tags over them, normalised.
    pub tags: Tags,
    /// W3C trace context.
    pub trace_context: HashMap<String, String>,
    /// How long it may wait and run.
    pub deadlines: Deadlines,
}

/// How long a job may wait and run; without one, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadlines {
    /// From the submit until a daemon has begun it.
    pub queue: Option<Duration>,
    /// Of each of its attempts.
    pub run: Option<Duration>,
}

/// A workspace as users name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceName {
    /// Its organization.
    pub organization: String,
    /// Its owner's name.
    pub owner: String,
    /// Unique among the owner's workspaces that are not deleted.
    pub name: String,
}

/// Makes a workspace and its first build.
#[derive(Debug, Clone)]
pub struct CreateWorkspace {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// The version to build; it must be imported.
    pub version: VersionId,
    /// All values, validated, ephemeral ones included.
    pub parameters: Vec<v1::ParameterValue>,
    /// The job of the build.
    pub submission: Submission,
}

/// What a next build of a workspace starts from: read, resolve the parameters against
/// it, submit with its `number`; a build in between makes the submit fail
/// (`BUILD_RACED`).
#[derive(Debug, Clone)]
pub struct BuildBase {
    /// The workspace's id.
    pub workspace: WorkspaceId,
    /// Number of its newest build.
    pub number: u32,
    /// The version to build: the workspace's own, or the active one for `update`.
    pub version: VersionRow,
    /// Values of the newest build: what carries over, and what monotonic and immutable
    /// rules compare with.
    pub previous: Vec<v1::ParameterValue>,
}

/// Whether a delete may drop unconfirmed resources from the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forget {
    /// It is refused while there are any.
    Refuse,
    /// They are dropped knowingly.
    Drop,
}

/// Makes the next build of a workspace.
#[derive(Debug, Clone)]
pub struct BuildWorkspace {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// `BuildBase::number`.
    pub base: u32,
    /// What the build does.
    pub transition: Transition,
    /// The version to build.
    pub version: VersionId,
    /// All values, validated.
    pub parameters: Vec<v1::ParameterValue>,
    /// For deletes.
    pub forget: Forget,
    /// The job of the build.
    pub submission: Submission,
}

/// A stored job with what it belongs to.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The job's id.
    pub id: JobId,
    /// The job as clients see it.
    pub job: v1::JobView,
    /// For workspace builds.
    pub workspace: Option<v1::Workspace>,
    /// For workspace builds.
    pub build: Option<v1::Build>,
    /// Where it stands in line.
    pub place: Option<Place>,
}
