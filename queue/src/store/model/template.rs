//! Templates and their versions.

use proto::ids::{Digest, JobId, VersionId};
use proto::v1;

use super::Submission;
use crate::matching::Tags;
use crate::words::Status;

/// A blob by name and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobId {
    /// SHA-256 of the uncompressed bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// Makes a version of a template, and the template if it is new, with its import job.
#[derive(Debug, Clone)]
pub struct PushTemplate {
    /// The template's organization.
    pub organization: String,
    /// The template's name.
    pub template: String,
    /// The archive, already uploaded.
    pub archive: BlobId,
    /// Values for the template's variables, all of them.
    pub variables: Vec<v1::VariableValue>,
    /// `terraform`, `tofu` or empty for the daemon's own.
    pub engine: String,
    /// Whether the version becomes active when its import succeeds.
    pub activate: Activate,
    /// The version's tags, over which each build lays the template's own.
    pub tags: Tags,
    /// The import job.
    pub submission: Submission,
}

/// Whether a version becomes active when its import succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activate {
    /// It does.
    OnSuccess,
    /// It waits for `promote`.
    Never,
}

/// Which version of a template is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionSelector {
    /// The active one.
    Active,
    /// By id.
    Id(VersionId),
    /// By number, counted per template from 1.
    Number(u32),
}

/// Plans a template without making anything.
#[derive(Debug, Clone)]
pub struct PlanTemplate {
    /// The template's organization.
    pub organization: String,
    /// The version; it must be imported.
    pub version: VersionId,
    /// All values, validated.
    pub parameters: Vec<v1::ParameterValue>,
    /// The job.
    pub submission: Submission,
}

/// All that is stored of a version, secrets included; never sent to a client.
#[derive(Debug, Clone)]
pub struct VersionRow {
    /// Its id.
    pub id: VersionId,
    /// Its template's name.
    pub template: String,
    /// Counted per template from 1.
    pub number: u32,
    /// `terraform`, `tofu` or empty.
    pub engine: String,
    /// Tags given at push; workspace tags are laid over them.
    pub tags: Tags,
    /// Values with sensitive ones in clear.
    pub variables: Vec<v1::VariableValue>,
    /// What the import found; `None` until it succeeded.
    pub facts: Option<v1::TemplateFacts>,
    /// Its import job.
    pub import_job: JobId,
    /// Where the import stands.
    pub import_status: Status,
}
