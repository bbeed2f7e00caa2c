//! Reads a template directory without an engine: variables, workspace tags, README.
//!
//! What it finds are hints; the engine decides what is valid. A file that does not parse
//! is left out with a warning, never an error.

mod error;

pub use error::Error;

use std::path::Path;

use proto::v1::{TemplateVariable, WorkspaceTag};

use crate::extract::LocalHint;

/// What a template's own files say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Analysis {
    /// Variables of the root module, by file and line.
    pub variables: Vec<TemplateVariable>,
    /// All `coder_workspace_tags` data sources of the root module, in order.
    pub workspace_tags: Vec<WorkspaceTag>,
    /// README.md, empty when there is none.
    pub readme: Vec<u8>,
    /// Local values of the root module and, after init, of the modules it calls.
    pub locals: Vec<LocalHint>,
    /// Files that were left out, and why.
    pub warnings: Vec<String>,
}

/// Analyses the root module in `dir`. Run it again after init to know the locals of
/// child modules.
pub fn directory(dir: &Path) -> Result<Analysis, Error> {
    let _ = dir;
    unimplemented!()
}
