//! What nothing hangs on any more: workspaces that were deleted long ago, daemons that were
//! not seen for long, sets of tags that no job asks for, old lines of the audit log.

use super::super::rows::values;
use super::super::{Database, Snapshot, Tx};
use super::jobs::Budget;
use super::{BATCH, Cuts, Pass};
use crate::store::Result;

/// Sets of tags that one pass takes away: each costs PostgreSQL a look through all jobs.
const TAGSETS: u32 = 20;

/// Who was not seen since: neither itself nor by the replica that holds its control stream,
/// and no job is in its hands.
const ABSENT: &str = "last_seen_at < ?1 \
     AND NOT EXISTS (SELECT 1 FROM replicas r WHERE r.id = daemons.held_by AND r.seen_at >= ?1) \
     AND NOT EXISTS (SELECT 1 FROM jobs j \
         WHERE (j.state = 'offered' OR j.state = 'running' OR j.state = 'canceling') \
             AND j.organization = daemons.organization AND j.daemon = daemons.name)";

impl<D: Database> Pass<'_, D> {
    pub(super) async fn workspaces(&mut self) -> Result<()> {
        let cuts = self.cuts;
        let found = self.database.read(move |view| view.deleted_before(cuts));
        for workspace in found.await? {
            let mut went = Went::Partly;
            while went == Went::Partly {
                let workspace = workspace.clone();
                let step = self.batch(move |tx| tx.prune_workspace(&workspace, cuts));
                went = step.await?;
            }
            self.pruned.workspaces += u64::from(went == Went::Whole);
        }
        Ok(())
    }

    pub(super) async fn daemons(&mut self) -> Result<()> {
        let cut = self.cuts.daemons;
        loop {
            let gone = self.batch(move |tx| tx.prune_daemons(cut)).await?;
            self.pruned.daemons += gone;
            if gone < u64::from(BATCH) {
                return Ok(());
            }
        }
    }

    pub(super) async fn tagsets(&mut self) -> Result<()> {
        #[allow(clippy::redundant_closure_for_method_calls)]
        let unused = self.database.read(|view| view.unused_tagsets()).await?;
        for id in unused {
            self.pruned.tagsets += self.batch(move |tx| tx.prune_tagset(id)).await?;
        }
        Ok(())
    }

    pub(super) async fn audit(&mut self) -> Result<()> {
        let cut = self.cuts.audit;
        loop {
            let found = self.database.read(move |view| view.old_audit(cut)).await?;
            let Some(last) = found else { return Ok(()) };
            let gone = self.batch(move |tx| tx.prune_audit(last, cut)).await?;
            self.pruned.audit += gone;
            if gone == 0 {
                return Ok(());
            }
        }
    }
}

/// What became of a workspace.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Went {
    Whole,
    /// There is more of it.
    Partly,
    #[default]
    Kept,
}

impl Snapshot<'_> {
    fn deleted_before(self, cuts: Cuts) -> Result<Vec<String>> {
        let statement = self
            .db
            .prepare("SELECT id FROM workspaces WHERE deleted_at < ?1");
        statement.all(values![cuts.jobs], |row| row.get(0))
    }

    fn unused_tagsets(self) -> Result<Vec<i64>> {
        let statement = self.db.prepare(
            "SELECT id FROM tagsets t
             WHERE NOT EXISTS (SELECT 1 FROM jobs j WHERE j.tagset = t.id) LIMIT ?1",
        );
        statement.all(values![TAGSETS], |row| row.get(0))
    }

    /// The last of the oldest lines that may go together.
    fn old_audit(self, cut: i64) -> Result<Option<i64>> {
        let statement = self
            .db
            .prepare("SELECT row, at FROM audit ORDER BY row LIMIT ?1");
        let oldest = statement.all(values![BATCH], |row| {
            Ok((row.get::<i64>(0)?, row.get::<i64>(1)?))
        })?;
        let old = oldest.into_iter().take_while(|(_, at)| *at < cut);
        Ok(old.last().map(|(row, _)| row))
    }
}

impl Tx<'_> {
    /// A deleted workspace with all its builds, when nobody waits for anything of it. Jobs
    /// are held before it, as everywhere.
    fn prune_workspace(&self, id: &str, cuts: Cuts) -> Result<Went> {
        let jobs = self
            .db
            .prepare("SELECT row, id FROM jobs WHERE workspace = ?1 FOR NO KEY UPDATE");
        let jobs = jobs.all(values![id], |row| {
            Ok((row.get::<i64>(0)?, row.get::<String>(1)?))
        })?;
        if !self.is_done_with(id, cuts)? {
            return Ok(Went::Kept);
        }
        let mut budget = Budget::new();
        for (row, _) in &jobs {
            self.empty_job(*row, &mut budget)?;
            if budget.is_spent() {
                return Ok(Went::Partly);
            }
        }
        for sql in [
            "UPDATE workspaces SET current_state = NULL WHERE id = ?1",
            "DELETE FROM builds WHERE workspace = ?1",
            "DELETE FROM states WHERE workspace = ?1",
        ] {
            self.db.prepare(sql).execute(values![id])?;
        }
        for (row, job) in &jobs {
            self.remove_job(*row, job, &mut budget)?;
        }
        self.db
            .prepare("DELETE FROM workspaces WHERE id = ?1")
            .execute(values![id])?;
        Ok(Went::Whole)
    }

    fn is_done_with(&self, workspace: &str, cuts: Cuts) -> Result<bool> {
        let statement = self.db.prepare(
            "SELECT 1 FROM workspaces w WHERE w.id = ?1 AND w.deleted_at < ?2
                 AND NOT EXISTS (SELECT 1 FROM states s WHERE s.workspace = w.id AND s.waiting = 1)
                 AND NOT EXISTS (SELECT 1 FROM doubts d WHERE d.workspace = w.id)
                 AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.workspace = w.id
                     AND (j.completed_at IS NULL OR j.completed_at >= ?2
                         OR COALESCE(j.expires_at, 0) >= ?3))
             FOR NO KEY UPDATE",
        );
        statement.exists(values![workspace, cuts.jobs, cuts.late])
    }

    fn prune_daemons(&self, cut: i64) -> Result<u64> {
        let sql = format!(
            "DELETE FROM daemons WHERE {ABSENT} AND (organization, name) IN
                 (SELECT organization, name FROM daemons WHERE {ABSENT} LIMIT ?2)"
        );
        self.db.prepare(&sql).execute(values![cut, BATCH])
    }

    fn prune_tagset(&self, id: i64) -> Result<u64> {
        let statement = self.db.prepare(
            "DELETE FROM tagsets WHERE id = ?1
                 AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.tagset = tagsets.id)",
        );
        statement.execute(values![id])
    }

    fn prune_audit(&self, last: i64, cut: i64) -> Result<u64> {
        let statement = self
            .db
            .prepare("DELETE FROM audit WHERE row <= ?1 AND at < ?2");
        statement.execute(values![last, cut])
    }
}
