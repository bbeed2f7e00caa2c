//! What an error of PostgreSQL means for the transaction it came from: whether it is
//! worth another try, and whether the server was there at all.

use tokio_postgres::error::SqlState;

use crate::store::Error;

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing: it is the answer.
    Answer,
    /// Try again: another transaction was in the way.
    Again,
    /// Try again on another connection, for as long as the caller waits.
    Lost,
}

/// Two transactions met. Keys that clash or vanish are among these: the second try sees
/// what the other one has made, and refuses in plain words.
const AGAIN: [SqlState; 5] = [
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::UNIQUE_VIOLATION,
    SqlState::FOREIGN_KEY_VIOLATION,
];

/// The server goes, comes, is full, or is a standby that takes no writes.
const LOST: [SqlState; 8] = [
    SqlState::ADMIN_SHUTDOWN,
    SqlState::CRASH_SHUTDOWN,
    SqlState::CANNOT_CONNECT_NOW,
    SqlState::TOO_MANY_CONNECTIONS,
    SqlState::READ_ONLY_SQL_TRANSACTION,
    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    SqlState::CONNECTION_FAILURE,
    SqlState::CONNECTION_EXCEPTION,
];

/// The server did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the server did not answer in time")]
pub(super) struct Silent;

/// A statement failed and the transition went on as if it had not.
#[derive(Debug, thiserror::Error)]
#[error("a statement of the transaction had failed")]
pub(super) struct Broken;

/// A transaction did not begin at once.
#[derive(Debug, thiserror::Error)]
#[error("the process stood still before a transaction could begin")]
pub(super) struct Late;

/// What `error` means.
pub(super) fn of(error: &Error) -> Fate {
    match error {
        Error::Unreachable { .. } => Fate::Lost,
        Error::Backend { source, .. } if source.is::<Late>() => Fate::Again,
        Error::Backend { source, .. } => match source.downcast_ref() {
            Some(error) if says(error, &AGAIN) => Fate::Again,
            Some(_) | None => Fate::Answer,
        },
        Error::NotFound { .. }
        | Error::Pruned { .. }
        | Error::Exists { .. }
        | Error::NoActiveVersion { .. }
        | Error::NotImported { .. }
        | Error::BuildRunning { .. }
        | Error::BaseChanged { .. }
        | Error::StateConflict { .. }
        | Error::OldEngineMayRun { .. }
        | Error::Unconfirmed { .. }
        | Error::Deleted { .. }
        | Error::WrongStatus { .. }
        | Error::OfferGone { .. }
        | Error::DaemonNameTaken { .. }
        | Error::StateMismatch { .. }
        | Error::BlobMissing { .. }
        | Error::Allowance(_)
        | Error::Invalid { .. }
        | Error::NotWaiting { .. }
        | Error::MigrationBlocked { .. }
        | Error::Closed => Fate::Answer,
    }
}

/// Whether others held what a statement waited for, or waited in turn.
pub(super) fn met_a_lock(error: &Error) -> bool {
    let met = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    match error {
        Error::Backend { source, .. } => source.downcast_ref().is_some_and(|it| says(it, &met)),
        _ => false,
    }
}

fn says(error: &tokio_postgres::Error, states: &[SqlState]) -> bool {
    error.code().is_some_and(|code| states.contains(code))
}

impl From<tokio_postgres::Error> for Error {
    fn from(source: tokio_postgres::Error) -> Self {
        if says(&source, &[SqlState::CHARACTER_NOT_IN_REPERTOIRE]) {
            return Self::Invalid {
                what: "text with a NUL character cannot be stored".to_owned(),
            };
        }
        // Without a word of the server it is the connection that broke.
        if source.code().is_none() || says(&source, &LOST) {
            return Self::Unreachable {
                source: Box::new(source),
            };
        }
        Self::Backend {
            doing: "ran a statement of PostgreSQL",
            source: Box::new(source),
        }
    }
}

impl From<Late> for Error {
    fn from(source: Late) -> Self {
        Self::Backend {
            doing: "began a transaction",
            source: Box::new(source),
        }
    }
}

impl From<Broken> for Error {
    fn from(source: Broken) -> Self {
        Self::Backend {
            doing: "committed",
            source: Box::new(source),
        }
    }
}

impl From<Silent> for Error {
    fn from(source: Silent) -> Self {
        Self::Unreachable {
            source: Box::new(source),
        }
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(source: deadpool_postgres::PoolError) -> Self {
        use deadpool_postgres::PoolError;
        match source {
            PoolError::Closed => Self::Closed,
            PoolError::Backend(source) => match Self::from(source) {
                // A password, a database: nothing that another try mends.
                refused @ Self::Backend { .. } => refused,
                other => other,
            },
            source @ (PoolError::Timeout(_)
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_)) => Self::Unreachable {
                source: Box::new(source),
            },
        }
    }
}
