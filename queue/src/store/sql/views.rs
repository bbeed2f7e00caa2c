//! Jobs as clients see them: without secrets.

use proto::v1;

use super::Snapshot;
use super::codec::{
    Phases, Unconfirmed, count, message, message_or_null, tags, word, word_or_null,
};
use super::rows::{Row, values};
use crate::lease::millis;
use crate::lifecycle::State;
use crate::store::model::JobFilter;
use crate::store::{Error, Result, secrets};
use crate::words::{Cancel, Kind, Phase, Priority, Status, Transition};
use proto::ids::JobId;

/// Of a job, and what it belongs to.
pub(super) const COLUMNS: &str = "j.id, j.organization, j.kind, j.state, b.transition, t.name, v.id, \
     w.name, j.owner, s.tags, j.priority, j.attempt, j.created_at, j.started_at, j.completed_at, \
     j.last_update_at, j.daemon, j.sandbox, j.broker, j.engine_name, j.engine_version, j.phases, \
     j.engine_processes, j.error, j.unconfirmed, j.phase, j.gate_open_at IS NOT NULL, j.cancel, \
     j.row, j.queue_deadline_at, j.run_deadline_at";

/// How many columns those are.
pub(super) const WIDTH: usize = 31;

/// Where they are.
pub(super) const TABLES: &str = "jobs j JOIN tagsets s ON s.id = j.tagset JOIN template_versions v ON v.id = j.version \
     JOIN templates t ON t.id = v.template LEFT JOIN builds b ON b.job = j.row \
     LEFT JOIN workspaces w ON w.id = j.workspace";

impl Snapshot<'_> {
    /// Everything about one job, but what is foreseen of it.
    pub(super) fn job_view(self, organization: &str, job: JobId) -> Result<v1::JobView> {
        // An expression, or PostgreSQL, before it knows the table, walks along all jobs of
        // the organization.
        let sql =
            format!("SELECT {COLUMNS} FROM {TABLES} WHERE j.id = ?1 AND j.organization || '' = ?2");
        let statement = self.db.prepare(&sql);
        let found = statement.first(values![&job.to_string(), organization], |row| {
            Ok((self.light_view(row)?, row.get(28)?))
        })?;
        let Some((mut view, row)) = found else {
            return Err(Error::NotFound {
                what: "job",
                name: job.to_string(),
            });
        };
        // Both come with the verdict.
        if view.completed_at_ms.is_some() {
            view.extraction = self.extraction(row)?;
            view.facts = self.facts_of_import(row)?;
        }
        Ok(view)
    }

    /// Newest first, without what is large.
    pub(in crate::store) fn list_jobs(self, filter: &JobFilter) -> Result<Vec<v1::JobView>> {
        let of_status = filter.status.map_or("j.organization = ?1", of_status);
        // An expression has no index to walk along, past all that has ended.
        let order = match filter.status {
            Some(Status::Pending | Status::Running | Status::Canceling) => "j.row + 0",
            Some(Status::Succeeded | Status::Canceled | Status::Failed) | None => "j.row",
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM {TABLES} WHERE {of_status} AND (?2 IS NULL OR j.kind = ?2)
                 AND (?3 IS NULL OR j.owner = ?3) AND (?4 IS NULL OR w.name = ?4)
             ORDER BY {order} DESC LIMIT ?5"
        );
        let statement = self.db.prepare(&sql);
        statement.all(
            values![
                filter.organization,
                filter.kind.map(Kind::as_str),
                filter.owner,
                filter.workspace,
                filter.limit
            ],
            |row| self.light_view(row),
        )
    }

    /// What [`COLUMNS`] tell: all but what is large.
    pub(super) fn light_view(self, row: Row<'_>) -> Result<v1::JobView> {
        let state = word(row, 3, State::from_text)?;
        let created_at_ms: i64 = row.get(12)?;
        let started_at_ms: Option<i64> = row.get(13)?;
        let transition = word_or_null(row, 4, Transition::from_text)?;
        let phase = word_or_null(row, 25, Phase::from_text)?;
        Ok(v1::JobView {
            id: row.get(0)?,
            organization: row.get(1)?,
            kind: word(row, 2, Kind::from_text)?.into(),
            status: state.status().into(),
            transition: transition.map_or(0, i32::from),
            template: row.get(5)?,
            version_id: row.get(6)?,
            workspace: row.get(7)?,
            owner: row.get(8)?,
            tags: tags(row, 9)?.into_iter().collect(),
            priority: word(row, 10, Priority::from_text)?.into(),
            attempt: row.get(11)?,
            created_at_ms,
            started_at_ms,
            completed_at_ms: row.get(14)?,
            queue_wait_ms: started_at_ms.map(|started| count(started - created_at_ms)),
            unreachable_since_ms: self.unreachable_since(state, row.get(15)?),
            daemon: row.get(16)?,
            sandbox: row.get(17)?,
            broker: row.get(18)?,
            engine: engine(row)?,
            phases: self.phases(row, state)?,
            engine_processes: row.get(22)?,
            extraction: None,
            error: message_or_null(row, 23)?,
            unconfirmed: message::<Unconfirmed>(row, 24)?.list,
            phase: phase.map_or(0, i32::from),
            gate_open: row.get(26)?,
            queue_position: None,
            waiting_for: None,
            estimated_start_ms: None,
            cancel_requested: word(row, 27, Cancel::from_text)? != Cancel::None,
            facts: None,
            queue_deadline_at_ms: row.get(29)?,
            run_deadline_at_ms: row.get::<Option<i64>>(30)?.filter(|_| !state.is_terminal()),
        })
    }

    fn unreachable_since(self, state: State, last_update: Option<i64>) -> Option<i64> {
        match state {
            State::Running | State::Canceling => {
                last_update.filter(|last| self.now - last >= millis(self.timings.unreachable))
            }
            State::Pending
            | State::Offered
            | State::Succeeded
            | State::Canceled
            | State::Failed => None,
        }
    }

    /// The phase in hand has lasted until now.
    fn phases(self, row: Row<'_>, state: State) -> Result<Vec<v1::PhaseTiming>> {
        let mut phases = message::<Phases>(row, 21)?.list;
        if !state.is_terminal()
            && let Some(last) = phases.last_mut()
        {
            last.duration_ms = count(self.now - last.started_at_ms);
        }
        Ok(phases)
    }

    fn extraction(self, row: i64) -> Result<Option<v1::Extraction>> {
        let statement = self
            .db
            .prepare("SELECT extraction FROM extractions WHERE job = ?1");
        let found = statement.first(values![row], |row| message::<v1::Extraction>(row, 0))?;
        Ok(found.map(secrets::shown_extraction))
    }

    fn facts_of_import(self, row: i64) -> Result<Option<v1::TemplateFacts>> {
        let statement = self.db.prepare(
            "SELECT v.facts FROM template_versions v JOIN jobs j ON j.version = v.id
             WHERE j.row = ?1 AND j.kind = 'template_import' AND j.state = 'succeeded'",
        );
        let found = statement.first(values![row], |row| {
            message_or_null::<v1::TemplateFacts>(row, 0)
        })?;
        Ok(found.flatten().map(secrets::shown_facts))
    }
}

