//! Rows of blobs that nothing names any more: found by a reader, deleted by the writer,
//! which looks again, so that a hand in the middle of naming one is never too late.

use std::collections::HashSet;
use std::time::Duration;

use proto::ids::Digest;

use super::codec::digest;
use super::rows::values;
use super::{Snapshot, Tx};
use crate::lease::millis;
use crate::store::Result;

/// What names a blob: a template version its archive, a state its bytes (finished,
/// pushed, late and checkpoints alike). Jobs name theirs through these two.
const UNNAMED: &str = "NOT EXISTS (SELECT 1 FROM states WHERE states.digest = blobs.digest) \
     AND NOT EXISTS (SELECT 1 FROM template_versions v WHERE v.archive = blobs.digest)";

/// Rows that one transaction deletes: others wait for the writer only briefly.
pub(super) const BATCH: u32 = 200;

impl Snapshot<'_> {
    /// Blobs older than `age` that nothing names.
    pub(super) fn stale_blobs(self, age: Duration) -> Result<Vec<Digest>> {
        let kept = self.reported_blobs()?;
        let sql = format!("SELECT digest FROM blobs WHERE created_at < ?1 AND {UNNAMED}");
        let statement = self.db.prepare(&sql);
        let mut stale = statement.all(values![self.now - millis(age)], |row| digest(row, 0))?;
        stale.retain(|blob| !kept.contains(blob));
        Ok(stale)
    }

    /// States of finishes that were put aside whole. Nothing claims those but a person,
    /// so their blobs stay as long as they do.
    fn reported_blobs(self) -> Result<HashSet<Digest>> {
        let mut blobs = HashSet::new();
        self.each_report(|report| {
            let blob = report.state.and_then(|state| state.blob);
            blobs.extend(blob.and_then(|blob| Digest::try_from(blob.sha256.as_slice()).ok()));
        })?;
        Ok(blobs)
    }
}

impl Tx<'_> {
    /// Deletes those that are still old and unnamed; how many.
    pub(super) fn forget_blobs(&self, blobs: &[Digest], age: Duration) -> Result<u64> {
        let sql = format!("DELETE FROM blobs WHERE digest = ?1 AND created_at < ?2 AND {UNNAMED}");
        let statement = self.db.prepare(&sql);
        let before = self.now - millis(age);
        let mut forgotten = 0;
        for blob in blobs {
            forgotten += statement.execute(values![blob.as_bytes(), before])? as u64;
        }
        Ok(forgotten)
    }

    /// Forgets who put what is that old; how many, at most [`BATCH`].
    pub(super) fn forget_claims(&self, age: Duration) -> Result<u64> {
        let statement = self.db.prepare(
            "DELETE FROM blob_claims WHERE (digest, organization, holder) IN
                 (SELECT digest, organization, holder FROM blob_claims
                  WHERE put_at < ?1 ORDER BY put_at LIMIT ?2)",
        );
        statement.execute(values![self.now - millis(age), BATCH])
    }

    /// Makes a blob young again; whether there is one.
    pub(super) fn touch_blob(&self, blob: Digest) -> Result<bool> {
        let touched = self
            .db
            .prepare("UPDATE blobs SET created_at = ?2 WHERE digest = ?1")
            .execute(values![blob.as_bytes(), self.now])?;
        Ok(touched == 1)
    }
}
