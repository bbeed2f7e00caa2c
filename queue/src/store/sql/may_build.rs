//! The rules that keep a build from beginning.

use super::Tx;
use super::workspaces::{BuildRow, WorkspaceRow};
use crate::store::model::Forget;
use crate::store::{Error, Result};
use crate::words::Transition;

impl Tx<'_> {
    /// Whether this may be built. `state_waits`: a state of the workspace waits for a decision.
    pub(super) fn may_build(
        &self,
        workspace: &WorkspaceRow,
        last: &BuildRow,
        what: (Transition, Forget),
        state_waits: bool,
    ) -> Result<()> {
        Self::is_idle(workspace, last)?;
        match what {
            (Transition::Start | Transition::Stop, Forget::Refuse | Forget::Drop) => {
                self.is_alone(workspace, state_waits)
            }
            (Transition::Delete, Forget::Refuse) => {
                self.is_alone(workspace, state_waits)?;
                self.is_confirmed(workspace)
            }
            (Transition::Delete, Forget::Drop) => Ok(()),
        }
    }

    /// Refuses a deleted workspace and one with a build that has not ended.
    pub(super) fn is_idle(workspace: &WorkspaceRow, last: &BuildRow) -> Result<()> {
        if workspace.deleted {
            return Err(Error::Deleted {
                workspace: workspace.name.clone(),
            });
        }
        Self::has_ended(workspace, last)
    }

    /// Refuses one with a build that has not ended.
    pub(super) fn has_ended(workspace: &WorkspaceRow, last: &BuildRow) -> Result<()> {
        if !last.state.is_terminal() {
            return Err(Error::BuildRunning {
                workspace: workspace.name.clone(),
                job: last.job,
            });
        }
        Ok(())
    }

    /// Refuses while a state waits, which may hold what the current one does not, and while
    /// an old engine may be making such things.
    fn is_alone(&self, workspace: &WorkspaceRow, state_waits: bool) -> Result<()> {
        if state_waits {
            return Err(Error::StateConflict {
                workspace: workspace.name.clone(),
            });
        }
        let remaining = workspace.abandoned_until - self.now;
        match workspace.abandoned_job {
            Some(job) if remaining > 0 => Err(Error::OldEngineMayRun {
                job,
                remaining_s: super::codec::count(remaining).div_ceil(1_000),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn is_confirmed(&self, workspace: &WorkspaceRow) -> Result<()> {
        match self.unconfirmed_of(workspace)?.len() {
            0 => Ok(()),
            count => Err(Error::Unconfirmed {
                workspace: workspace.name.clone(),
                count,
            }),
        }
    }
}
