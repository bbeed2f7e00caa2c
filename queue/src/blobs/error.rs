//! What can be wrong with a blob, and what its sender or reader is told.

use std::io::ErrorKind;

use std::time::Duration;

use proto::ids::Digest;
use proto::limits;

use crate::refusal::Refusal;

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More bytes than the largest blob.
    #[error("a blob of {size} bytes exceeds the limit of {} bytes", limits::BLOB)]
    TooLarge {
        /// Announced size.
        size: u64,
    },
    /// The bytes are not those that were announced.
    #[error("the bytes do not match: {what}")]
    Mismatch {
        /// Size or digest, announced and found.
        what: String,
    },
    /// The sender gave up.
    #[error("the transfer broke off after {received} of {size} bytes")]
    BrokenOff {
        /// What came.
        received: u64,
        /// What was announced.
        size: u64,
    },
    /// Its peer moved too little for too long.
    #[error(
        "the transfer moved less than {} bytes in {} s, which is the limit",
        limits::TRANSFER_PACE,
        stall.as_secs_f32()
    )]
    Stalled {
        /// In which time.
        stall: Duration,
    },
    /// One key has begun too many blobs by parts and finished none of them.
    #[error(
        "this key has begun {} blobs or {} bytes by parts that are not whole, which is the limit",
        limits::PARTIAL_BLOBS,
        limits::PARTIAL_BYTES
    )]
    TooManyPartial,
    /// No room left.
    #[error("no space left on the queue's disk")]
    DiskFull,
    /// Disk trouble.
    #[error("cannot {doing} a blob file")]
    Io {
        /// `read`, `write`, `use` or `sweep`.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody has put it.
    #[error("blob {0} is not stored")]
    Missing(Digest),
    /// Resuming beyond the end.
    #[error("offset {offset} is beyond the {size} bytes of the blob")]
    Offset {
        /// What was asked for.
        offset: u64,
        /// What there is.
        size: u64,
    },
    /// The store refused.
    #[error("the store did not take or give the blob")]
    Store(#[source] crate::store::Error),
}

impl Error {
    pub(super) fn io(doing: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { doing, source },
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::TooLarge { .. } => Self::invalid("BLOB_TOO_LARGE", message),
            Error::Mismatch { .. } => Self::invalid("BLOB_MISMATCH", message)
                .hint("the transfer was damaged, or the file changed meanwhile; send it again"),
            Error::BrokenOff { .. } => Self::invalid("BLOB_BROKEN_OFF", message),
            Error::Stalled { .. } => Self::capacity("BLOB_STALLED", message)
                .hint("the path to the queue is too slow or broken; send or fetch it again"),
            Error::TooManyPartial => Self::capacity("BLOB_PARTS", message)
                .hint("what nobody adds to is forgotten within two hours"),
            Error::DiskFull => Self::capacity("DISK_FULL", message)
                .hint("free some space on the machine that runs the queue"),
            Error::Io { .. } => {
                tracing::error!(error = %crate::refusal::chain(&error), "a blob file failed");
                Self::internal("BLOB_FILE", message).hint("see the queue's log")
            }
            Error::Missing(digest) => Self::not_found("blob", &digest.to_string()),
            Error::Offset { .. } => Self::invalid("BLOB_OFFSET", message),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}
