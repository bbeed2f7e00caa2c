//! How the queue says no: a gRPC status whose message is one line for a person, with
//! code, class and the next step in its metadata. The one place that writes them.

use std::borrow::Cow;
use std::sync::Arc;

use proto::v1::{ErrorClass, JobError};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::store;
use crate::store::model::Actor;

/// Metadata that carries the stable name of an error.
pub const CODE: &str = "x-error-code";
/// Metadata that carries whose matter it is.
pub const CLASS: &str = "x-error-class";
/// Metadata that carries the next step.
pub const HINT: &str = "x-error-hint";

/// Longest message: clients accept 16 KiB of headers, and percent encoding triples.
const MESSAGE: usize = 4 * 1024;

/// `SQLITE_IOERR_SHMSIZE`: the WAL's index cannot grow, which only a full disk prevents.
const NO_ROOM_FOR_SHM: i32 = 4874;

/// One refusal.
#[derive(Debug, Clone)]
pub struct Refusal {
    status: Code,
    class: ErrorClass,
    code: Cow<'static, str>,
    message: String,
    hint: String,
    who: Option<Box<(String, Actor)>>,
}

impl Refusal {
    /// The request is wrong as it stands.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, ErrorClass::User, code, message)
    }

    /// There is no valid credential.
    pub fn unauthenticated(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, ErrorClass::User, code, message)
    }

    /// The credential does not allow it.
    pub fn not_allowed(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, ErrorClass::User, code, message)
    }

    /// There is no such thing, or it is not this caller's.
    pub fn not_found(what: &'static str, name: &str) -> Self {
        let message = format!("there is no {what} `{}`", shown(name));
        Self::new(Code::NotFound, ErrorClass::User, "NOT_FOUND", message)
    }

    /// Room is used up.
    pub fn capacity(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, ErrorClass::Capacity, code, message)
    }

    /// Our own failure.
    pub fn internal(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::Internal, ErrorClass::Internal, code, message)
    }

    /// This queue goes away; another try reaches the next one.
    pub fn restarting() -> Self {
        Self::new(
            Code::Unavailable,
            ErrorClass::Internal,
            "QUEUE_RESTARTING",
            "the queue is shutting down",
        )
        .hint("try again in a moment")
    }

    /// The gRPC status that it becomes.
    #[must_use]
    pub fn status(&self) -> Code {
        self.status
    }

    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Whom it was said to, where nobody else knows: their organization and themselves.
    #[must_use]
    pub fn to(mut self, organization: String, who: Actor) -> Self {
        self.who = Some(Box::new((organization, who)));
        self
    }

    /// See [`Refusal::to`].
    #[must_use]
    pub fn who(&self) -> Option<&(String, Actor)> {
        self.who.as_deref()
    }

    /// What the caller should do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    fn new(
        status: Code,
        class: ErrorClass,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            class,
            code: code.into(),
            message: message.into(),
            hint: String::new(),
            who: None,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let class = match refusal.class {
            ErrorClass::Unspecified | ErrorClass::Internal => "internal",
            ErrorClass::User => "user",
            ErrorClass::Provider => "provider",
            ErrorClass::Capacity => "capacity",
        };
        let mut metadata = MetadataMap::new();
        metadata.insert(CODE, ascii(&refusal.code));
        metadata.insert(CLASS, ascii(class));
        if !refusal.hint.is_empty() {
            metadata.insert(HINT, ascii(&refusal.hint));
        }
        Status::with_metadata(refusal.status, cut(refusal.message), metadata)
    }
}

impl From<JobError> for Refusal {
    /// What a job would fail with, said before there is one.
    fn from(error: JobError) -> Self {
        let (class, hint) = (error.class(), error.hint);
        Self::new(Code::InvalidArgument, class, error.code, error.message).hint(hint)
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        if let store::Error::Unreachable { .. } = &error {
            tracing::warn!(error = %chain(&error), "the database cannot be reached");
        }
        if matches!(error, store::Error::Backend { .. }) {
            if is_disk_full(&error) {
                return Self::capacity("DISK_FULL", "no space left on the queue's disk")
                    .hint("free some space on the machine that runs the queue");
            }
            tracing::error!(error = %chain(&error), "the store failed");
        }
        let mut refusal = Self::new(
            status_of(&error),
            error.class(),
            error.code(),
            error.to_string(),
        );
        refusal.hint = error.hint();
        refusal
    }
}

impl From<store::Error> for Status {
    fn from(error: store::Error) -> Self {
        Refusal::from(error).into()
    }
}

fn status_of(error: &store::Error) -> Code {
    use store::Error;
    match error {
        Error::NotFound { .. } | Error::Pruned { .. } => Code::NotFound,
        Error::Exists { .. } => Code::AlreadyExists,
        Error::Invalid { .. } => Code::InvalidArgument,
        Error::NoActiveVersion { .. }
        | Error::NotImported { .. }
        | Error::BuildRunning { .. }
        | Error::StateConflict { .. }
        | Error::OldEngineMayRun { .. }
        | Error::Unconfirmed { .. }
        | Error::Deleted { .. }
        | Error::WrongStatus { .. }
        | Error::OfferGone { .. }
        | Error::DaemonNameTaken { .. }
        | Error::StateMismatch { .. }
        | Error::BlobMissing { .. }
        | Error::NotWaiting { .. } => Code::FailedPrecondition,
        Error::Allowance(_) => Code::ResourceExhausted,
        Error::BaseChanged { .. } => Code::Aborted,
        Error::Closed | Error::Unreachable { .. } | Error::MigrationBlocked { .. } => {
            Code::Unavailable
        }
        Error::Backend { .. } => Code::Internal,
    }
}

/// Whether SQLite or the system said that there is no room.
pub fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // A commit that fails fails for all who share it.
        let shared = error.downcast_ref::<Arc<rusqlite::Error>>();
        let sqlite = error.downcast_ref().or(shared.map(|shared| &**shared));
        if sqlite.is_some_and(says_full) {
            return true;
        }
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
            return true;
        }
        next = error.source();
    }
    false
}

fn says_full(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    let extended = error.sqlite_error().map(|error| error.extended_code);
    code == Some(rusqlite::ErrorCode::DiskFull) || extended == Some(NO_ROOM_FOR_SHM)
}

/// An error with all its causes, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        next = cause.source();
    }
    out
}

/// Foreign text, short and plain enough for a message.
pub fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().count() > SHOWN {
        out.push('…');
    }
    out
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE {
        let end = message.floor_char_boundary(MESSAGE);
        message.truncate(end);
        message.push_str(" …");
    }
    message
}

/// Header values are printable ASCII; other characters become `?`.
fn ascii(text: &str) -> MetadataValue<Ascii> {
    let plain: String = text
        .chars()
        .take(1024)
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect();
    plain
        .parse()
        .expect("invariant: printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_code_class_and_hint() {
        let status = Status::from(Refusal::invalid("BAD_NAME", "no").hint("use a…z"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let get = |key| status.metadata().get(key).and_then(|v| v.to_str().ok());
        assert_eq!(get(CODE), Some("BAD_NAME"));
        assert_eq!(get(CLASS), Some("user"));
        assert_eq!(get(HINT), Some("use a?z"));
    }

    #[test]
    fn a_message_never_outgrows_the_headers() {
        let status = Status::from(Refusal::invalid("X", "ä".repeat(MESSAGE)));
        assert!(status.message().len() <= MESSAGE + 4);
    }

    #[test]
    fn a_full_disk_is_named_as_such() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = store::Error::Backend {
            doing: "wrote",
            source: Box::new(full),
        };
        let status = Status::from(error);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("no space left"));
    }
}
