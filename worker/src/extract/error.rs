//! Why a plan or state cannot be told in Coder's terms.

use proto::v1::JobError;

/// Why a plan or state cannot be told in Coder's terms.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON that engines write.
    #[error("the {document} JSON cannot be read")]
    Json {
        /// `plan`, `state` or `modules`.
        document: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        Self::internal("EXTRACT_JSON_INVALID", error.to_string())
    }
}
