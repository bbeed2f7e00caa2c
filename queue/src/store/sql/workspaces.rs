//! Workspaces and their builds: what may be built, and making it.

use std::sync::LazyLock;

use proto::ids::{BuildId, JobId, VersionId, WorkspaceId};
use proto::v1;

use super::asked::First;
use super::codec::{Parameters, id, message, word, word_or_null};
use super::rows::{Row, values};
use super::submit::{NewJob, Wanted};
use super::{Snapshot, Tx, templates};
use crate::lifecycle::State;
use crate::store::model::{
    BuildBase, BuildWorkspace, CreateWorkspace, Forget, Submission, VersionSelector, WorkspaceName,
};
use crate::store::{BaseVersion, Error, Result};
use crate::words::{Kind, Transition};

/// A workspace as transitions see it.
pub(super) struct WorkspaceRow {
    pub id: WorkspaceId,
    pub organization: String,
    pub owner: String,
    pub name: String,
    pub deleted: bool,
    pub current_state: Option<String>,
    pub abandoned_job: Option<JobId>,
    pub abandoned_until: i64,
}

/// The newest build of a workspace.
pub(super) struct BuildRow {
    pub number: u32,
    pub transition: Transition,
    pub version: String,
    pub forget: Forget,
    pub job: JobId,
    pub job_row: i64,
    pub state: State,
    pub parameters: Vec<v1::ParameterValue>,
}

/// Workspaces as [`row`] reads them, and which.
macro_rules! workspaces {
    ($which:literal) => {
        concat!(
            "SELECT id, organization, owner, name, deleted_at IS NOT NULL, current_state,
                 abandoned_job, COALESCE(abandoned_until, 0) FROM workspaces ",
            $which
        )
    };
}

/// One by its id.
const ONE: &str = workspaces!("WHERE id = ?1");

/// The same, held.
const HELD: &str = workspaces!("WHERE id = ?1 FOR NO KEY UPDATE");

/// The living one of a name, else the last deleted one.
const NAMED: &str = workspaces!(
    "WHERE organization = ?1 AND owner = ?2 AND name = ?3
     ORDER BY deleted_at IS NOT NULL, created_at DESC, id DESC LIMIT 1"
);

/// The same one's id.
const ID_NAMED: &str = "(SELECT id FROM workspaces
     WHERE organization = ?1 AND owner = ?2 AND name = ?3
     ORDER BY deleted_at IS NOT NULL, created_at DESC, id DESC LIMIT 1)";

/// That of a job (`?1`), held. With a lease (`?5`) only for the attempt that a daemon
/// (organization, name and instance `?2` to `?4`) was given it for: whoever names another one
/// holds nothing of it.
pub(super) const HELD_OF_JOB: &str = workspaces!(
    "WHERE id = (SELECT jobs.workspace FROM jobs WHERE jobs.id = ?1
         AND (?5 IS NULL OR jobs.organization || '' = ?2 AND EXISTS (SELECT 1 FROM attempts
             WHERE attempts.job = jobs.row AND attempts.lease = ?5
                 AND attempts.daemon = ?3 AND attempts.instance = ?4))) FOR NO KEY UPDATE"
);

/// A version of an organization whose import succeeded.
const IMPORTED: &str = "SELECT 1 FROM template_versions v JOIN templates t ON t.id = v.template
     WHERE v.id = ?1 AND t.organization = ?2 AND v.facts IS NOT NULL";

const LAST_BUILD: &str = "SELECT b.number, b.transition, b.version, b.forget, j.id, j.row, j.state,
         j.parameters
     FROM builds b JOIN jobs j ON j.row = b.job
     WHERE b.workspace = ?1 ORDER BY b.number DESC LIMIT 1";

/// [`LAST_BUILD`] and [`templates::OF_LAST_BUILD`] of a workspace that is named.
static LAST_OF_NAMED: LazyLock<[String; 2]> = LazyLock::new(|| {
    [LAST_BUILD, &templates::OF_LAST_BUILD].map(|of| of.replacen("?1", ID_NAMED, 1))
});

/// What a build is made of, once it may be made.
pub(super) struct NewBuild<'a> {
    pub workspace: &'a WorkspaceRow,
    pub number: u32,
    pub transition: Transition,
    pub version: &'a str,
    pub forget: Forget,
    pub parameters: &'a [v1::ParameterValue],
    pub submission: &'a Submission,
}

