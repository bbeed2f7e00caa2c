//! Rows of blobs: who may name them and who may read them.

use proto::ids::{Digest, JobId, LeaseId};
use proto::limits;

use super::codec::{count, digest, signed};
use super::rows::values;
use super::{Snapshot, Tx};
use crate::allowance::{self, Used};
use crate::store::model::{
    BlobContent, BlobId, DaemonRef, Holder, LeaseStanding, NewBlob, StoredBlob,
};
use crate::store::{Error, Result};

/// zstd's fastest useful level: rows are small.
const LEVEL: i32 = 1;

impl Tx<'_> {
    pub(super) fn insert_blob(&self, blob: &NewBlob, holder: &Holder) -> Result<bool> {
        let content = match &blob.content {
            BlobContent::File => None,
            BlobContent::Inline(bytes) => Some(pack(blob.id, bytes)?),
        };
        let held = self.holds(blob.id, holder)?;
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
        self.claim(blob.id, holder)?;
        Ok(!held)
    }

    /// Makes blob and claim young again; whether the blob is still there.
    pub(super) fn hold(&self, blob: BlobId, holder: &Holder) -> Result<bool> {
        let there = self.touch_blob(blob.digest)?;
        if there {
            self.claim(blob, holder)?;
        }
        Ok(there)
    }

    fn claim(&self, blob: BlobId, holder: &Holder) -> Result<()> {
        let unknown_of = match holder {
            Holder::Lease { daemon, job, lease }
                if self.lease_standing(daemon, *job, *lease)? == LeaseStanding::Unknown =>
            {
                Some(&daemon.key)
            }
            Holder::Lease { .. } | Holder::Client { .. } => None,
        };
        self.db
            .prepare(
                "INSERT INTO blob_claims VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (digest, organization, holder) DO UPDATE SET put_at = excluded.put_at",
            )
            .execute(values![
                blob.digest.as_bytes(),
                holder.organization(),
                holder.mark(),
                unknown_of,
                signed(blob.size, "blob size")?,
                self.now
            ])?;
        Ok(())
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

    /// Whether the bytes are stored and this holder may name them: it has put them, or
    /// its job names them already. Otherwise a lease that is not known must have
    /// allowance for them.
    pub(super) fn holds(self, blob: BlobId, holder: &Holder) -> Result<bool> {
        let size = signed(blob.size, "blob size")?;
        let claimed = self.db.prepare(
            "SELECT 1 FROM blob_claims c JOIN blobs b ON b.digest = c.digest
             WHERE c.digest = ?1 AND c.organization = ?2 AND c.holder = ?3 AND b.size = ?4",
        );
        let digest = blob.digest.as_bytes();
        if claimed.exists(values![digest, holder.organization(), holder.mark(), size])? {
            return Ok(true);
        }
        let Holder::Lease { daemon, job, lease } = holder else {
            return Ok(false);
        };
        if self.lease_standing(daemon, *job, *lease)? == LeaseStanding::Unknown {
            allowance::admit(self.used_by_unknown(daemon)?, blob.size)?;
            return Ok(false);
        }
        let named = self.db.prepare(
            "SELECT 1 FROM states JOIN jobs ON jobs.row = states.job
             WHERE jobs.id = ?1 AND states.digest = ?2 AND states.size = ?3",
        );
        named.exists(values![job.to_string(), digest, size])
    }

    fn used_by_unknown(self, daemon: &DaemonRef) -> Result<Used> {
        let statement = self.db.prepare(
            "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blob_claims
             WHERE organization = ?1 AND unknown_of = ?2",
        );
        statement.one(values![daemon.organization, daemon.key], |row| {
            Ok(Used {
                blobs: count(row.get(0)?),
                bytes: count(row.get(1)?),
            })
        })
    }

    /// Refuses to name what the holder does not hold, in the same words as what is not
    /// stored at all.
    pub(super) fn may_name(self, blob: BlobId, holder: &Holder) -> Result<()> {
        if self.holds(blob, holder)? {
            return Ok(());
        }
        Err(Error::BlobMissing {
            digest: blob.digest.to_string(),
        })
    }

    pub(super) fn lease_standing(
        self,
        daemon: &DaemonRef,
        job: JobId,
        lease: LeaseId,
    ) -> Result<LeaseStanding> {
        let statement = self.db.prepare(
            "SELECT jobs.lease = ?2 AND jobs.state IN ('offered', 'running', 'canceling')
             FROM attempts JOIN jobs ON jobs.row = attempts.job
             WHERE jobs.id = ?1 AND attempts.lease = ?2 AND jobs.organization = ?3
                 AND attempts.daemon = ?4 AND attempts.instance = ?5",
        );
        let (job, lease) = (job.to_string(), lease.as_bytes());
        let found = statement.first(
            values![
                job,
                lease,
                daemon.organization,
                daemon.name,
                daemon.instance
            ],
            |row| row.get::<Option<bool>>(0),
        )?;
        Ok(match found {
            None => LeaseStanding::Unknown,
            Some(Some(true)) => LeaseStanding::Live,
            Some(Some(false) | None) => LeaseStanding::Past,
        })
    }

    /// The archive and the states of the job, for its own lease.
    pub(super) fn readable_blobs(
        self,
        daemon: &DaemonRef,
        job: JobId,
        lease: LeaseId,
    ) -> Result<Vec<Digest>> {
        if self.lease_standing(daemon, job, lease)? != LeaseStanding::Live {
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
