//! Jobs and workspaces as clients see them: without secrets.

use proto::v1;
use rusqlite::{OptionalExtension, Row, params};

use super::codec::{
    Parameters, Phases, Unconfirmed, count, message, message_or_null, tags, word, word_or_null,
};
use super::daemons::DaemonRow;
use super::workspaces::WorkspaceRow;
use super::{Snapshot, codec};
use crate::lease::millis;
use crate::lifecycle::State;
use crate::matching::{self, Tags};
use crate::store::model::{JobFilter, Submitted, WorkspaceName};
use crate::store::{Deleted, Error, Result};
use crate::words::{Cancel, Kind, Phase, Priority, Transition};
use proto::ids::{JobId, WorkspaceId};

const JOB: &str = "SELECT j.id, j.organization, j.kind, j.state, b.transition, t.name, v.id, \
     w.name, j.owner, s.tags, j.priority, j.attempt, j.created_at, j.started_at, j.completed_at, \
     j.last_update_at, j.daemon, j.sandbox, j.broker, j.engine_name, j.engine_version, j.phases, \
     j.engine_processes, j.error, j.unconfirmed, j.phase, j.gate_open_at IS NOT NULL, j.cancel, \
     j.row, j.tagset, j.state \
     FROM jobs j JOIN tagsets s ON s.id = j.tagset JOIN template_versions v ON v.id = j.version \
     JOIN templates t ON t.id = v.template LEFT JOIN builds b ON b.job = j.row \
     LEFT JOIN workspaces w ON w.id = j.workspace";

/// Jobs ahead are counted up to this many: beyond, nobody waits for the exact number,
/// and every submit answers with it.
const POSITION_COUNTED: u32 = 100;

/// Where a pending job stands in line.
struct Line {
    row: i64,
    tagset: i64,
    organization: String,
    priority: Priority,
    tags: Tags,
    pending: bool,
}