impl NewBuild<'_> {
    /// The job that is to run it; `workspace` is the id of its workspace.
    fn job<'j>(&'j self, workspace: &'j str) -> NewJob<'j> {
        NewJob {
            organization: &self.workspace.organization,
            kind: Kind::WorkspaceBuild,
            version: self.version,
            workspace: Some(workspace),
            parameters: self.parameters,
            submission: self.submission,
        }
    }
}

impl Tx<'_> {
    pub(super) fn create_workspace(&mut self, create: &CreateWorkspace) -> Result<JobId> {
        let name = &create.workspace;
        let version = create.version.to_string();
        let mut is_imported = First::of(IMPORTED, values![version, name.organization], |_| Ok(()));
        self.db.ask(&mut [&mut is_imported])?;
        if is_imported.found().is_none() {
            return Err(self.not_imported(&name.organization, create.version)?);
        }
        self.ensure_owner(&name.organization, &name.owner)?;
        let workspace = WorkspaceId::generate();
        let added = self
            .db
            .prepare(
                "INSERT INTO workspaces
                     (id, organization, owner, name, template, created_at)
                 SELECT ?1, ?2, ?3, ?4, template, ?6 FROM template_versions WHERE id = ?5
 ON CONFLICT DO NOTHING",
            )
            .execute(values![
                workspace.to_string(),
                name.organization,
                name.owner,
                name.name,
                version,
                self.now
            ])?;
        if added == 0 {
            return Err(Error::Exists {
                what: "workspace",
                name: name.name.clone(),
            });
        }
        let workspace = self.workspace_row(workspace)?;
        self.insert_build(&NewBuild {
            workspace: &workspace,
            number: 1,
            transition: Transition::Start,
            version: &version,
            forget: Forget::Refuse,
            parameters: &create.parameters,
            submission: &create.submission,
        })
    }

    pub(super) fn build_workspace(&mut self, build: &BuildWorkspace) -> Result<JobId> {
        let (id, version) = (build.workspace.to_string(), build.version.to_string());
        let wanted = Wanted::of(&version, Some(&id), &build.submission);
        let mut workspace = First::of(HELD, values![id], row);
        let mut last = First::of(LAST_BUILD, values![id], build_row);
        let mut ground = wanted.asked();
        self.db.ask(&mut [&mut workspace, &mut last, &mut ground])?;
        let (workspace, last, ground) = (workspace.found(), last.found(), ground.found());
        let Some(workspace) = workspace else {
            return Err(no_workspace(id));
        };
        let organization = workspace.organization.as_str();
        let Some(ground) = ground.filter(|ground| ground.bears(organization)) else {
            return Err(self.not_imported(organization, build.version)?);
        };
        let last = last.ok_or_else(|| no_build(&workspace))?;
        let what = (build.transition, build.forget);
        self.may_build(&workspace, &last, what, ground.state_waits)?;
        if last.number != build.base {
            return Err(Error::BaseChanged {
                workspace: workspace.name,
            });
        }
        let new = NewBuild {
            workspace: &workspace,
            number: last.number + 1,
            transition: build.transition,
            version: &version,
            forget: build.forget,
            parameters: &build.parameters,
            submission: &build.submission,
        };
        let job = self.insert_job_on(ground, &new.job(&id))?;
        self.insert_build_of(job, &new)?;
        Ok(job)
    }

    /// Why a version cannot be built.
    fn not_imported(&self, organization: &str, version: VersionId) -> Result<Error> {
        let version = self.version_in(organization, version)?;
        Ok(Error::NotImported {
            template: version.template,
            version: version.number,
            status: version.import_status,
        })
    }

    /// A workspace, held: nobody else builds it or changes its state until the end of
    /// the transaction.
    pub(super) fn hold_workspace(&self, workspace: WorkspaceId) -> Result<WorkspaceRow> {
        self.one_workspace(HELD, workspace)
    }

    /// The workspace of that name, held.
    pub(super) fn hold_workspace_named(&self, name: &WorkspaceName) -> Result<WorkspaceRow> {
        let found = self.workspace_named(name)?;
        self.hold_workspace(found.id)
    }

    pub(super) fn insert_build(&mut self, new: &NewBuild<'_>) -> Result<JobId> {
        let workspace = new.workspace.id.to_string();
        let job = self.insert_job(&new.job(&workspace))?;
        self.insert_build_of(job, new)?;
        Ok(job)
    }

    /// The build that a job is to run.
    fn insert_build_of(&self, job: JobId, new: &NewBuild<'_>) -> Result<()> {
        self.db
            .prepare(
                "INSERT INTO builds (id, workspace, number, transition, version, job, state_in,
                     forget, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, (SELECT row FROM jobs WHERE id = ?6), ?7, ?8, ?9)",
            )
            .run(values![
                BuildId::generate().to_string(),
                new.workspace.id.to_string(),
                new.number,
                new.transition.as_str(),
                new.version,
                job.to_string(),
                new.workspace.current_state,
                new.forget == Forget::Drop,
                self.now,
            ])
    }
}

