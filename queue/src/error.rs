//! Why a queue cannot start or go on, for the person who started it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::listen::tls;
use crate::store::{self, postgres};

/// One line says what is wrong, [`Error::code`] names it, [`Error::hint`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another queue holds the data directory.
    #[error("{path} is used by another queue process")]
    Locked {
        /// The locked directory.
        path: PathBuf,
    },
    /// The data directory cannot be made or written.
    #[error("the data directory {path} is not writable")]
    DataDir {
        /// The directory or file that was refused.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No room left for the store or a blob.
    #[error("no space left on the disk that holds {path}")]
    DiskFull {
        /// The directory or file that could not be written.
        path: PathBuf,
    },
    /// The address belongs to somebody else.
    #[error("address {address} is already in use")]
    AddressInUse {
        /// What was asked for.
        address: std::net::SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Plain HTTP that would leave this machine.
    #[error("plain HTTP on {address}, which is not a loopback address, is refused")]
    Insecure {
        /// What was asked for.
        address: std::net::SocketAddr,
    },
    /// The PEM files do not make a TLS server.
    #[error(transparent)]
    Tls(#[from] tls::Problem),
    /// The database cannot be opened or used.
    #[error("the database {path} cannot be used")]
    Store {
        /// The database file.
        path: PathBuf,
        /// What the store said.
        source: store::Error,
    },
    /// The shared database cannot be used.
    #[error("the PostgreSQL database cannot be used")]
    Database(#[source] postgres::OpenError),
    /// The database's blobs are in another directory.
    #[error("{path} does not hold the blobs of this database")]
    BlobPlace {
        /// The directory that was given.
        path: PathBuf,
    },
    /// A task of the queue panicked.
    #[error("a task of the queue broke")]
    Panicked(#[source] tokio::task::JoinError),
    /// What writes to the database ended by a panic: nothing can be stored any more.
    #[error("the store ended by itself")]
    StoreEnded,
    /// A listener ended although nobody asked it to.
    #[error("the gRPC server ended by itself")]
    Server(#[source] tonic::transport::Error),
}

impl Error {
    /// Trouble with a file or directory of the queue.
    pub(crate) fn data_dir(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::DataDir { path, source },
        }
    }

    /// Trouble with the database.
    pub(crate) fn store(path: PathBuf, source: store::Error) -> Self {
        if crate::refusal::is_disk_full(&source) {
            return Self::DiskFull { path };
        }
        Self::Store { path, source }
    }

    /// A stable name in SCREAMING_SNAKE_CASE; each has a page in `docs/errors/`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "DATA_DIR_IN_USE",
            Self::DataDir { .. } => "DATA_DIR_NOT_WRITABLE",
            Self::DiskFull { .. } => "DISK_FULL",
            Self::AddressInUse { .. } => "ADDRESS_IN_USE",
            Self::Listen { .. } => "LISTEN_FAILED",
            Self::Insecure { .. } => "INSECURE_LISTEN",
            Self::Tls(_) => "TLS_FILES",
            Self::Store { .. } => "STORE_FAILED",
            Self::BlobPlace { .. } => "BLOBS_NOT_SHARED",
            Self::Database(postgres::OpenError::Url(_)) => "DATABASE_URL",
            Self::Database(postgres::OpenError::Store(error)) => match error {
                store::Error::Unreachable { .. } => "STORE_UNREACHABLE",
                store::Error::MigrationBlocked { .. } => error.code(),
                _ => "STORE_FAILED",
            },
            Self::Server(_) | Self::Panicked(_) | Self::StoreEnded => "SERVER_ENDED",
        }
    }

    /// The next step for the person who started the queue.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Locked { .. } => "stop the other process or choose another --data-dir".to_owned(),
            Self::DataDir { path, .. } => format!(
                "make {} writable for this user or choose another --data-dir",
                path.display()
            ),
            Self::DiskFull { .. } => {
                "free some space, or move the data directory to a larger disk".to_owned()
            }
            Self::AddressInUse { address } => format!(
                "stop what listens on port {}, or choose another address (port 0 takes a free one)",
                address.port()
            ),
            Self::Listen { .. } => "choose an address of this machine".to_owned(),
            Self::Insecure { .. } => {
                "give --tls-cert-file and --tls-key-file, listen on 127.0.0.1, or say --insecure"
                    .to_owned()
            }
            Self::Tls(_) => {
                "give PEM files: a certificate chain, its private key, and a CA".to_owned()
            }
            Self::Store { .. } => {
                "see what the database says; a copy from a backup may be needed".to_owned()
            }
            Self::BlobPlace { .. } => {
                "give every replica the same --blob-url file:///DIR, on storage they share"
                    .to_owned()
            }
            Self::Database(postgres::OpenError::Url(error)) => error.hint().to_owned(),
            Self::Database(postgres::OpenError::Store(error)) => match error {
                store::Error::Unreachable { .. } => {
                    "is the server up, and is the URL right? `psql URL` asks the same".to_owned()
                }
                store::Error::MigrationBlocked { .. } => error.hint(),
                _ => "see what the server says".to_owned(),
            },
            Self::Server(_) | Self::Panicked(_) | Self::StoreEnded => {
                "see the log for what came before".to_owned()
            }
        }
    }
}
