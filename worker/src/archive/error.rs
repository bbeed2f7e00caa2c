//! Why an archive was refused.

use proto::v1::JobError;

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a tar file, or a torn or altered one.
    #[error("the template archive is damaged: {reason}")]
    Corrupt {
        /// What does not fit.
        reason: String,
    },
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        Self::user("ARCHIVE_CORRUPT", error.to_string())
    }
}
