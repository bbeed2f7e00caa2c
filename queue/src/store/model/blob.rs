//! Rows of blobs. Bytes beyond `limits::BLOB_INLINE` are files, made and fsynced
//! before their row is inserted; the store never touches those files.

use super::BlobId;

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
}

/// A known blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name and size.
    pub id: BlobId,
    /// Its bytes.
    pub content: BlobContent,
}

/// What a lease is to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseStanding {
    /// It is the job's own.
    Live,
    /// It was the job's; a late finish may still bring a state.
    Past,
    /// The queue has never given it.
    Unknown,
}
