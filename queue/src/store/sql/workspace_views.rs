//! Workspaces as clients see them: without secrets.

use proto::ids::WorkspaceId;
use proto::v1;

use super::Snapshot;
use super::asked::{All, Asked, First};
use super::codec::{self, Parameters, message, word};
use super::doubts;
use super::rows::{Row, values};
use super::workspaces::WorkspaceRow;
use crate::lifecycle::State;
use crate::store::model::WorkspaceName;
use crate::store::{Deleted, Error, Result, secrets};
use crate::words::Transition;

const ORIGIN: &str = "SELECT t.name, w.created_at
     FROM workspaces w JOIN templates t ON t.id = w.template WHERE w.id = ?1";

const LAST_BUILD: &str = "SELECT b.id, b.number, b.transition, b.version, j.id, j.state,
         b.created_at, j.parameters
     FROM builds b JOIN jobs j ON j.row = b.job
     WHERE b.workspace = ?1 ORDER BY b.number DESC LIMIT 1";

const WAITING: &str = "SELECT 1 FROM states WHERE workspace = ?1 AND waiting = 1";

const EXTRACTION: &str = "SELECT e.extraction FROM extractions e JOIN jobs j ON j.row = e.job
     WHERE j.workspace = ?1 ORDER BY j.row DESC LIMIT 1";

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
        let id = row.id.to_string();
        let mut extraction = First::of(EXTRACTION, values![id], |row| {
            message::<v1::Extraction>(row, 0)
        });
        let mut view = self.workspace_with(row, Some(&mut extraction))?;
        view.resources = extraction
            .found()
            .map(|extraction| secrets::shown_resources(extraction.resources))
            .unwrap_or_default();
        Ok(view)
    }

    fn light_workspace(self, row: &WorkspaceRow) -> Result<v1::Workspace> {
        self.workspace_with(row, None)
    }

    /// The view, asked for together with something else.
    fn workspace_with(
        self,
        row: &WorkspaceRow,
        also: Option<&mut dyn Asked>,
    ) -> Result<v1::Workspace> {
        let id = row.id.to_string();
        let mut origin = First::of(ORIGIN, values![id], |row| Ok((row.get(0)?, row.get(1)?)));
        let mut build = First::of(LAST_BUILD, values![id], build);
        let mut doubts = All::of(doubts::OF_WORKSPACE, values![id], |row| {
            message::<v1::UnconfirmedResource>(row, 2)
        });
        let mut waiting = First::of(WAITING, values![id], |_| Ok(()));
        let mut asked: Vec<&mut dyn Asked> =
            vec![&mut origin, &mut build, &mut doubts, &mut waiting];
        if let Some(also) = also {
            asked.push(also);
        }
        self.db.ask(&mut asked)?;
        drop(asked);
        let found = origin.found().zip(build.found());
        let ((template, created_at_ms), (build, parameters)) =
            found.ok_or_else(|| Error::NotFound {
                what: "workspace",
                name: row.name.clone(),
            })?;
        Ok(v1::Workspace {
            id: id.clone(),
            name: row.name.clone(),
            owner: row.owner.clone(),
            template,
            created_at_ms,
            latest_build: Some(build),
            unconfirmed: doubts.found(),
            resources: Vec::new(),
            parameters,
            deleted: row.deleted,
            state_conflict: waiting.found().is_some(),
        })
    }
}

fn build(row: Row<'_>) -> Result<(v1::Build, Vec<v1::ParameterValue>)> {
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
}
