//! Finishes that no job took: kept whole, for a person to look at.

use prost::Message;
use proto::v1;

use super::codec::{count, message};
use super::rows::{Row, values};
use super::{Snapshot, Tx};
use crate::store::model::{Disposition, Finish};
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

impl Tx<'_> {
    /// Keeps the whole report for the operator, once. What a stranger said of the lease
    /// gives way to what its holder says.
    pub(super) fn keep_aside(
        &self,
        finish: &Finish,
        disposition: Disposition,
    ) -> Result<Disposition> {
        let word = match disposition {
            Disposition::Applied => "applied",
            Disposition::Late => LATE,
            Disposition::Unclaimed => "unclaimed",
        };
        self.db
            .prepare(
                "INSERT INTO finishes
                     (job, lease, daemon, disposition, report, received_at, organization)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (job, lease) DO UPDATE SET daemon = excluded.daemon,
                     disposition = excluded.disposition, report = excluded.report,
                     received_at = excluded.received_at, organization = excluded.organization
                 WHERE finishes.disposition = 'unclaimed' AND excluded.disposition = 'late'",
            )
            .execute(values![
                finish.job.to_string(),
                finish.lease.as_bytes(),
                finish.daemon.name,
                word,
                finish.report.encode_to_vec(),
                self.now,
                finish.daemon.organization
            ])?;
        Ok(disposition)
    }
}

impl Snapshot<'_> {
    pub(super) fn unclaimed(self, organization: &str) -> Result<Vec<v1::UnclaimedFinish>> {
        let sql = format!("{UNCLAIMED} ORDER BY f.row");
        let statement = self.db.prepare(&sql);
        statement.all(values![organization], unclaimed)
    }

    pub(super) fn unclaimed_finish(
        self,
        organization: &str,
        id: u64,
    ) -> Result<v1::UnclaimedFinish> {
        let sql = format!("{UNCLAIMED} AND f.row = ?2");
        let statement = self.db.prepare(&sql);
        let row = i64::try_from(id).unwrap_or(i64::MAX);
        let found = statement.first(values![organization, row], unclaimed)?;
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
