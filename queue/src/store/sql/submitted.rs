//! A job that was just stored, as its submitter sees it with what it belongs to: all asked for
//! together, and by the job's id alone, so that it travels with what was stored.

use std::sync::LazyLock;

use proto::ids::JobId;
use proto::v1;

use super::Snapshot;
use super::asked::{All, First};
use super::codec::{Parameters, message, tags, word};
use super::rows::{Row, values};
use super::views::{COLUMNS, TABLES, WIDTH};
use crate::lifecycle::State;
use crate::store::model::{Place, Standing, Submitted};
use crate::store::{Error, Result, secrets};
use crate::words::{Kind, Priority};

/// The job as it is viewed, what else decides where it stands, and its build.
static JOB: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {COLUMNS}, j.engine, j.template, b.id, b.number, b.created_at, j.parameters
         FROM {TABLES} WHERE j.id = ?1"
    )
});

const WORKSPACE: &str = "SELECT w.id, w.owner, w.name, w.deleted_at IS NOT NULL, w.created_at,
         t.name, EXISTS (SELECT 1 FROM states s WHERE s.workspace = w.id AND s.waiting = 1)
     FROM workspaces w JOIN templates t ON t.id = w.template
     WHERE w.id = (SELECT workspace FROM jobs WHERE id = ?1)";

const DOUBTS: &str = "SELECT resource FROM doubts
     WHERE workspace = (SELECT workspace FROM jobs WHERE id = ?1) ORDER BY address, job, action";

const EXTRACTION: &str = "SELECT e.extraction FROM extractions e JOIN jobs j ON j.row = e.job
     WHERE j.workspace = (SELECT workspace FROM jobs WHERE id = ?1) ORDER BY j.row DESC LIMIT 1";

/// Of the row of a job.
struct Stored {
    view: v1::JobView,
    place: Option<Place>,
    build: Option<v1::Build>,
    parameters: Vec<v1::ParameterValue>,
}

impl Snapshot<'_> {
    /// A job just stored, which is the newest of its workspace.
    pub(in crate::store) fn submitted(self, job: JobId) -> Result<Submitted> {
        let id = job.to_string();
        let mut stored = First::of(&JOB, values![id], |row| self.stored(row));
        let mut workspace = First::of(WORKSPACE, values![id], workspace);
        let mut doubts = All::of(DOUBTS, values![id], |row| message(row, 0));
        let mut extraction = First::of(EXTRACTION, values![id], |row| {
            message::<v1::Extraction>(row, 0)
        });
        self.db
            .ask(&mut [&mut stored, &mut workspace, &mut doubts, &mut extraction])?;
        let stored = stored.found().ok_or_else(|| Error::NotFound {
            what: "job",
            name: id.clone(),
        })?;
        let extraction = extraction.found();
        let resources = extraction.map(|found| secrets::shown_resources(found.resources));
        let workspace = workspace.found().map(|workspace| v1::Workspace {
            latest_build: stored.build.clone(),
            unconfirmed: doubts.found(),
            resources: resources.unwrap_or_default(),
            parameters: stored.parameters,
            ..workspace
        });
        Ok(Submitted {
            id: job,
            job: stored.view,
            workspace,
            build: stored.build,
            place: stored.place,
        })
    }

    fn stored(self, row: Row<'_>) -> Result<Stored> {
        let view = self.light_view(row)?;
        let pending = word(row, 3, State::from_text)? == State::Pending;
        let place = Place {
            standing: Standing {
                tags: tags(row, 9)?,
                engine: row.get(WIDTH)?,
                kind: word(row, 2, Kind::from_text)?,
                priority: word(row, 10, Priority::from_text)?,
                owner: row.get(8)?,
                template: row.get(WIDTH + 1)?,
            },
            row: row.get(28)?,
            created_ms: view.created_at_ms,
            ahead: None,
        };
        let build = match row.get::<Option<String>>(WIDTH + 2)? {
            None => None,
            Some(id) => Some(v1::Build {
                id,
                number: row.get(WIDTH + 3)?,
                transition: view.transition,
                template_version_id: view.version_id.clone().unwrap_or_default(),
                job_id: view.id.clone(),
                status: view.status,
                created_at_ms: row.get(WIDTH + 4)?,
            }),
        };
        Ok(Stored {
            view,
            place: pending.then_some(place),
            build,
            parameters: message::<Parameters>(row, WIDTH + 5)?.list,
        })
    }
}

/// What its own row tells.
fn workspace(row: Row<'_>) -> Result<v1::Workspace> {
    Ok(v1::Workspace {
        id: row.get(0)?,
        owner: row.get(1)?,
        name: row.get(2)?,
        deleted: row.get(3)?,
        created_at_ms: row.get(4)?,
        template: row.get(5)?,
        state_conflict: row.get(6)?,
        ..v1::Workspace::default()
    })
}
