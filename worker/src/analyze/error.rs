//! Why a template cannot be analysed.

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
        source: std::io::Error,
    },
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        Self::internal("TEMPLATE_UNREADABLE", error.to_string())
    }
}
