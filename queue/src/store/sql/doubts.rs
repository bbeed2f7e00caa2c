//! What jobs may have left in the world: noted with a verdict, kept on the workspace one
//! by one (workspace, job, address, action), and dropped only by what proves it (a report
//! that knows better, a state that shows it, a build that has read the world again) or by
//! a person who gives it up.

use prost::Message;
use proto::ids::JobId;
use proto::unconfirmed;
use proto::v1::{self, LedgerAction, UnconfirmedResource};

use super::codec::{Unconfirmed, message};
use super::job_row::JobRow;
use super::rows::{Row, values};
use super::workspaces::WorkspaceRow;
use super::{Snapshot, Tx};
use crate::lifecycle::Reason;
use crate::store::model::{Finish, Settle, Shown, WorkspaceName};
use crate::store::{Error, Result};
use crate::words::Outcome;

/// A resource in doubt, and the job that left it so.
pub(super) struct Doubt {
    job: i64,
    /// As it stands in the key.
    action: i64,
    resource: UnconfirmedResource,
}

impl Tx<'_> {
    pub(super) fn note_unconfirmed(
        &self,
        job: &JobRow,
        workspace: &WorkspaceRow,
        unconfirmed: &[UnconfirmedResource],
    ) -> Result<()> {
        let statement = self.db.prepare(
            "INSERT INTO doubts VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (workspace, job, address, action) DO UPDATE SET
                 resource = excluded.resource",
        );
        for resource in unconfirmed {
            statement.execute(values![
                workspace.id.to_string(),
                job.row,
                resource.address,
                i64::from(resource.action),
                resource.encode_to_vec()
            ])?;
        }
        Ok(())
    }

    pub(super) fn write_unconfirmed_of_job(
        &self,
        job: &JobRow,
        unconfirmed: &[UnconfirmedResource],
    ) -> Result<()> {
        let list = unconfirmed.to_vec();
        self.db
            .prepare("UPDATE jobs SET unconfirmed = ?2 WHERE row = ?1")
            .execute(values![job.row, Unconfirmed { list }.encode_to_vec()])?;
        Ok(())
    }

    /// A late report knows better than the ledger of a lost attempt.
    pub(super) fn confirm_anew(
        &self,
        job: &JobRow,
        workspace: &WorkspaceRow,
        unconfirmed: &[UnconfirmedResource],
    ) -> Result<()> {
        self.db
            .prepare("DELETE FROM doubts WHERE workspace = ?1 AND job = ?2")
            .execute(values![workspace.id.to_string(), job.row])?;
        self.note_unconfirmed(job, workspace, unconfirmed)?;
        self.write_unconfirmed_of_job(job, unconfirmed)
    }

    /// Drops what a build that ended well has read again.
    pub(super) fn settle_by_success(&self, workspace: &WorkspaceRow) -> Result<()> {
        for doubt in self.doubts_of(workspace)? {
            if unconfirmed::is_settled_by_success(doubt.resource.action()) {
                self.drop_doubt(workspace, &doubt)?;
            }
        }
        Ok(())
    }

    /// Drops all, with the workspace.
    pub(super) fn drop_doubts(&self, workspace: &WorkspaceRow) -> Result<()> {
        self.db
            .prepare("DELETE FROM doubts WHERE workspace = ?1")
            .execute(values![workspace.id.to_string()])?;
        Ok(())
    }

    fn drop_doubt(&self, workspace: &WorkspaceRow, doubt: &Doubt) -> Result<()> {
        self.db
            .prepare(
                "DELETE FROM doubts
                 WHERE workspace = ?1 AND job = ?2 AND address = ?3 AND action = ?4",
            )
            .execute(values![
                workspace.id.to_string(),
                doubt.job,
                doubt.resource.address,
                doubt.action
            ])?;
        Ok(())
    }

    /// Drops what the workspace's current state shows, unless another one is current by
    /// now. Of what was changed or deleted a state proves nothing: a build looks again.
    pub(super) fn settle_shown(&self, settle: &Settle) -> Result<()> {
        let workspace = self.hold_workspace_named(&settle.workspace)?;
        let state = settle.state.to_string();
        if workspace.current_state.as_deref() != Some(state.as_str()) {
            return Ok(());
        }
        let (pushed, of): (bool, Option<i64>) = self
            .db
            .prepare(
                "SELECT CASE source WHEN 'push' THEN 1 ELSE 0 END, job FROM states WHERE id = ?1",
            )
            .one(values![state], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for doubt in self.doubts_of(&workspace)? {
            let by = match of {
                Some(job) if job == doubt.job => continue,
                Some(_) | None if pushed => By::Person,
                // One whose job is gone is no job's that left something in doubt.
                Some(_) | None => By::OtherJob,
            };
            if is_shown(&doubt.resource, &settle.shown, by) {
                self.drop_doubt(&workspace, &doubt)?;
            }
        }
        Ok(())
    }

    /// Drops what a person gives up; what was dropped.
    pub(super) fn forget(
        &self,
        name: &WorkspaceName,
        addresses: &[String],
    ) -> Result<Vec<UnconfirmedResource>> {
        let workspace = self.hold_workspace_named(name)?;
        let doubts = self.doubts_of(&workspace)?;
        let is_open = |address: &&String| doubts.iter().any(|it| it.resource.address == **address);
        if let Some(unknown) = addresses.iter().find(|address| !is_open(address)) {
            return Err(Error::NotFound {
                what: "unconfirmed resource",
                name: unknown.clone(),
            });
        }
        let mut forgotten = Vec::new();
        for doubt in doubts {
            if addresses.contains(&doubt.resource.address) {
                self.drop_doubt(&workspace, &doubt)?;
                forgotten.push(doubt.resource);
            }
        }
        Ok(forgotten)
    }

    /// As reported; for a lost attempt, what its ledger says beyond its checkpoint, and
    /// what it intended when nothing was heard of it any more.
    pub(super) fn unconfirmed_after(
        &self,
        job: &JobRow,
        reason: Reason,
        report: Option<&Finish>,
        ledger: &[v1::LedgerEntry],
    ) -> Result<Vec<UnconfirmedResource>> {
        if let (Reason::Reported | Reason::RunDeadline, Some(finish)) = (reason, report)
            && finish.outcome != Outcome::Released
        {
            let named = finish.report.unconfirmed.clone();
            return Ok(match finish.report.ledger_end {
                None => named,
                Some(end) => unconfirmed::with_forgotten(named, ledger, end),
            });
        }
        let newest = match report.and_then(|finish| finish.state.clone()) {
            Some(state) => Some(state),
            None => self.checkpoint_of(job)?,
        };
        let proved = newest.map_or(0, |state| state.ledger_seq);
        let mut found = unconfirmed::unconfirmed(ledger, proved);
        if report.is_none() {
            found.extend(self.never_heard_of(job, ledger)?);
        }
        Ok(found)
    }
}

