//! Why a queue could not be carried.

use std::path::PathBuf;

use proto::ids::Digest;

use crate::store::{self, postgres};

/// One line says what is wrong, [`Error::code`] names it, [`Error::hint`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or database cannot be opened.
    #[error(transparent)]
    Open(crate::Error),
    /// Nothing to carry.
    #[error("there is no queue in {path}")]
    NoQueue {
        /// The data directory.
        path: PathBuf,
    },
    /// Something to lose.
    #[error("{what} holds a queue already")]
    NotEmpty {
        /// The directory or database.
        what: String,
    },
    /// Not a backup, or not a whole one.
    #[error("this is not a whole backup: {what}")]
    Archive {
        /// What is wrong with it.
        what: String,
    },
    /// Tables of another release.
    #[error("release {release} wrote it, and the tables of this release differ: {what}")]
    Release {
        /// Which one wrote it.
        release: String,
        /// The first difference.
        what: String,
    },
    /// A row that a restore would refuse.
    #[error("a row of `{table}` has {bytes} bytes, more than the limit of {limit} of a backup")]
    RowTooLarge {
        /// Its table.
        table: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A blob that is not what its name says.
    #[error("the blob {0} is damaged or missing")]
    Blob(Digest),
    /// The database refused or broke.
    #[error("the database failed")]
    Store(#[from] store::Error),
    /// A file or stream.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    pub(super) fn io(doing: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub(super) fn database(error: postgres::OpenError) -> Self {
        Self::Open(crate::Error::Database(error))
    }

    pub(super) fn archive(what: impl Into<String>) -> Self {
        Self::Archive { what: what.into() }
    }

    /// A stable name in SCREAMING_SNAKE_CASE; each has a page in `docs/errors/`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Open(error) => error.code(),
            Self::NoQueue { .. } => "QUEUE_MISSING",
            Self::NotEmpty { .. } => "QUEUE_NOT_EMPTY",
            Self::Archive { .. } => "BACKUP_INVALID",
            Self::Release { .. } => "BACKUP_OTHER_RELEASE",
            Self::RowTooLarge { .. } => "BACKUP_ROW_TOO_LARGE",
            Self::Blob(_) => "BLOB_DAMAGED",
            Self::Store(_) => "STORE_FAILED",
            Self::Io { source, .. } if is_full(source) => "DISK_FULL",
            Self::Io { .. } => "FILE_UNUSABLE",
        }
    }

    /// The next step for the person who asked.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Open(error) => error.hint(),
            Self::NoQueue { .. } => "give the --data-dir of a queue that has run".to_owned(),
            Self::NotEmpty { .. } => {
                "give a new data directory or a new database; nothing is ever overwritten"
                    .to_owned()
            }
            Self::Archive { .. } => {
                "take another backup; what broke off before its end cannot be used".to_owned()
            }
            Self::Release { release, .. } => format!(
                "restore it with release {release}, then start this one, which brings the \
                 tables forward"
            ),
            Self::RowTooLarge { .. } => {
                "back up the database with its own tools and the blobs after it".to_owned()
            }
            Self::Blob(_) => {
                "take another backup, or look for the blob's file in an older one".to_owned()
            }
            Self::Store(_) => "see what the database says".to_owned(),
            Self::Io { source, .. } if is_full(source) => {
                "free some space and try again".to_owned()
            }
            Self::Io { .. } => "check the path, its owner and its mode".to_owned(),
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}
