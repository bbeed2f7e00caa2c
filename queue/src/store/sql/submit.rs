//! Making jobs: one row each, ready at once.

use prost::Message;
use proto::ids::JobId;
use proto::v1;

use super::Tx;
use super::codec::{Parameters, tags_json};
use super::rows::values;
use crate::lease::millis;
use crate::matching::Affinity;
use crate::store::model::Submission;
use crate::store::{Event, Result};
use crate::words::Kind;

pub(super) struct NewJob<'a> {
    pub organization: &'a str,
    pub kind: Kind,
    pub version: &'a str,
    pub workspace: Option<&'a str>,
    pub parameters: &'a [v1::ParameterValue],
    pub submission: &'a Submission,
}

impl Tx<'_> {
    /// Inserts a pending job and tells waiters; its row and id.
    pub(super) fn insert_job(&mut self, new: &NewJob<'_>) -> Result<(i64, JobId)> {
        let id = JobId::generate();
        let tags = tags_json(&new.submission.tags);
        let tagset = self.made_known(new.organization, &new.submission.owner, &tags)?;
        let parameters = Parameters {
            list: new.parameters.to_vec(),
        };
        let trace = serde_json::to_string(&new.submission.trace_context)
            .expect("invariant: a map of strings is JSON");
        let deadlines = new.submission.deadlines;
        let (row, engine, providers) = self
            .db
            .prepare(
                "INSERT INTO jobs (id, organization, kind, owner, priority, tagset, version,
                     workspace, parameters, trace, created_at, state, attempt, counted,
                     uncounted, cancel, engine, template, queue_deadline_at, run_deadline_ms)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'pending', 1, 0, 0, 'none',
                     v.engine, v.template, ?12, ?13
                 FROM template_versions v WHERE v.id = ?7
                 RETURNING row, engine,
                     (SELECT p.providers FROM template_versions p WHERE p.id = jobs.version)",
            )
            .one(
                values![
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
                    deadlines.queue.map(|wait| self.now + millis(wait)),
                    deadlines.run.map(millis),
                ],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
        self.made = Some(id);
        self.emit(Event::JobReady {
            job: id,
            organization: new.organization.to_owned(),
            tags: new.submission.tags.clone(),
            engine,
            kind: new.kind,
            affinity: Affinity {
                version: new.version.to_owned(),
                providers,
            },
        });
        Ok((row, id))
    }

    /// Makes owner and tags known, which they mostly are; the number of the tags.
    fn made_known(&self, organization: &str, owner: &str, tags: &str) -> Result<i64> {
        let known = self.db.prepare(
            "SELECT (SELECT id FROM tagsets WHERE tags = ?3),
                 EXISTS (SELECT 1 FROM owners WHERE organization = ?1 AND name = ?2)",
        );
        let (tagset, knows_owner) = known.one(values![organization, owner, tags], |row| {
            Ok((row.get::<Option<i64>>(0)?, row.get::<bool>(1)?))
        })?;
        if !knows_owner {
            self.ensure_owner(organization, owner)?;
        }
        match tagset {
            Some(tagset) => Ok(tagset),
            None => self.intern_tags(tags),
        }
    }

    fn intern_tags(&self, tags: &str) -> Result<i64> {
        self.db
            .prepare("INSERT INTO tagsets (tags) VALUES (?1) ON CONFLICT DO NOTHING")
            .run(values![tags])?;
        let statement = self.db.prepare("SELECT id FROM tagsets WHERE tags = ?1");
        statement.one(values![tags], |row| row.get(0))
    }
}
