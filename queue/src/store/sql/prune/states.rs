//! Old states. Kept are the current state of a workspace, those that wait for a decision,
//! what a build that is kept started from, and all of a job that may still go on.

use super::super::rows::values;
use super::super::{Database, Snapshot, Tx};
use super::{BATCH, Cuts, Pass};
use crate::store::Result;

/// Workspaces that one look goes through.
const LOOKED_AT: u32 = 100;

/// What lets a state go, beyond its age.
const GOES: &str = "waiting = 0 \
     AND NOT EXISTS (SELECT 1 FROM workspaces w WHERE w.current_state = states.id) \
     AND NOT EXISTS (SELECT 1 FROM builds b WHERE b.state_in = states.id) \
     AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.row = states.job \
         AND (j.completed_at IS NULL OR COALESCE(j.expires_at, 0) >= ?2))";

impl<D: Database> Pass<'_, D> {
    pub(super) async fn states(&mut self) -> Result<()> {
        let cuts = self.cuts;
        let mut after = Some(String::new());
        while let Some(workspace) = after {
            let found = self
                .database
                .read(move |view| view.old_states(&workspace, cuts));
            let found = found.await?;
            after = found.last().map(|(workspace, _)| workspace.clone());
            for (workspace, states) in found {
                for batch in states.chunks(BATCH as usize) {
                    let (workspace, batch) = (workspace.clone(), batch.to_vec());
                    let gone = self.batch(move |tx| tx.prune_states(&workspace, &batch, cuts));
                    self.pruned.states += gone.await?;
                }
            }
        }
        Ok(())
    }
}

impl Snapshot<'_> {
    /// Of the next workspaces that have some, the states that may go.
    fn old_states(self, after: &str, cuts: Cuts) -> Result<Vec<(String, Vec<String>)>> {
        let statement = self.db.prepare(
            "SELECT workspace FROM states WHERE workspace > ?1 GROUP BY workspace
             HAVING COUNT(*) > ?2 AND MIN(created_at) < ?3 ORDER BY workspace LIMIT ?4",
        );
        let workspaces: Vec<String> = statement
            .all(values![after, cuts.newest, cuts.states, LOOKED_AT], |row| {
                row.get(0)
            })?;
        let each = workspaces.into_iter().map(|workspace| {
            let states = self.old_states_of(&workspace, cuts)?;
            Ok((workspace, states))
        });
        each.collect()
    }

    fn old_states_of(self, workspace: &str, cuts: Cuts) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT id, created_at, CASE WHEN {GOES} THEN 1 ELSE 0 END FROM states
             WHERE workspace = ?1 ORDER BY created_at DESC, id DESC"
        );
        let statement = self.db.prepare(&sql);
        let mut states = statement.all(values![workspace, cuts.late], |row| {
            let goes = row.get::<i64>(1)? < cuts.states && row.get(2)?;
            Ok((row.get(0)?, goes))
        })?;
        states.drain(..states.len().min(cuts.newest as usize));
        states.retain(|(_, goes): &(String, bool)| *goes);
        Ok(states.into_iter().map(|(id, _)| id).collect())
    }
}

impl Tx<'_> {
    /// Held, the workspace gets neither a build nor another current state meanwhile.
    fn prune_states(&self, workspace: &str, states: &[String], cuts: Cuts) -> Result<u64> {
        let hold = "SELECT 1 FROM workspaces WHERE id = ?1 FOR NO KEY UPDATE";
        if !self.db.prepare(hold).exists(values![workspace])? {
            return Ok(0);
        }
        let sql = format!("DELETE FROM states WHERE id = ?1 AND {GOES}");
        let delete = self.db.prepare(&sql);
        let mut gone = 0;
        for state in states {
            gone += delete.execute(values![state, cuts.late])?;
        }
        Ok(gone)
    }
}
