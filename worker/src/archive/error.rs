//! Why an archive was refused. Names stand quoted with their control characters
//! escaped, because they come from the archive.

use std::io;

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
    /// A known format that is not read.
    #[error("the template archive is {format}; plain, gzip and zstd compressed tar are read")]
    Format {
        /// With its article.
        format: &'static str,
    },
    /// One file exceeds the limit for a file.
    #[error("archive entry {name} has {size} bytes; the limit for one file is {limit}")]
    EntryTooLarge {
        /// Quoted.
        name: String,
        /// As its header declares.
        size: u64,
        /// In bytes.
        limit: u64,
    },
    /// Too many files and directories, the unlisted parents of files included.
    #[error("the template archive has more than {limit} files and directories")]
    TooManyEntries {
        /// How many are allowed.
        limit: u64,
    },
    /// The whole archive exceeds a limit.
    #[error("the template archive has more than {limit} bytes {what}")]
    TooLarge {
        /// `packed` or `unpacked`.
        what: &'static str,
        /// In bytes.
        limit: u64,
    },
    /// It grows like a bomb.
    #[error(
        "the template archive unpacks to more than {ratio} times its size; \
         that is a decompression bomb, not a template"
    )]
    TooCompressible {
        /// Unpacked bytes allowed for each packed byte, beyond the first MiB.
        ratio: u64,
    },
    /// Absolute, or with a `..`.
    #[error("archive entry {name} leaves the template directory")]
    PathEscapes {
        /// Quoted.
        name: String,
    },
    /// A symbolic or hard link.
    #[error("archive entry {name} is a {kind}; only files and directories are taken")]
    Link {
        /// Quoted.
        name: String,
        /// `symbolic link` or `hard link`.
        kind: &'static str,
    },
    /// A device node or a fifo.
    #[error("archive entry {name} is a {kind}; only files and directories are taken")]
    Device {
        /// Quoted.
        name: String,
        /// `character device`, `block device` or `fifo`.
        kind: &'static str,
    },
    /// Sparse, multi-volume and other things that templates never hold.
    #[error("archive entry {name} is of type {kind}; only files and directories are taken")]
    Unsupported {
        /// Quoted.
        name: String,
        /// The type flag or what it is known as.
        kind: String,
    },
    /// Two entries for one path.
    #[error("archive entry {name} stands in the archive twice")]
    Duplicate {
        /// Quoted.
        name: String,
    },
    /// A file where another entry needs a directory, or the reverse.
    #[error("archive entry {name} is both a file and a directory")]
    FileAndDirectory {
        /// Quoted.
        name: String,
    },
    /// Setuid or setgid.
    #[error("archive entry {name} has the setuid or setgid bit")]
    SetUid {
        /// Quoted.
        name: String,
    },
    /// Not UTF-8, with a NUL, too long, or empty.
    #[error("archive entry {name} has an invalid name: {reason}")]
    NameInvalid {
        /// Quoted, shortened.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that would steer the engine away from what the fleet decides.
    #[error("archive entry {name} is not allowed in a template: {reason}")]
    Steering {
        /// Quoted.
        name: String,
        /// What it would do.
        reason: &'static str,
    },
    /// A configuration file too large to be checked.
    #[error("configuration file {name} has more than {limit} bytes")]
    ConfigurationTooLarge {
        /// Quoted.
        name: String,
        /// In bytes.
        limit: u64,
    },
    /// The archive could not be read.
    #[error("cannot read the template archive")]
    Read {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The work directory could not be written.
    #[error("cannot write {name}")]
    Write {
        /// Quoted.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The stable code, as in `docs/errors/`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "ARCHIVE_CORRUPT",
            Self::Format { .. } => "ARCHIVE_FORMAT_UNSUPPORTED",
            Self::EntryTooLarge { .. } => "ARCHIVE_ENTRY_TOO_LARGE",
            Self::TooManyEntries { .. } => "ARCHIVE_TOO_MANY_ENTRIES",
            Self::TooLarge { .. } => "ARCHIVE_TOO_LARGE",
            Self::TooCompressible { .. } => "ARCHIVE_TOO_COMPRESSIBLE",
            Self::PathEscapes { .. } => "ARCHIVE_PATH_ESCAPES",
            Self::Link { .. } => "ARCHIVE_LINK",
            Self::Device { .. } => "ARCHIVE_DEVICE",
            Self::Unsupported { .. } => "ARCHIVE_ENTRY_UNSUPPORTED",
            Self::Duplicate { .. } | Self::FileAndDirectory { .. } => "ARCHIVE_DUPLICATE",
            Self::SetUid { .. } => "ARCHIVE_SETUID",
            Self::NameInvalid { .. } => "ARCHIVE_NAME_INVALID",
            Self::Steering { .. } => "STEERING_FILE",
            Self::ConfigurationTooLarge { .. } => "CONFIGURATION_TOO_LARGE",
            Self::Read { .. } => "ARCHIVE_UNREADABLE",
            Self::Write { .. } => "ARCHIVE_UNPACK_FAILED",
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "pack the template directory again",
            Self::Format { .. } => "pack the template with `tar -czf`",
            Self::EntryTooLarge { .. }
            | Self::TooLarge { .. }
            | Self::TooManyEntries { .. }
            | Self::TooCompressible { .. } => {
                "leave out what the template does not need, or fetch it when the workspace starts"
            }
            Self::Link { .. } => "replace the link by what it points to (`tar --dereference`)",
            Self::SetUid { .. } => "chmod -R u-s,g-s the template directory",
            Self::Steering { .. } => "remove it from the template",
            Self::PathEscapes { .. }
            | Self::Device { .. }
            | Self::Unsupported { .. }
            | Self::Duplicate { .. }
            | Self::FileAndDirectory { .. }
            | Self::NameInvalid { .. }
            | Self::ConfigurationTooLarge { .. } => {
                "pack the template directory again without that entry"
            }
            Self::Read { .. } | Self::Write { .. } => "",
        }
    }
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        let (code, hint) = (error.code(), error.hint());
        let made = match error {
            Error::Read { ref source } | Error::Write { ref source, .. } => {
                let text = format!("{error}: {source}");
                if source.kind() == io::ErrorKind::StorageFull {
                    Self::capacity("DISK_FULL", text)
                } else {
                    Self::internal(code, text)
                }
            }
            other => Self::user(code, other.to_string()),
        };
        made.hint(hint)
    }
}
