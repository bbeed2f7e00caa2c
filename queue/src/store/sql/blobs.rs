//! Rows of blobs: who may name them and who may read them.

use proto::ids::{Digest, JobId, LeaseId};
use proto::{limits, v1};

use super::asked::{First, Read};
use super::codec::{count, digest, message, signed};
use super::rows::{Value, values};
use super::{Snapshot, Tx, pack};
use crate::allowance::{self, Used};
use crate::store::model::{
    BlobContent, BlobId, DaemonRef, Holder, LeaseStanding, NewBlob, StoredBlob,
};
use crate::store::{Error, Result};

/// What stands between a holder and a blob. A lease is the one of an attempt that was
/// given to this daemon; whether it is held yet is not asked.
///
/// Without joins, and with the organization as an expression: a plan that PostgreSQL made
/// while the tables were empty, and keeps until it has statistics, reads all of a table for
/// each row of another, or walks along all jobs of the organization.
const STANDS: &str = "SELECT
     EXISTS (SELECT 1 FROM blob_claims c
         WHERE c.digest = ?1 AND c.organization = ?2 AND c.holder = ?3)
         AND EXISTS (SELECT 1 FROM blobs b WHERE b.digest = ?1 AND b.size = ?4),
     EXISTS (SELECT 1 FROM attempts a
         WHERE a.lease = ?6 AND a.daemon = ?7 AND a.instance = ?8
             AND a.job = (SELECT j.row FROM jobs j WHERE j.id = ?5 AND j.organization || '' = ?2)),
     EXISTS (SELECT 1 FROM states s
         WHERE s.digest = ?1 AND s.size = ?4
             AND s.job = (SELECT j.row FROM jobs j WHERE j.id = ?5))";

/// A blob that a holder names.
pub(super) struct Claim<'a> {
    blob: BlobId,
    holder: &'a Holder,
    mark: String,
    job: Option<String>,
}

/// The answer of [`STANDS`].
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    claimed: bool,
    known: bool,
    named: bool,
}

impl<'a> Claim<'a> {
    pub(super) fn of(blob: BlobId, holder: &'a Holder) -> Self {
        Self {
            blob,
            holder,
            mark: holder.mark(),
            job: match holder {
                Holder::Lease { job, .. } => Some(job.to_string()),
                Holder::Client { .. } => None,
            },
        }
    }

    fn daemon(&self) -> Option<&'a DaemonRef> {
        match self.holder {
            Holder::Lease { daemon, .. } => Some(daemon),
            Holder::Client { .. } => None,
        }
    }

    /// The question what stands between the two.
    pub(super) fn asked(&self) -> Result<First<'_, Found, Read<Found>>> {
        let lease = match self.holder {
            Holder::Lease { lease, .. } => Some(lease.as_bytes().as_slice()),
            Holder::Client { .. } => None,
        };
        let daemon = self.daemon();
        let values = [
            Value::Blob(Some(self.blob.digest.as_bytes())),
            Value::Text(Some(self.holder.organization())),
            Value::Text(Some(&self.mark)),
            Value::Int(Some(signed(self.blob.size, "blob size")?)),
            Value::Text(self.job.as_deref()),
            Value::Blob(lease),
            Value::Text(daemon.map(|daemon| daemon.name.as_str())),
            Value::Text(daemon.map(|daemon| daemon.instance.as_str())),
        ];
        Ok(First::of(STANDS, &values, |row| {
            Ok(Found {
                claimed: row.get(0)?,
                known: row.get(1)?,
                named: row.get(2)?,
            })
        }))
    }

    fn read(&self, found: Option<Found>) -> Stands {
        let found = found.unwrap_or_default();
        let unknown = self.daemon().filter(|_| !found.known);
        Stands {
            claimed: found.claimed,
            unknown_of: unknown.map(|daemon| daemon.key.clone()),
            named: found.named,
        }
    }
}

struct Stands {
    /// The holder has put it.
    claimed: bool,
    /// The key whose allowance it uses, where the queue does not know the lease.
    unknown_of: Option<String>,
    /// The lease's job names it, or the ending that is kept of a lease that is not known,
    /// with which it is counted.
    named: bool,
}

/// The bytes of a blob as its row has them.
pub(super) struct Packed {
    id: BlobId,
    content: Option<Vec<u8>>,
}

impl Packed {
    /// Made before a transaction begins, in which others would wait for it.
    pub(super) fn of(blob: NewBlob) -> Result<Self> {
        let content = match &blob.content {
            BlobContent::File => None,
            BlobContent::Inline(bytes) => {
                fits(blob.id, bytes)?;
                let came = blob.frame;
                match came.filter(|frame| pack::stands(frame, bytes.len())) {
                    Some(frame) => Some(frame),
                    None => Some(pack::packed(bytes)?),
                }
            }
        };
        Ok(Self {
            id: blob.id,
            content,
        })
    }
}

