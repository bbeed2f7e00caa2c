//! Old jobs with all that hangs on them, and old logs of jobs that stay. What keeps either is
//! written once, here, and asked twice: by the reader that finds and the writer that deletes.

use super::super::rows::values;
use super::super::{Database, Snapshot, Tx};
use super::{BATCH, Cuts, Pass};
use crate::store::Result;

/// Jobs that one look goes through.
const LOOKED_AT: u32 = 500;

/// What lets an ended job go. Kept are: one whose daemon may still bring something; the last
/// import of a version; what left something in doubt; what a state waits for a decision on
/// came from; the two newest builds of a workspace, which the next one and the views look at;
/// and the build whose resources its workspace shows.
const GOES: &str = "COALESCE(j.expires_at, 0) < ?3 \
     AND NOT EXISTS (SELECT 1 FROM template_versions v WHERE v.import_job = j.row) \
     AND NOT EXISTS (SELECT 1 FROM doubts d WHERE d.workspace = j.workspace AND d.job = j.row) \
     AND NOT EXISTS (SELECT 1 FROM states s WHERE s.job = j.row AND s.waiting = 1) \
     AND NOT EXISTS (SELECT 1 FROM builds b WHERE b.job = j.row AND b.number + 1 >= \
         (SELECT MAX(m.number) FROM builds m WHERE m.workspace = b.workspace)) \
     AND NOT EXISTS (SELECT 1 FROM extractions e WHERE e.job = j.row \
         AND j.workspace IS NOT NULL AND NOT EXISTS (SELECT 1 FROM jobs k \
             JOIN extractions n ON n.job = k.row \
             WHERE k.workspace = j.workspace AND k.row > j.row))";

/// What lets the log of an ended job go. Kept is the log of the newest build of a living
/// workspace, of the import of an active version, and of a job that left something in doubt.
const LOG_GOES: &str = "COALESCE(j.expires_at, 0) < ?3 AND j.log_end > 0 \
     AND EXISTS (SELECT 1 FROM log_chunks c WHERE c.job = j.row) \
     AND NOT EXISTS (SELECT 1 FROM builds b JOIN workspaces w ON w.id = b.workspace \
         WHERE b.job = j.row AND w.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM builds n \
             WHERE n.workspace = b.workspace AND n.number > b.number)) \
     AND NOT EXISTS (SELECT 1 FROM template_versions v JOIN templates t \
         ON t.active_version = v.id WHERE v.import_job = j.row) \
     AND NOT EXISTS (SELECT 1 FROM doubts d WHERE d.workspace = j.workspace AND d.job = j.row)";

/// What a look at some jobs found.
#[derive(Default)]
struct Found {
    jobs: Vec<i64>,
    logs: Vec<i64>,
    /// Where the next look begins.
    next: Option<i64>,
}

/// What a transaction took away.
#[derive(Clone, Copy, Default)]
struct Taken {
    /// Of the jobs it was given, so many are seen to.
    seen_to: usize,
    jobs: u64,
    chunks: u64,
}

/// Rows that a transaction may still delete.
pub(super) struct Budget(u64);

impl Budget {
    pub(super) fn new() -> Self {
        Self(BATCH.into())
    }

