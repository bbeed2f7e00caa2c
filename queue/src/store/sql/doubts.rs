//! What jobs may have left in the world: noted with a verdict, kept on the workspace one
//! by one (workspace, job, address, action), and dropped only by what proves it (a report
//! that knows better, a state that shows it, a build that has read the world again) or by
//! a person who gives it up.

use prost::Message;
use proto::ids::JobId;
use proto::unconfirmed;
use proto::v1::{LedgerAction, UnconfirmedResource};

use super::codec::{Unconfirmed, message};
use super::job_row::JobRow;
use super::known::Known;
use super::rows::{More, Row, values};
use super::workspaces::WorkspaceRow;
use super::{Snapshot, Tx};
use crate::lifecycle::Reason;
use crate::store::model::{Finish, Settle, Shown, WorkspaceName};
use crate::store::{Error, Result};
use crate::words::Outcome;

pub(super) const OF_WORKSPACE: &str = "SELECT job, action, resource FROM doubts
     WHERE workspace = ?1 ORDER BY address, job, action";

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
            statement.run(values![
                workspace.id.to_string(),
                job.row,
                resource.address,
                i64::from(resource.action),
                resource.encode_to_vec()
            ])?;
        }
        Ok(())
    }

    fn write_unconfirmed_of_job(
        &self,
        job: &JobRow,
        unconfirmed: &[UnconfirmedResource],
    ) -> Result<()> {
        self.db
            .prepare("UPDATE jobs SET unconfirmed = ?2 WHERE row = ?1")
            .run(values![job.row, encoded(unconfirmed)])
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
    pub(super) fn settle_by_success(
        &self,
        workspace: &WorkspaceRow,
        doubts: &[Doubt],
    ) -> Result<()> {
        for doubt in doubts {
            if unconfirmed::is_settled_by_success(doubt.resource.action()) {
                self.drop_doubt(workspace, doubt)?;
            }
        }
        Ok(())
    }

    /// Drops all, with the workspace.
    pub(super) fn drop_doubts(&self, workspace: &WorkspaceRow) -> Result<()> {
        self.db
            .prepare("DELETE FROM doubts WHERE workspace = ?1")
            .run(values![workspace.id.to_string()])
    }

    fn drop_doubt(&self, workspace: &WorkspaceRow, doubt: &Doubt) -> Result<()> {
        self.db
            .prepare(
                "DELETE FROM doubts
                 WHERE workspace = ?1 AND job = ?2 AND address = ?3 AND action = ?4",
            )
            .run(values![
                workspace.id.to_string(),
                doubt.job,
                doubt.resource.address,
                doubt.action
            ])
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
        known: &Known,
    ) -> Result<Vec<UnconfirmedResource>> {
        let ledger = known.ledger.as_slice();
        if let (Reason::Reported | Reason::RunDeadline, Some(finish)) = (reason, report)
            && finish.outcome != Outcome::Released
        {
            let named = finish.report.unconfirmed.clone();
            return Ok(match finish.report.ledger_end {
                None => named,
                Some(end) => unconfirmed::with_forgotten(named, ledger, end),
            });
        }
        let brought = report.and_then(|finish| finish.state.as_ref());
        let newest = brought.or(known.checkpoint.as_ref());
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
        let statement = self.db.prepare(
            "SELECT w.organization, w.owner, w.name, d.resource
             FROM jobs j JOIN workspaces w ON w.id = j.workspace
                 JOIN doubts d ON d.workspace = w.id AND d.job <> j.row
             WHERE j.id = ?1",
        );
        let mut found = None;
        statement.each(values![job.to_string()], |row| {
            let resource: UnconfirmedResource = message(row, 3)?;
            if resource.action() != LedgerAction::Create {
                return Ok(More::Yes);
            }
            found = Some(WorkspaceName {
                organization: row.get(0)?,
                owner: row.get(1)?,
                name: row.get(2)?,
            });
            Ok(More::No)
        })?;
        Ok(found)
    }

    pub(super) fn doubts_of(self, workspace: &WorkspaceRow) -> Result<Vec<Doubt>> {
        let statement = self.db.prepare(OF_WORKSPACE);
        statement.all(values![workspace.id.to_string()], doubt)
    }
}

/// As a job's row keeps them.
pub(super) fn encoded(unconfirmed: &[UnconfirmedResource]) -> Vec<u8> {
    let list = unconfirmed.to_vec();
    Unconfirmed { list }.encode_to_vec()
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
