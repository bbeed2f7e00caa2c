//! Why a template cannot be analysed.

use std::io;

use proto::v1::JobError;

/// Why a template cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or a file in it cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// Relative to the template.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A workspace tag that cannot be evaluated without an engine. Tags choose where a
    /// job runs, so leaving one out is no choice.
    #[error("{file}:{line}: workspace tag {tag}: {reason}")]
    WorkspaceTag {
        /// Relative to the template.
        file: String,
        /// From 1.
        line: usize,
        /// Key of the tag, or what it is part of.
        tag: String,
        /// What stands in the way.
        reason: String,
    },
    /// One key twice.
    #[error("{file}:{line}: workspace tag {tag} is set twice")]
    WorkspaceTagDuplicate {
        /// Relative to the template.
        file: String,
        /// Of the second one, from 1.
        line: usize,
        /// The key.
        tag: String,
    },
}

impl Error {
    /// The stable code, as in `docs/errors/`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "TEMPLATE_UNREADABLE",
            Self::WorkspaceTag { .. } => "WORKSPACE_TAG_UNSUPPORTED",
            Self::WorkspaceTagDuplicate { .. } => "WORKSPACE_TAG_DUPLICATE",
        }
    }
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        let code = error.code();
        match error {
            Error::Io { ref source, .. } => Self::internal(code, format!("{error}: {source}")),
            Error::WorkspaceTag { .. } => Self::user(code, error.to_string()).hint(
                "tags may hold text, var.NAME and data.coder_parameter.NAME.value, \
                 alone or inside a string",
            ),
            Error::WorkspaceTagDuplicate { .. } => {
                Self::user(code, error.to_string()).hint("keep one of them")
            }
        }
    }
}