impl Snapshot<'_> {
    /// Everything about one job.
    pub(super) fn job_view(self, organization: &str, job: JobId) -> Result<v1::JobView> {
        let sql = format!("{JOB} WHERE j.id = ?1 AND j.organization = ?2");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let found = statement.query_row([&job.to_string(), organization], |row| {
            Ok((self.light_view(row)?, line(row)?))
        });
        let Some((mut view, line)) = found.optional()? else {
            return Err(Error::NotFound {
                what: "job",
                name: job.to_string(),
            });
        };
        if line.pending {
            view.queue_position = Some(self.position(&line)?);
            view.waiting_for = self.waiting_for(&line)?;
        }
        view.extraction = self.extraction(line.row)?;
        view.facts = self.facts_of_import(line.row)?;
        Ok(view)
    }

    /// Newest first, without what is large.
    pub(super) fn list_jobs(self, filter: &JobFilter) -> Result<Vec<v1::JobView>> {
        let sql = format!(
            "{JOB} WHERE j.organization = ?1 AND (?2 IS NULL OR j.kind = ?2)
                 AND (?3 IS NULL OR j.state = ?3 OR (?3 = 'pending' AND j.state = 'offered'))
                 AND (?4 IS NULL OR j.owner = ?4) AND (?5 IS NULL OR w.name = ?5)
             ORDER BY j.row DESC LIMIT ?6"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map(
            params![
                filter.organization,
                filter.kind.map(Kind::as_str),
                filter.status.map(crate::words::Status::as_str),
                filter.owner,
                filter.workspace,
                filter.limit
            ],
            |row| self.light_view(row),
        )?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn light_view(self, row: &Row<'_>) -> rusqlite::Result<v1::JobView> {
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
            cancel_requested: word(row, 27, Cancel::from_text)? != Cancel::None,
            facts: None,
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
    fn phases(self, row: &Row<'_>, state: State) -> rusqlite::Result<Vec<v1::PhaseTiming>> {
        let mut phases = message::<Phases>(row, 21)?.list;
        if !state.is_terminal()
            && let Some(last) = phases.last_mut()
        {
            last.duration_ms = count(self.now - last.started_at_ms);
        }
        Ok(phases)
    }

    /// Pending jobs with the same tags that go first, but for fairness; see
    /// [`POSITION_COUNTED`].
    fn position(self, line: &Line) -> Result<u32> {
        let mut statement = self.conn.prepare_cached(
            "SELECT COUNT(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_ready
             WHERE state = 'pending' AND organization = ?1 AND tagset = ?2
                 AND ((priority = ?3 AND row < ?4)
                     OR (priority = 'interactive' AND ?3 = 'automatic'))
             LIMIT ?5)",
        )?;
        let arguments = params![
            line.organization,
            line.tagset,
            line.priority.as_str(),
            line.row,
            POSITION_COUNTED
        ];
        Ok(statement.query_row(arguments, |row| row.get(0))?)
    }

    fn waiting_for(self, line: &Line) -> Result<Option<String>> {
        let daemons: Vec<_> = self
            .daemons(&line.organization)?
            .into_iter()
            .filter(|daemon| daemon.live && !daemon.draining)
            .collect();
        let offers: Vec<_> = daemons.iter().map(DaemonRow::offer).collect();
        if let Some(obstacle) = matching::obstacle(&offers, &line.tags) {
            return Ok(Some(obstacle));
        }
        let able: Vec<_> = daemons
            .iter()
            .filter(|daemon| daemon.offer().may_take(&line.tags))
            .collect();
        let slots: u32 = able.iter().map(|daemon| daemon.view.slots).sum();
        let busy: usize = able.iter().map(|daemon| daemon.view.jobs.len()).sum();
        Ok((busy >= slots as usize).then(|| {
            format!(
                "all {slots} slots of the {} daemons that may take it are busy",
                able.len()
            )
        }))
    }

    fn extraction(self, row: i64) -> Result<Option<v1::Extraction>> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT extraction FROM extractions WHERE job = ?1")?;
        let found = statement.query_row([row], |row| message::<v1::Extraction>(row, 0));
        Ok(found.optional()?.map(without_secrets))
    }

    fn facts_of_import(self, row: i64) -> Result<Option<v1::TemplateFacts>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT v.facts FROM template_versions v JOIN jobs j ON j.version = v.id
             WHERE j.row = ?1 AND j.kind = 'template_import' AND j.state = 'succeeded'",
        )?;
        let found = statement.query_row([row], |row| message_or_null::<v1::TemplateFacts>(row, 0));
        Ok(found.optional()?.flatten().map(without_secrets_of_facts))
    }

    // ------------------------------------------------ workspaces

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
        let mut statement = self.conn.prepare_cached(
            "SELECT id FROM workspaces
             WHERE organization = ?1 AND (?2 IS NULL OR owner = ?2)
                 AND (?3 OR deleted_at IS NULL)
             ORDER BY owner, name, created_at",
        )?;
        let ids = statement.query_map(
            params![organization, owner, deleted == Deleted::Show],
            |row| codec::id::<WorkspaceId>(row, 0),
        )?;
        ids.map(|id| self.light_workspace(&self.workspace_row(id?)?))
            .collect()
    }

    fn full_workspace(self, row: &WorkspaceRow) -> Result<v1::Workspace> {
        let mut view = self.light_workspace(row)?;
        let mut statement = self.conn.prepare_cached(
            "SELECT e.extraction FROM extractions e JOIN jobs j ON j.row = e.job
             WHERE j.workspace = ?1 AND j.state = 'succeeded' ORDER BY j.row DESC LIMIT 1",
        )?;
        let found = statement.query_row([row.id.to_string()], |row| {
            message::<v1::Extraction>(row, 0)
        });
        view.resources = found
            .optional()?
            .map(|extraction| without_secrets(extraction).resources)
            .unwrap_or_default();
        Ok(view)
    }

    fn light_workspace(self, row: &WorkspaceRow) -> Result<v1::Workspace> {
        let id = row.id.to_string();
        let mut statement = self.conn.prepare_cached(
            "SELECT t.name, w.created_at FROM workspaces w JOIN templates t ON t.id = w.template
             WHERE w.id = ?1",
        )?;
        let (template, created_at_ms) =
            statement.query_row([&id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (build, parameters) = self.last_build_view(&id)?;
        Ok(v1::Workspace {
            id,
            name: row.name.clone(),
            owner: row.owner.clone(),
            template,
            created_at_ms,
            latest_build: Some(build),
            unconfirmed: self.unconfirmed_of(row.id)?,
            resources: Vec::new(),
            parameters,
            deleted: row.deleted,
            state_conflict: self.has_waiting_state(row.id)?,
        })
    }

    fn last_build_view(self, workspace: &str) -> Result<(v1::Build, Vec<v1::ParameterValue>)> {
        let mut statement = self.conn.prepare_cached(
            "SELECT b.id, b.number, b.transition, b.version, j.id, j.state, b.created_at,
                 j.parameters
             FROM builds b JOIN jobs j ON j.row = b.job
             WHERE b.workspace = ?1 ORDER BY b.number DESC LIMIT 1",
        )?;
        Ok(statement.query_row([workspace], |row| {
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
        })?)
    }

    /// A job just stored, with what it belongs to.
    pub(super) fn submitted(self, job: JobId) -> Result<Submitted> {
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
        })
    }
}

fn line(row: &Row<'_>) -> rusqlite::Result<Line> {
    Ok(Line {
        organization: row.get(1)?,
        tags: tags(row, 9)?,
        priority: word(row, 10, Priority::from_text)?,
        row: row.get(28)?,
        tagset: row.get(29)?,
        pending: word(row, 30, State::from_text)? == State::Pending,
    })
}

fn engine(row: &Row<'_>) -> rusqlite::Result<Option<v1::EngineFacts>> {
    let Some(name) = row.get(19)? else {
        return Ok(None);
    };
    Ok(Some(v1::EngineFacts {
        name,
        version: row.get::<_, Option<String>>(20)?.unwrap_or_default(),
    }))
}

/// Empties agent tokens and sensitive metadata.
pub(super) fn without_secrets(mut extraction: v1::Extraction) -> v1::Extraction {
    for resource in &mut extraction.resources {
        for item in resource.metadata.iter_mut().filter(|item| item.sensitive) {
            item.value.clear();
        }
        for agent in &mut resource.agents {
            if let Some(v1::agent::Auth::Token(token)) = &mut agent.auth {
                token.clear();
            }
        }
    }
    extraction
}

/// The same for both plans of an import; defaults of sensitive variables are emptied.
pub(super) fn without_secrets_of_facts(mut facts: v1::TemplateFacts) -> v1::TemplateFacts {
    facts.start = facts.start.map(without_secrets);
    facts.stop = facts.stop.map(without_secrets);
    for variable in facts
        .variables
        .iter_mut()
        .filter(|variable| variable.sensitive)
    {
        variable.default_value.clear();
    }
    facts
}
