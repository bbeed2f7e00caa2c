//! Making jobs: one row each, ready at once.

use prost::Message;
use proto::ids::JobId;
use proto::v1;

use super::Tx;
use super::asked::{First, Read};
use super::codec::{Parameters, tags_json};
use super::rows::{Value, values};
use crate::lease::millis;
use crate::matching::Affinity;
use crate::store::model::Submission;
use crate::store::{Error, Event, Result};
use crate::words::Kind;

pub(super) struct NewJob<'a> {
    pub organization: &'a str,
    pub kind: Kind,
    pub version: &'a str,
    pub workspace: Option<&'a str>,
    pub parameters: &'a [v1::ParameterValue],
    pub submission: &'a Submission,
}

/// What a new job stands on: its version, and what is known already of what it names. `?4`
/// is its workspace, if it has one.
const GROUND: &str = "SELECT v.engine, v.template, v.providers, t.organization,
         v.facts IS NOT NULL, (SELECT id FROM tagsets WHERE tags = ?2),
         EXISTS (SELECT 1 FROM owners WHERE organization = t.organization AND name = ?3),
         EXISTS (SELECT 1 FROM states WHERE workspace = ?4 AND waiting = 1)
     FROM template_versions v JOIN templates t ON t.id = v.template WHERE v.id = ?1";

/// See [`GROUND`].
pub(super) struct Ground {
    engine: String,
    template: String,
    providers: String,
    organization: String,
    imported: bool,
    tagset: Option<i64>,
    knows_owner: bool,
    /// A state of the workspace waits.
    pub state_waits: bool,
}

impl Ground {
    /// Whether its version belongs to this organization and was imported.
    pub(super) fn bears(&self, organization: &str) -> bool {
        self.imported && self.organization == organization
    }
}

/// What a [`Ground`] is asked for.
pub(super) struct Wanted<'a> {
    version: &'a str,
    workspace: Option<&'a str>,
    owner: &'a str,
    tags: String,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(
        version: &'a str,
        workspace: Option<&'a str>,
        submission: &'a Submission,
    ) -> Self {
        Self {
            version,
            workspace,
            owner: &submission.owner,
            tags: tags_json(&submission.tags),
        }
    }

    /// The question for it.
    pub(super) fn asked(&self) -> First<'_, Ground, Read<Ground>> {
        let values = [
            Value::Text(Some(self.version)),
            Value::Text(Some(&self.tags)),
            Value::Text(Some(self.owner)),
            Value::Text(self.workspace),
        ];
        First::of(GROUND, &values, |row| {
            Ok(Ground {
                engine: row.get(0)?,
                template: row.get(1)?,
                providers: row.get(2)?,
                organization: row.get(3)?,
                imported: row.get(4)?,
                tagset: row.get(5)?,
                knows_owner: row.get(6)?,
                state_waits: row.get(7)?,
            })
        })
    }
}

impl Tx<'_> {
    /// Inserts a pending job and tells waiters; its id.
    pub(super) fn insert_job(&mut self, new: &NewJob<'_>) -> Result<JobId> {
        let wanted = Wanted::of(new.version, new.workspace, new.submission);
        let mut ground = wanted.asked();
        self.db.ask(&mut [&mut ground])?;
        let ground = ground.found().ok_or_else(|| Error::NotFound {
            what: "template version",
            name: new.version.to_owned(),
        })?;
        self.insert_job_on(ground, new)
    }

    /// The same, by who has asked already.
    pub(super) fn insert_job_on(&mut self, ground: Ground, new: &NewJob<'_>) -> Result<JobId> {
        let id = JobId::generate();
        if !ground.knows_owner {
            self.ensure_owner(new.organization, &new.submission.owner)?;
        }
        let tagset = match ground.tagset {
            Some(tagset) => tagset,
            None => self.intern_tags(&tags_json(&new.submission.tags))?,
        };
        let parameters = Parameters {
            list: new.parameters.to_vec(),
        };
        let trace = serde_json::to_string(&new.submission.trace_context)
            .expect("invariant: a map of strings is JSON");
        let deadlines = new.submission.deadlines;
        self.db
            .prepare(
                "INSERT INTO jobs (id, organization, kind, owner, priority, tagset, version,
                     workspace, parameters, trace, created_at, state, attempt, counted,
                     uncounted, cancel, engine, template, queue_deadline_at, run_deadline_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'pending', 1, 0, 0, 'none',
                     ?12, ?13, ?14, ?15)",
            )
            .run(values![
                id.to_string(),
                new.organization,
                new.kind.as_str(),
                new.submission.owner,
                new.submission.priority.as_str(),
                tagset,
                new.version,
                new.workspace,
                parameters.encode_to_vec(),
                trace,
                self.now,
                ground.engine,
                ground.template,
                deadlines.queue.map(|wait| self.now + millis(wait)),
                deadlines.run.map(millis),
            ])?;
        self.made = Some(id);
        self.emit(Event::JobReady {
            job: id,
            organization: new.organization.to_owned(),
            tags: new.submission.tags.clone(),
            engine: ground.engine,
            kind: new.kind,
            affinity: Affinity {
                version: new.version.to_owned(),
                providers: ground.providers,
            },
        });
        Ok(id)
    }

    fn intern_tags(&self, tags: &str) -> Result<i64> {
        self.db
            .prepare("INSERT INTO tagsets (tags) VALUES (?1) ON CONFLICT DO NOTHING")
            .run(values![tags])?;
        let statement = self.db.prepare("SELECT id FROM tagsets WHERE tags = ?1");
        statement.one(values![tags], |row| row.get(0))
    }
}