    fn spend(&mut self, rows: u64) {
        self.0 = self.0.saturating_sub(rows);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

impl<D: Database> Pass<'_, D> {
    pub(super) async fn jobs(&mut self) -> Result<()> {
        let cuts = self.cuts;
        let mut after = Some(0);
        while let Some(row) = after {
            let found = self.database.read(move |view| view.old_jobs(row, cuts));
            let found = found.await?;
            self.take_logs(found.logs).await?;
            self.take_jobs(found.jobs).await?;
            after = found.next;
        }
        Ok(())
    }

    async fn take_logs(&mut self, mut rows: Vec<i64>) -> Result<()> {
        let cuts = self.cuts;
        while !rows.is_empty() {
            let given = rows.clone();
            let taken = self.batch(move |tx| tx.prune_logs(&given, cuts)).await?;
            self.pruned.logs += taken.chunks;
            rows.drain(..taken.seen_to);
            if taken.seen_to == 0 && taken.chunks == 0 {
                break;
            }
        }
        Ok(())
    }

    async fn take_jobs(&mut self, mut rows: Vec<i64>) -> Result<()> {
        let cuts = self.cuts;
        while !rows.is_empty() {
            let given = rows.clone();
            let taken = self.batch(move |tx| tx.prune_jobs(&given, cuts)).await?;
            self.pruned.jobs += taken.jobs;
            rows.drain(..taken.seen_to);
            if taken.seen_to == 0 && taken.chunks == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Snapshot<'_> {
    /// Rows ascend with time: behind the first job that is too young there is none to look at.
    fn old_jobs(self, after: i64, cuts: Cuts) -> Result<Found> {
        let sql = format!(
            "SELECT j.row, j.created_at,
                 CASE WHEN j.completed_at < ?2 AND {GOES} THEN 1 ELSE 0 END,
                 CASE WHEN j.completed_at < ?4 AND {LOG_GOES} THEN 1 ELSE 0 END
             FROM jobs j WHERE j.row > ?1 ORDER BY j.row LIMIT ?5"
        );
        let statement = self.db.prepare(&sql);
        let values = values![after, cuts.jobs, cuts.late, cuts.logs, LOOKED_AT];
        let rows = statement.all(values, |row| {
            let created_at: i64 = row.get(1)?;
            Ok((row.get(0)?, created_at, row.get(2)?, row.get(3)?))
        })?;
        let mut found = Found::default();
        let whole = rows.len() == LOOKED_AT as usize;
        for (row, created_at, job, log) in rows {
            if created_at >= cuts.jobs.max(cuts.logs) {
                return Ok(Found {
                    next: None,
                    ..found
                });
            }
            match (job, log) {
                (true, _) => found.jobs.push(row),
                (false, true) => found.logs.push(row),
                (false, false) => {}
            }
            found.next = whole.then_some(row);
        }
        Ok(found)
    }
}

impl Tx<'_> {
    fn prune_logs(&self, rows: &[i64], cuts: Cuts) -> Result<Taken> {
        let sql = format!(
            "SELECT 1 FROM jobs j WHERE j.row = ?1 AND j.completed_at < ?2 AND {LOG_GOES}
             FOR NO KEY UPDATE"
        );
        let (mut taken, mut budget) = (Taken::default(), Budget::new());
        for row in rows {
            let goes = self.db.prepare(&sql);
            if goes.exists(values![*row, cuts.logs, cuts.late])? {
                taken.chunks += self.delete_chunks(*row, &mut budget)?;
            }
            if budget.is_spent() {
                break;
            }
            taken.seen_to += 1;
        }
        Ok(taken)
    }

    fn prune_jobs(&self, rows: &[i64], cuts: Cuts) -> Result<Taken> {
        let sql = format!(
            "SELECT j.id FROM jobs j WHERE j.row = ?1 AND j.completed_at < ?2 AND {GOES}
             FOR NO KEY UPDATE"
        );
        let (mut taken, mut budget) = (Taken::default(), Budget::new());
        for row in rows {
            let goes = self.db.prepare(&sql);
            let id: Option<String> =
                goes.first(values![*row, cuts.jobs, cuts.late], |row| row.get(0))?;
            if let Some(id) = id {
                taken.chunks += self.empty_job(*row, &mut budget)?;
                if budget.is_spent() {
                    break;
                }
                self.remove_job(*row, &id, &mut budget)?;
                taken.jobs += 1;
            }
            taken.seen_to += 1;
            if budget.is_spent() {
                break;
            }
        }
        Ok(taken)
    }

    /// Takes away what a job has many of; how many there were, which is fewer than the budget
    /// only when nothing is left.
    pub(super) fn empty_job(&self, row: i64, budget: &mut Budget) -> Result<u64> {
        let chunks = self.delete_chunks(row, budget)?;
        let ledger = self
            .db
            .prepare(
                "DELETE FROM ledger WHERE job = ?1 AND (attempt, seq) IN
                     (SELECT attempt, seq FROM ledger WHERE job = ?1 LIMIT ?2)",
            )
            .execute(values![row, limit(budget)])?;
        budget.spend(ledger);
        Ok(chunks + ledger)
    }

    fn delete_chunks(&self, row: i64, budget: &mut Budget) -> Result<u64> {
        let chunks = self
            .db
            .prepare(
                "DELETE FROM log_chunks WHERE row IN
                     (SELECT row FROM log_chunks WHERE job = ?1 LIMIT ?2)",
            )
            .execute(values![row, limit(budget)])?;
        budget.spend(chunks);
        Ok(chunks)
    }

    /// Takes away a job that was emptied. A state that stays goes on to tell whose it was.
    pub(super) fn remove_job(&self, row: i64, id: &str, budget: &mut Budget) -> Result<()> {
        self.db
            .prepare("UPDATE states SET of_job = ?2, job = NULL WHERE job = ?1")
            .execute(values![row, id])?;
        let finishes = self
            .db
            .prepare("DELETE FROM finishes WHERE job = ?1 AND disposition <> 'unclaimed'");
        budget.spend(finishes.execute(values![id])?);
        for table in ["extractions", "intended", "attempts", "builds"] {
            let sql = format!("DELETE FROM {table} WHERE job = ?1");
            budget.spend(self.db.prepare(&sql).execute(values![row])?);
        }
        let job = self.db.prepare("DELETE FROM jobs WHERE row = ?1");
        budget.spend(job.execute(values![row])?);
        Ok(())
    }
}

fn limit(budget: &Budget) -> i64 {
    i64::try_from(budget.0).unwrap_or(i64::MAX)
}
