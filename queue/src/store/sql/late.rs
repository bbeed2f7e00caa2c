//! A finish after another verdict: it changes no status, but its state is not lost.

use super::Tx;
use super::job_row::JobRow;
use super::logs::Stored;
use super::rows::values;
use super::verdict::header;
use super::workspaces::WorkspaceRow;
use crate::store::model::{Finish, StateSource};
use crate::store::{Event, Result};
use crate::swap::{self, CurrentIs, Swap};
use crate::words::{Kind, Outcome};

impl Tx<'_> {
    pub(super) fn late(&mut self, job: &JobRow, stored: &Stored, finish: &Finish) -> Result<()> {
        if job.kind != Kind::WorkspaceBuild || self.is_kept_aside(finish)? {
            return Ok(());
        }
        let workspace = self.workspace_of(job)?;
        let whose = self.whose_is_current(job, stored, &workspace)?;
        let swap = match &finish.state {
            // It changed nothing, or nothing that the current state does not show.
            None => Swap::Same,
            Some(state) => {
                let current = self.header_of(workspace.current_state.as_deref())?;
                let swap = swap::on_late(current.as_ref(), whose, &header(state));
                self.apply_swap(job, &workspace, swap, (StateSource::Late, state))?;
                swap
            }
        };
        // One that gives its job back says nothing of what it left.
        let tells = finish.outcome != Outcome::Released;
        match (swap, whose) {
            (Swap::Replace, _) | (Swap::Same, CurrentIs::OfThisAttempt) if tells => {
                self.confirm_anew(job, &workspace, &finish.report.unconfirmed)?;
            }
            (Swap::Replace | Swap::Same | Swap::Aside, _) => {}
        }
        self.emit(Event::JobChanged(job.id));
        Ok(())
    }

    /// The current state is this attempt's when it was recovered from it, or when nothing
    /// was and it is still the one its build started from. Builds in between that changed
    /// no state do not matter; one that runs does: it started from the current state. On a
    /// deleted workspace a current state would be seen by nobody.
    fn whose_is_current(
        &self,
        job: &JobRow,
        stored: &Stored,
        workspace: &WorkspaceRow,
    ) -> Result<CurrentIs> {
        let last = self.last_build(workspace)?;
        let ended = job.state.is_terminal() && last.state.is_terminal();
        if job.attempt != stored.attempt || !ended || workspace.deleted {
            return Ok(CurrentIs::Foreign);
        }
        if workspace.current_state == self.base_state(job)? {
            return Ok(CurrentIs::OfThisAttempt);
        }
        let statement = self.db.prepare(
            "SELECT 1 FROM states
             WHERE id = ?1 AND source = 'recovered' AND job = ?2 AND attempt = ?3",
        );
        let recovered =
            statement.exists(values![workspace.current_state, job.row, stored.attempt])?;
        Ok(if recovered {
            CurrentIs::OfThisAttempt
        } else {
            CurrentIs::Foreign
        })
    }

    fn is_kept_aside(&self, finish: &Finish) -> Result<bool> {
        let statement = self.db.prepare(
            "SELECT 1 FROM finishes WHERE job = ?1 AND lease = ?2 AND disposition = 'late'",
        );
        let found = statement.first(
            values![finish.job.to_string(), finish.lease.as_bytes()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }
}
