//! Rows of blobs and who may read them.

use proto::ids::{Digest, JobId, LeaseId};
use proto::limits;

use super::codec::{count, digest, signed};
use super::rows::values;
use super::{Snapshot, Tx};
use crate::store::model::{BlobContent, BlobId, LeaseStanding, NewBlob, StoredBlob};
use crate::store::{Error, Result};

/// zstd's fastest useful level: rows are small.
const LEVEL: i32 = 1;

impl Tx<'_> {
    pub(super) fn insert_blob(&self, blob: &NewBlob) -> Result<bool> {
        let content = match &blob.content {
            BlobContent::File => None,
            BlobContent::Inline(bytes) => Some(pack(blob.id, bytes)?),
        };
        let added = self
            .db
            .prepare("INSERT INTO blobs VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")
            .execute(values![
                blob.id.digest.as_bytes(),
                signed(blob.id.size, "blob size")?,
                content,
                self.now
            ])?;
        if added == 0 {
            self.touch_blob(blob.id.digest)?;
        }
        Ok(added == 1)
    }
}

fn pack(id: BlobId, bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.len() > limits::BLOB_INLINE || bytes.len() as u64 != id.size {
        return Err(Error::Invalid {
            what: format!(
                "an inline blob holds its {} bytes and at most {}; this one holds {}",
                id.size,
                limits::BLOB_INLINE,
                bytes.len()
            ),
        });
    }
    zstd::bulk::compress(bytes, LEVEL).map_err(|source| Error::Backend {
        doing: "packed a blob",
        source: Box::new(source),
    })
}

impl Snapshot<'_> {
    pub(super) fn blob(self, wanted: Digest) -> Result<Option<StoredBlob>> {
        let statement = self
            .db
            .prepare("SELECT size, content FROM blobs WHERE digest = ?1");
        let found = statement.first(values![wanted.as_bytes()], |row| {
            Ok((row.get::<i64>(0)?, row.get::<Option<Vec<u8>>>(1)?))
        })?;
        let Some((size, packed)) = found else {
            return Ok(None);
        };
        let content = match packed {
            None => BlobContent::File,
            Some(packed) => BlobContent::Inline(
                zstd::bulk::decompress(&packed, limits::BLOB_INLINE).map_err(|source| {
                    Error::Backend {
                        doing: "unpacked a blob",
                        source: Box::new(source),
                    }
                })?,
            ),
        };
        Ok(Some(StoredBlob {
            id: BlobId {
                digest: wanted,
                size: count(size),
            },
            content,
        }))
    }

    /// Refuses a name that stands for no stored bytes, or for a different number.
    pub(super) fn blob_exists(self, blob: BlobId) -> Result<()> {
        let statement = self
            .db
            .prepare("SELECT 1 FROM blobs WHERE digest = ?1 AND size = ?2");
        let size = signed(blob.size, "blob size")?;
        if statement.exists(values![blob.digest.as_bytes(), size])? {
            return Ok(());
        }
        Err(Error::BlobMissing {
            digest: blob.digest.to_string(),
        })
    }

    pub(super) fn lease_standing(self, job: JobId, lease: LeaseId) -> Result<LeaseStanding> {
        let statement = self.db.prepare(
            "SELECT jobs.lease = ?2 AND jobs.state IN ('offered', 'running', 'canceling')
             FROM attempts JOIN jobs ON jobs.row = attempts.job
             WHERE jobs.id = ?1 AND attempts.lease = ?2",
        );
        let found = statement.first(values![job.to_string(), lease.as_bytes()], |row| {
            row.get::<Option<bool>>(0)
        })?;
        Ok(match found {
            None => LeaseStanding::Unknown,
            Some(Some(true)) => LeaseStanding::Live,
            Some(Some(false) | None) => LeaseStanding::Past,
        })
    }

    /// The archive and the states of the job, for its own lease.
    pub(super) fn readable_blobs(self, job: JobId, lease: LeaseId) -> Result<Vec<Digest>> {
        if self.lease_standing(job, lease)? != LeaseStanding::Live {
            return Ok(Vec::new());
        }
        let statement = self.db.prepare(
            "SELECT archive FROM template_versions JOIN jobs ON jobs.version = template_versions.id
                 WHERE jobs.id = ?1
             UNION SELECT digest FROM states JOIN builds ON builds.state_in = states.id
                 JOIN jobs ON jobs.row = builds.job WHERE jobs.id = ?1
             UNION SELECT digest FROM states JOIN jobs ON jobs.row = states.job WHERE jobs.id = ?1",
        );
        statement.all(values![job.to_string()], |row| digest(row, 0))
    }
}
