//! Finishes that no job took: kept whole, for a person to look at.
//!
//! Whoever has a key can send any number of them, so they count in its allowance, each with
//! its state, for as long as they are kept. What was kept once is answered as that.

use prost::Message;
use proto::{limits, v1};

use super::blobs::Packed;
use super::codec::{count, message, signed};
use super::rows::{Row, values};
use super::{Snapshot, Tx};
use crate::allowance;
use crate::store::model::{Disposition, Finish, Holder};
use crate::store::{Error, Result};

/// The word for a finish that another verdict preceded.
const LATE: &str = "late";

/// Of a job or lease that the queue does not know, or whose state waits on a workspace
/// that was deleted. What an older release kept has no organization.
const UNCLAIMED: &str = "SELECT f.row, f.daemon, f.disposition, f.report, f.received_at
     FROM finishes f
     WHERE COALESCE(f.organization, 'default') = ?1 AND (f.disposition = 'unclaimed'
         OR EXISTS (SELECT 1 FROM jobs j JOIN workspaces w ON w.id = j.workspace
             JOIN states s ON s.job = j.row
             WHERE j.id = f.job AND w.deleted_at IS NOT NULL AND s.waiting = 1))";

/// Whose allowance a finish uses, and how many bytes of it.
#[derive(Clone, Copy)]
pub(super) struct Charge<'k> {
    key: &'k str,
    bytes: u64,
}

impl Tx<'_> {
    /// Keeps a finish of a lease that the queue does not know, within the allowance of its
    /// key, unless it is kept already. Whether it may name its state, where it does not
    /// bring it, was asked before.
    pub(super) fn keep_unclaimed(
        &self,
        finish: &Finish,
        brought: Option<&Packed>,
        (holder, may_name): (&Holder, Result<()>),
    ) -> Result<()> {
        let (job, lease) = (finish.job.to_string(), finish.lease.as_bytes());
        let kept = "SELECT 1 FROM finishes WHERE job = ?1 AND lease = ?2";
        if self.db.prepare(kept).exists(values![job, lease])? {
            return Ok(());
        }
        may_name?;
        if let Some(state) = brought {
            self.insert_blob(state, holder)?;
        }
        let bytes = self.charged(finish, holder)?;
        let key = &finish.daemon.key;
        self.keep_aside(finish, Disposition::Unclaimed, Some(Charge { key, bytes }))
    }

    /// What the state took of the allowance it takes as part of the finish from now on,
    /// which stays for longer.
    fn charged(&self, finish: &Finish, holder: &Holder) -> Result<u64> {
        let mut bytes = finish.report.encoded_len() as u64;
        if let Some(state) = &finish.state {
            bytes += state.blob.size;
            self.db
                .prepare(
                    "DELETE FROM blob_claims
                     WHERE digest = ?1 AND organization = ?2 AND holder = ?3",
                )
                .run(values![
                    state.blob.digest.as_bytes(),
                    holder.organization(),
                    holder.mark()
                ])?;
        }
        allowance::admit(self.used_by_unknown(&finish.daemon)?, bytes)?;
        Ok(bytes)
    }

    /// Keeps the whole report for the operator, once. What a stranger said of the lease
    /// gives way to what its holder says.
    pub(super) fn keep_aside(
        &self,
        finish: &Finish,
        disposition: Disposition,
        charge: Option<Charge<'_>>,
    ) -> Result<()> {
        let word = match disposition {
            Disposition::Applied => "applied",
            Disposition::Late => LATE,
            Disposition::Unclaimed => "unclaimed",
        };
        let bytes = charge
            .as_ref()
            .map(|it| signed(it.bytes, "size of a report"));
        self.db
            .prepare(
                "INSERT INTO finishes (job, lease, daemon, disposition, report, received_at,
                     organization, unknown_of, size)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (job, lease) DO UPDATE SET daemon = excluded.daemon,
                     disposition = excluded.disposition, report = excluded.report,
                     received_at = excluded.received_at, organization = excluded.organization,
                     unknown_of = excluded.unknown_of, size = excluded.size
                 WHERE finishes.disposition = 'unclaimed' AND excluded.disposition = 'late'",
            )
            .execute(values![
                finish.job.to_string(),
                finish.lease.as_bytes(),
                finish.daemon.name,
                word,
                finish.report.encode_to_vec(),
                self.now,
                finish.daemon.organization,
                charge.map(|it| it.key),
                bytes.transpose()?
            ])?;
        Ok(())
    }

    /// Forgets an unclaimed finish, for a person; what it was.
    pub(super) fn discard_unclaimed(
        &self,
        organization: &str,
        id: u64,
    ) -> Result<v1::UnclaimedFinish> {
        let found = self.unclaimed_finish(organization, id)?;
        let delete = "DELETE FROM finishes WHERE row = ?1 AND disposition = 'unclaimed'";
        let gone = self.db.prepare(delete).execute(values![row_of(id)])?;
        if gone == 0 {
            return Err(Error::Invalid {
                what: format!(
                    "ending {id} is of a deleted workspace: `state discard` decides about its state"
                ),
            });
        }
        Ok(found)
    }
}

