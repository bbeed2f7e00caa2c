//! How a command ends when it does not succeed: one error with a code, a cause and a
//! next step, and the exit code that scripts look at.

use std::fmt;

/// What a process reports to its shell. The numbers are a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// The job or the request failed.
    Failed,
    /// Wrong usage.
    Usage,
    /// The queue cannot be reached.
    Unreachable,
    /// The credential does not allow it.
    NotAllowed,
    /// Stopped waiting on ^C; the shell's own number for it.
    Interrupted,
}

impl Exit {
    /// The number itself.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotAllowed => 4,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the shell sees.
    pub exit: Exit,
    /// `SCREAMING_SNAKE_CASE`, stable.
    pub code: String,
    /// `user`, `provider`, `capacity` or `internal`.
    pub class: String,
    /// One line: what went wrong.
    pub message: String,
    /// One line: what to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// The request or the input is wrong.
    #[must_use]
    pub fn user(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, "user", message.into())
    }

    /// The command line itself is wrong.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "USAGE", "user", message.into())
    }

    /// The machine lacks something: space, a port, a permission.
    #[must_use]
    pub fn capacity(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, "capacity", message.into())
    }

    /// Something of ours does not work.
    #[must_use]
    pub fn internal(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, "internal", message.into())
    }

    /// No answer from the queue.
    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(
            Exit::Unreachable,
            "QUEUE_UNREACHABLE",
            "internal",
            message.into(),
        )
    }

    /// What the reader should do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A file or directory could not be used; the cause decides code and hint.
    #[must_use]
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let message = format!("cannot {doing} {}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Self::user("PERMISSION_DENIED", message)
                    .hint("check the owner and the mode, or choose another path")
            }
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::capacity("DISK_FULL", message).hint("free some space and try again")
            }
            std::io::ErrorKind::NotFound => Self::user("FILE_NOT_FOUND", message)
                .hint("check the path; a relative one counts from the current directory"),
            _ => Self::user("FILE_UNUSABLE", message)
                .hint("check what the path leads to, and the disk that holds it"),
        }
    }

    fn new(exit: Exit, code: &str, class: &str, message: String) -> Self {
        Self {
            exit,
            code: code.to_owned(),
            class: class.to_owned(),
            message,
            hint: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::NotAllowed,
            Exit::Interrupted,
        ];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 130]);
    }

    #[test]
    fn a_file_that_cannot_be_used_comes_with_a_next_step() {
        use std::io::ErrorKind;
        let path = std::path::Path::new("/data");
        for kind in [
            ErrorKind::NotFound,
            ErrorKind::PermissionDenied,
            ErrorKind::StorageFull,
            ErrorKind::IsADirectory,
        ] {
            let failure = Failure::file("read", path, &std::io::Error::from(kind));
            assert!(failure.hint.is_some(), "{failure}");
        }
    }

    #[test]
    fn a_full_disk_and_a_closed_directory_are_told_apart() {
        let path = std::path::Path::new("/data");
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Failure::file("write", path, &full).code, "DISK_FULL");
        let closed = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(
            Failure::file("write", path, &closed).code,
            "PERMISSION_DENIED"
        );
    }
}
