//! Workspaces as clients see them: without secrets.

use proto::ids::{JobId, WorkspaceId};
use proto::v1;

use super::Snapshot;
use super::codec::{self, Parameters, message, word};
use super::rows::values;
use super::workspaces::WorkspaceRow;
use crate::lifecycle::State;
use crate::store::model::{Submitted, WorkspaceName};
use crate::store::{Deleted, Error, Result, secrets};
use crate::words::Transition;

impl Snapshot<'_> {
    pub(super) fn workspace_view(self, name: &WorkspaceName) -> Result<v1::Workspace> {
        self.full_workspace(&self.workspace_named(name)?)
    }

    pub(super) fn list_workspaces(
        self,
        organization: &str,
        owner: Option<&str>,
        deleted: Deleted,
    ) -> Result<Vec<v1::Workspace>> {
        self.organization_exists(organization)?;
        let statement = self.db.prepare(
            "SELECT id FROM workspaces
             WHERE organization = ?1 AND (?2 IS NULL OR owner = ?2)
                 AND (?3 = 1 OR deleted_at IS NULL OR EXISTS (SELECT 1 FROM states s
                     WHERE s.workspace = workspaces.id AND s.waiting = 1))
             ORDER BY owner, name, created_at",
        );
        let ids = statement.all(
            values![organization, owner, deleted == Deleted::Show],
            |row| codec::id::<WorkspaceId>(row, 0),
        )?;
        ids.into_iter()
            .map(|id| self.light_workspace(&self.workspace_row(id)?))
            .collect()
    }

    fn full_workspace(self, row: &WorkspaceRow) -> Result<v1::Workspace> {
        let mut view = self.light_workspace(row)?;
        let statement = self.db.prepare(
            "SELECT e.extraction FROM extractions e JOIN jobs j ON j.row = e.job
             WHERE j.workspace = ?1 ORDER BY j.row DESC LIMIT 1",
        );
        let found = statement.first(values![row.id.to_string()], |row| {
            message::<v1::Extraction>(row, 0)
        })?;
        view.resources = found
            .map(|extraction| secrets::shown_resources(extraction.resources))
            .unwrap_or_default();
        Ok(view)
    }

    fn light_workspace(self, row: &WorkspaceRow) -> Result<v1::Workspace> {
        let id = row.id.to_string();
        let statement = self.db.prepare(
            "SELECT t.name, w.created_at FROM workspaces w JOIN templates t ON t.id = w.template
             WHERE w.id = ?1",
        );
        let (template, created_at_ms) =
            statement.one(values![&id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (build, parameters) = self.last_build_view(&id)?;
        Ok(v1::Workspace {
            id,
            name: row.name.clone(),
            owner: row.owner.clone(),
            template,
            created_at_ms,
            latest_build: Some(build),
            unconfirmed: self.unconfirmed_of(row)?,
            resources: Vec::new(),
            parameters,
            deleted: row.deleted,
            state_conflict: self.has_waiting_state(row.id)?,
        })
    }

    fn last_build_view(self, workspace: &str) -> Result<(v1::Build, Vec<v1::ParameterValue>)> {
        let statement = self.db.prepare(
            "SELECT b.id, b.number, b.transition, b.version, j.id, j.state, b.created_at,
                 j.parameters
             FROM builds b JOIN jobs j ON j.row = b.job
             WHERE b.workspace = ?1 ORDER BY b.number DESC LIMIT 1",
        );
        statement.one(values![workspace], |row| {
            let build = v1::Build {
                id: row.get(0)?,
                number: row.get(1)?,
                transition: word(row, 2, Transition::from_text)?.into(),
                template_version_id: row.get(3)?,
                job_id: row.get(4)?,
                status: word(row, 5, State::from_text)?.status().into(),
                created_at_ms: row.get(6)?,
            };
            Ok((build, message::<Parameters>(row, 7)?.list))
        })
    }

    /// A job just stored, with what it belongs to.
    pub(in crate::store) fn submitted(self, job: JobId) -> Result<Submitted> {
        let row = self.find_job(job)?.ok_or_else(|| Error::NotFound {
            what: "job",
            name: job.to_string(),
        })?;
        let workspace = match &row.workspace {
            None => None,
            Some(id) => {
                let id = id.parse().map_err(|_| Error::NotFound {
                    what: "workspace",
                    name: id.clone(),
                })?;
                Some(self.full_workspace(&self.workspace_row(id)?)?)
            }
        };
        Ok(Submitted {
            id: job,
            job: self.job_view(&row.organization, job)?,
            build: workspace
                .as_ref()
                .and_then(|workspace| workspace.latest_build.clone()),
            workspace,
            place: self.standing(&row.organization, job)?,
        })
    }
}