impl Tx<'_> {
    pub(super) fn insert_blob(&self, blob: &Packed, holder: &Holder) -> Result<bool> {
        let stands = self.stands(&Claim::of(blob.id, holder))?;
        let held = self.lets(blob.id, holder, &stands)?;
        self.store_blob(blob)?;
        self.claim(blob.id, holder, &stands)?;
        Ok(!held)
    }

    /// Stores the bytes, or makes them young again, for who may.
    pub(super) fn store_blob(&self, blob: &Packed) -> Result<()> {
        self.db
            .prepare(
                "INSERT INTO blobs VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (digest) DO UPDATE SET created_at = excluded.created_at",
            )
            .run(values![
                blob.id.digest.as_bytes(),
                signed(blob.id.size, "blob size")?,
                blob.content,
                self.now
            ])
    }

    /// Makes blob and claim young again; whether the blob is still there.
    pub(super) fn hold(&self, blob: BlobId, holder: &Holder) -> Result<bool> {
        let there = self.touch_blob(blob.digest)?;
        if there {
            let stands = self.stands(&Claim::of(blob, holder))?;
            self.claim(blob, holder, &stands)?;
        }
        Ok(there)
    }

    fn claim(&self, blob: BlobId, holder: &Holder, stands: &Stands) -> Result<()> {
        if stands.unknown_of.is_some() && stands.named {
            return Ok(());
        }
        self.db
            .prepare(
                "INSERT INTO blob_claims VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (digest, organization, holder) DO UPDATE SET put_at = excluded.put_at",
            )
            .run(values![
                blob.digest.as_bytes(),
                holder.organization(),
                holder.mark(),
                stands.unknown_of,
                signed(blob.size, "blob size")?,
                self.now
            ])
    }
}

fn fits(id: BlobId, bytes: &[u8]) -> Result<()> {
    if bytes.len() <= limits::BLOB_INLINE && bytes.len() as u64 == id.size {
        return Ok(());
    }
    Err(Error::Invalid {
        what: format!(
            "an inline blob holds its {} bytes and at most {}; this one holds {}",
            id.size,
            limits::BLOB_INLINE,
            bytes.len()
        ),
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
            Some(packed) => BlobContent::Inline(pack::unpacked(&packed)?),
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
    pub(in crate::store) fn holds(self, blob: BlobId, holder: &Holder) -> Result<bool> {
        self.lets(blob, holder, &self.stands(&Claim::of(blob, holder))?)
    }

    fn stands(self, claim: &Claim<'_>) -> Result<Stands> {
        let mut stands = claim.asked()?;
        self.db.ask(&mut [&mut stands])?;
        let mut stands = claim.read(stands.found());
        if let (Some(_), Holder::Lease { job, lease, .. }) = (&stands.unknown_of, claim.holder) {
            let organization = claim.holder.organization();
            let kept = self.kept_ending(organization, *job, *lease)?;
            let state = kept.and_then(|kept| kept.state?.blob);
            stands.named = state.is_some_and(|state| state.sha256 == claim.blob.digest.as_bytes());
        }
        Ok(stands)
    }

    /// The ending of a lease that is not known, if it came.
    fn kept_ending(
        self,
        organization: &str,
        job: JobId,
        lease: LeaseId,
    ) -> Result<Option<v1::FinishJobRequest>> {
        let statement = self.db.prepare(
            "SELECT report FROM finishes WHERE job = ?1 AND lease = ?2 AND organization = ?3",
        );
        statement.first(
            values![job.to_string(), lease.as_bytes(), organization],
            |row| message(row, 0),
        )
    }

    fn lets(self, blob: BlobId, holder: &Holder, stands: &Stands) -> Result<bool> {
        if stands.claimed {
            return Ok(true);
        }
        match holder {
            Holder::Client { .. } => Ok(false),
            Holder::Lease { daemon, .. } if stands.unknown_of.is_some() && !stands.named => {
                allowance::admit(self.used_by_unknown(daemon)?, blob.size)?;
                Ok(false)
            }
            Holder::Lease { .. } => Ok(stands.named),
        }
    }

    pub(super) fn used_by_unknown(self, daemon: &DaemonRef) -> Result<Used> {
        let statement = self.db.prepare(
            "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM
                 (SELECT size FROM blob_claims WHERE organization = ?1 AND unknown_of = ?2
                  UNION ALL
                  SELECT size FROM finishes WHERE organization = ?1 AND unknown_of = ?2
                      AND disposition = 'unclaimed') stored",
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
    pub(super) fn lets_name(self, claim: &Claim<'_>, found: Option<Found>) -> Result<()> {
        if self.lets(claim.blob, claim.holder, &claim.read(found))? {
            return Ok(());
        }
        Err(Error::BlobMissing {
            digest: claim.blob.digest.to_string(),
        })
    }

    /// The same, asked for by itself.
    pub(super) fn may_name(self, blob: BlobId, holder: &Holder) -> Result<()> {
        let claim = Claim::of(blob, holder);
        let mut stands = claim.asked()?;
        self.db.ask(&mut [&mut stands])?;
        self.lets_name(&claim, stands.found())
    }

    pub(super) fn lease_standing(
        self,
        daemon: &DaemonRef,
        job: JobId,
        lease: LeaseId,
    ) -> Result<LeaseStanding> {
        let statement = self.db.prepare(
            "SELECT jobs.lease = ?2 AND (jobs.state = 'offered' OR jobs.state = 'running'
                 OR jobs.state = 'canceling')
             FROM attempts JOIN jobs ON jobs.row = attempts.job
             WHERE jobs.id = ?1 AND attempts.lease = ?2 AND jobs.organization || '' = ?3
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