/// The clause of a status, which names the index it is looked up by in the index's own
/// words. What has not ended is few: those are found first, and the organization is an
/// expression there, so that nobody walks along all of its jobs instead.
fn of_status(status: Status) -> &'static str {
    match status {
        Status::Pending => {
            "j.organization || '' = ?1 AND j.row IN (
                 SELECT row FROM jobs WHERE state = 'pending' AND organization = ?1
                 UNION ALL
                 SELECT row FROM jobs
                     WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                     AND organization = ?1 AND state = 'offered')"
        }
        Status::Running => {
            "j.organization || '' = ?1 AND j.row IN (
                 SELECT row FROM jobs
                     WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                     AND organization = ?1 AND state = 'running')"
        }
        Status::Canceling => {
            "j.organization || '' = ?1 AND j.row IN (
                 SELECT row FROM jobs
                     WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                     AND organization = ?1 AND state = 'canceling')"
        }
        Status::Succeeded => {
            "j.organization = ?1
                 AND (j.state = 'succeeded' OR j.state = 'canceled' OR j.state = 'failed')
                 AND j.state = 'succeeded'"
        }
        Status::Canceled => {
            "j.organization = ?1
                 AND (j.state = 'succeeded' OR j.state = 'canceled' OR j.state = 'failed')
                 AND j.state = 'canceled'"
        }
        Status::Failed => {
            "j.organization = ?1
                 AND (j.state = 'succeeded' OR j.state = 'canceled' OR j.state = 'failed')
                 AND j.state = 'failed'"
        }
    }
}

fn engine(row: Row<'_>) -> Result<Option<v1::EngineFacts>> {
    let Some(name) = row.get(19)? else {
        return Ok(None);
    };
    Ok(Some(v1::EngineFacts {
        name,
        version: row.get::<Option<String>>(20)?.unwrap_or_default(),
    }))
}
