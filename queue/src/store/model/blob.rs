//! Rows of blobs. Bytes beyond `limits::BLOB_INLINE` are files, made and fsynced
//! before their row is inserted; the store never touches those files.

use proto::ids::{JobId, LeaseId};

use super::{BlobId, DaemonRef};

/// Where a blob's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobContent {
    /// In the row, uncompressed here; at most `limits::BLOB_INLINE`.
    Inline(Vec<u8>),
    /// In a file of the blob directory.
    File,
}

/// A blob to be made known. Inserting it again changes nothing.
#[derive(Debug, Clone)]
pub struct NewBlob {
    /// Its name and size.
    pub id: BlobId,
    /// Its bytes.
    pub content: BlobContent,
    /// The zstd frame that the bytes were unpacked from, if they came so: a row may keep it
    /// as it is.
    pub frame: Option<Vec<u8>>,
}

impl NewBlob {
    /// One that did not come as a frame.
    #[must_use]
    pub fn new(id: BlobId, content: BlobContent) -> Self {
        Self {
            id,
            content,
            frame: None,
        }
    }
}

/// A known blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name and size.
    pub id: BlobId,
    /// Its bytes.
    pub content: BlobContent,
}

/// Who puts a blob, and may name it afterwards. Nobody else may: whoever has a digest
/// only, of an upload that was another's, has nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Whoever carries a token of this owner.
    Client {
        /// Where it acts.
        organization: String,
        /// Whose token it is.
        owner: String,
    },
    /// A daemon, for one of its leases.
    Lease {
        /// The daemon.
        daemon: DaemonRef,
        /// The job.
        job: JobId,
        /// Its right to the job.
        lease: LeaseId,
    },
}

impl Holder {
    /// Where it belongs.
    #[must_use]
    pub fn organization(&self) -> &str {
        match self {
            Self::Client { organization, .. } => organization,
            Self::Lease { daemon, .. } => &daemon.organization,
        }
    }

    /// Which holder of its organization it is, as it stands in SQL. Names have no colon.
    #[must_use]
    pub fn mark(&self) -> String {
        match self {
            Self::Client { owner, .. } => format!("owner:{owner}"),
            Self::Lease { daemon, lease, .. } => {
                let lease = u128::from_be_bytes(*lease.as_bytes());
                format!("lease:{}:{}:{lease:032x}", daemon.name, daemon.instance)
            }
        }
    }
}

/// What a lease is to the queue, when a certain daemon names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseStanding {
    /// It is the job's own, in this daemon's hands.
    Live,
    /// It was the job's, in this daemon's hands; a late finish may still bring a state.
    Past,
    /// The queue has never given it to this daemon, or has forgotten.
    Unknown,
}