impl Snapshot<'_> {
    pub(super) fn workspace_row(self, workspace: WorkspaceId) -> Result<WorkspaceRow> {
        self.one_workspace(ONE, workspace)
    }

    fn one_workspace(self, sql: &str, workspace: WorkspaceId) -> Result<WorkspaceRow> {
        let statement = self.db.prepare(sql);
        let text = workspace.to_string();
        let found = statement.first(values![&text], row)?;
        found.ok_or_else(|| no_workspace(text))
    }

    /// The living workspace of that name, else the last deleted one.
    pub(super) fn workspace_named(self, name: &WorkspaceName) -> Result<WorkspaceRow> {
        let statement = self.db.prepare(NAMED);
        let found = statement.first(values![&name.organization, &name.owner, &name.name], row)?;
        found.ok_or_else(|| no_workspace(name.name.clone()))
    }

    pub(super) fn last_build(self, workspace: &WorkspaceRow) -> Result<BuildRow> {
        let statement = self.db.prepare(LAST_BUILD);
        statement.one(values![workspace.id.to_string()], build_row)
    }

    pub(super) fn has_waiting_state(self, workspace: WorkspaceId) -> Result<bool> {
        let statement = self
            .db
            .prepare("SELECT 1 FROM states WHERE workspace = ?1 AND waiting = 1");
        statement.exists(values![workspace.to_string()])
    }

    /// The number is asked for before the version: a build that comes between makes the
    /// number an old one, which no submit may name.
    pub(super) fn build_base(self, name: &WorkspaceName, which: BaseVersion) -> Result<BuildBase> {
        let named = values![name.organization, name.owner, name.name];
        let [of_last, of_own] = &*LAST_OF_NAMED;
        let mut workspace = First::of(NAMED, named, row);
        let mut last = First::of(of_last, named, build_row);
        let mut own = First::of(of_own, named, templates::version_row);
        self.db.ask(&mut [&mut workspace, &mut last, &mut own])?;
        let workspace = workspace.found();
        let workspace = workspace.ok_or_else(|| no_workspace(name.name.clone()))?;
        if workspace.deleted {
            return Err(Error::Deleted {
                workspace: workspace.name,
            });
        }
        let last = last.found().ok_or_else(|| no_build(&workspace))?;
        let own = own.found().ok_or_else(|| no_build(&workspace))?;
        let version = match which {
            BaseVersion::Own => own,
            BaseVersion::Active => self.imported_version(
                &workspace.organization,
                &own.template,
                &VersionSelector::Active,
            )?,
        };
        Ok(BuildBase {
            workspace: workspace.id,
            number: last.number,
            version,
            previous: last.parameters,
        })
    }
}

pub(super) fn row(row: Row<'_>) -> Result<WorkspaceRow> {
    Ok(WorkspaceRow {
        id: id(row, 0)?,
        organization: row.get(1)?,
        owner: row.get(2)?,
        name: row.get(3)?,
        deleted: row.get(4)?,
        current_state: row.get(5)?,
        abandoned_job: word_or_null(row, 6, |text| text.parse().ok())?,
        abandoned_until: row.get(7)?,
    })
}

fn no_workspace(name: String) -> Error {
    Error::NotFound {
        what: "workspace",
        name,
    }
}

fn no_build(workspace: &WorkspaceRow) -> Error {
    Error::NotFound {
        what: "build of workspace",
        name: workspace.name.clone(),
    }
}

fn build_row(row: Row<'_>) -> Result<BuildRow> {
    Ok(BuildRow {
        number: row.get(0)?,
        transition: word(row, 1, Transition::from_text)?,
        version: row.get(2)?,
        forget: if row.get(3)? {
            Forget::Drop
        } else {
            Forget::Refuse
        },
        job: id(row, 4)?,
        job_row: row.get(5)?,
        state: word(row, 6, State::from_text)?,
        parameters: message::<Parameters>(row, 7)?.list,
    })
}