impl Snapshot<'_> {
    pub(super) fn unconfirmed_of(
        self,
        workspace: &WorkspaceRow,
    ) -> Result<Vec<UnconfirmedResource>> {
        let doubts = self.doubts_of(workspace)?;
        Ok(doubts.into_iter().map(|doubt| doubt.resource).collect())
    }

    /// The workspace of a job, when other jobs have left creations in doubt there.
    pub(super) fn in_doubt(self, job: JobId) -> Result<Option<WorkspaceName>> {
        let Some(job) = self.find_job(job)? else {
            return Ok(None);
        };
        let Some(id) = &job.workspace else {
            return Ok(None);
        };
        let statement = self
            .db
            .prepare("SELECT organization, owner, name FROM workspaces WHERE id = ?1");
        let (name, workspace) = statement.one(values![id], |row| {
            let name = WorkspaceName {
                organization: row.get(0)?,
                owner: row.get(1)?,
                name: row.get(2)?,
            };
            Ok((name, id.clone()))
        })?;
        let found = self.doubts_in(&workspace)?.into_iter();
        let mut others = found.filter(|doubt| doubt.job != job.row);
        Ok(others
            .any(|doubt| doubt.resource.action() == LedgerAction::Create)
            .then_some(name))
    }

    fn doubts_of(self, workspace: &WorkspaceRow) -> Result<Vec<Doubt>> {
        self.doubts_in(&workspace.id.to_string())
    }

    fn doubts_in(self, workspace: &str) -> Result<Vec<Doubt>> {
        let statement = self.db.prepare(
            "SELECT job, action, resource FROM doubts
             WHERE workspace = ?1 ORDER BY address, job, action",
        );
        statement.all(values![workspace], doubt)
    }
}

fn doubt(row: Row<'_>) -> Result<Doubt> {
    Ok(Doubt {
        job: row.get(0)?,
        action: row.get(1)?,
        resource: message(row, 2)?,
    })
}

/// Who brought a state. Of its own doubts a job has told already what its state proves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Person,
    OtherJob,
}

/// An object with the id that was told is tracked. Where no id was told an address is
/// proof only when a person put it where nothing was: a build may have made another one.
fn is_shown(resource: &UnconfirmedResource, shown: &Shown, by: By) -> bool {
    if resource.action() != LedgerAction::Create {
        return false;
    }
    match resource.id.as_str() {
        "" => by == By::Person && shown.brings(&resource.address),
        id => shown.holds(&resource.address, id),
    }
}