impl Snapshot<'_> {
    /// The newest ones below `before`, as many as one page has; oldest first.
    pub(super) fn unclaimed(
        self,
        organization: &str,
        before: Option<u64>,
    ) -> Result<Vec<v1::UnclaimedFinish>> {
        let sql = format!(
            "SELECT listed.row, LENGTH(listed.report) FROM finishes listed
             WHERE listed.row IN (SELECT row FROM ({UNCLAIMED} AND f.row < ?2) told)
             ORDER BY listed.row DESC LIMIT ?3"
        );
        let before = row_of(before.unwrap_or(u64::MAX));
        let newest = self.db.prepare(&sql).all(
            values![organization, before, limits::UNCLAIMED_LISTED],
            |row| Ok((row.get::<u64>(0)?, row.get::<u64>(1)?)),
        )?;
        let (mut bytes, mut listed) = (0, Vec::new());
        for (id, size) in newest {
            bytes += size;
            if bytes > limits::UNCLAIMED_BYTES && !listed.is_empty() {
                break;
            }
            listed.push(self.unclaimed_finish(organization, id)?);
        }
        listed.reverse();
        Ok(listed)
    }

    pub(super) fn unclaimed_finish(
        self,
        organization: &str,
        id: u64,
    ) -> Result<v1::UnclaimedFinish> {
        let sql = format!("{UNCLAIMED} AND f.row = ?2");
        let statement = self.db.prepare(&sql);
        let found = statement.first(values![organization, row_of(id)], unclaimed)?;
        found.ok_or_else(|| Error::NotFound {
            what: "unclaimed ending",
            name: id.to_string(),
        })
    }

    /// What a finish that came too late said of an attempt.
    pub(super) fn late_report(
        self,
        job: i64,
        attempt: u32,
    ) -> Result<Option<v1::FinishJobRequest>> {
        let statement = self.db.prepare(
            "SELECT f.report FROM attempts a JOIN jobs j ON j.row = a.job
             JOIN finishes f ON f.job = j.id AND f.lease = a.lease
             WHERE a.job = ?1 AND a.attempt = ?2 AND f.disposition = 'late'",
        );
        statement.first(values![job, attempt], |row| message(row, 0))
    }
}

fn row_of(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn unclaimed(row: Row<'_>) -> Result<v1::UnclaimedFinish> {
    let report: v1::FinishJobRequest = message(row, 3)?;
    let reason = match row.text(2)? {
        LATE => "its workspace was deleted before its state came",
        _unclaimed => "the queue does not know its job or its lease",
    };
    Ok(v1::UnclaimedFinish {
        id: count(row.get(0)?),
        job_id: report.job_id,
        daemon: row.get(1)?,
        outcome: report.outcome,
        received_at_ms: row.get(4)?,
        state: report.state,
        unconfirmed: report.unconfirmed,
        reason: reason.to_owned(),
    })
}
