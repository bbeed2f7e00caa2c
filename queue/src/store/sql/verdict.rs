//! Giving a job its verdict, whatever led to it, with everything that hangs on it: the
//! import's facts, the workspace's state, what is unconfirmed.

use prost::Message;
use proto::v1::{self, JobError};

use super::Tx;
use super::codec::{Phases, count, message};
use super::job_row::{Ending, JobRow};
use super::rows::values;
use super::workspaces::WorkspaceRow;
use crate::lifecycle::{Reason, State};
use crate::store::model::{Checkpoint, Finish, StateSource};
use crate::store::{Error, Event, Result};
use crate::swap::{self, Swap};
use crate::words::{Kind, Transition};

/// Addresses in the message of an error; the log and the views have all.
const NAMED: usize = 20;

impl Tx<'_> {
    /// Ends a job. `report` is the daemon's finish, when that is what ended it.
    pub(super) fn end(
        &mut self,
        job: &JobRow,
        state: State,
        reason: Reason,
        report: Option<&Finish>,
    ) -> Result<()> {
        let ledger = self.ledger_of(job.row, job.attempt)?;
        let unconfirmed = self.unconfirmed_after(job, reason, report, &ledger)?;
        self.end_attempt(job, ending(reason, report))?;
        let error = verdict_error(reason, report, &unconfirmed);
        self.write_verdict(job, state, error.as_ref())?;
        if let Some(report) = report {
            self.write_report(job, &report.report)?;
        }
        self.write_unconfirmed_of_job(job, &unconfirmed)?;
        self.drop_intended(job)?;
        match job.kind {
            Kind::TemplateImport => self.end_import(job, state, report)?,
            Kind::TemplateDryRun => {}
            Kind::WorkspaceBuild => self.end_build(job, (state, reason), report, &unconfirmed)?,
        }
        self.explain(job, reason, error.as_ref(), &unconfirmed)?;
        self.note_verdict(job, state, report, error.as_ref())?;
        self.emit(Event::JobChanged(job.id));
        self.room_made(job)
    }

    fn write_verdict(&self, job: &JobRow, state: State, error: Option<&JobError>) -> Result<()> {
        let mut phases: Phases = self
            .db
            .prepare("SELECT phases FROM jobs WHERE row = ?1")
            .one(values![job.row], |row| message(row, 0))?;
        if let Some(last) = phases.list.last_mut() {
            last.duration_ms = count(self.now - last.started_at_ms);
        }
        self.db
            .prepare(
                "UPDATE jobs SET state = ?2, completed_at = ?3, error = ?4, phases = ?5
                 WHERE row = ?1",
            )
            .execute(values![
                job.row,
                state.as_str(),
                self.now,
                error.map(Message::encode_to_vec),
                phases.encode_to_vec(),
            ])?;
        Ok(())
    }

    fn write_report(&self, job: &JobRow, report: &v1::FinishJobRequest) -> Result<()> {
        let engine = report.engine.clone().unwrap_or_default();
        let phases = (!report.phases.is_empty()).then(|| {
            let list = report.phases.clone();
            Phases { list }.encode_to_vec()
        });
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        self.db
            .prepare(
                "UPDATE jobs SET engine_name = ?2, engine_version = ?3, engine_processes = ?4,
                     sandbox = ?5, broker = ?6, phases = COALESCE(?7, phases)
                 WHERE row = ?1",
            )
            .execute(values![
                job.row,
                text(&engine.name),
                text(&engine.version),
                report.engine_processes,
                text(&report.sandbox),
                text(&report.broker),
                phases,
            ])?;
        if let Some(extraction) = &report.extraction {
            self.db
                .prepare(
                    "INSERT INTO extractions VALUES (?1, ?2)
 ON CONFLICT (job) DO UPDATE SET extraction = excluded.extraction",
                )
                .execute(values![job.row, extraction.encode_to_vec()])?;
        }
        Ok(())
    }

    fn end_import(&self, job: &JobRow, state: State, report: Option<&Finish>) -> Result<()> {
        if state != State::Succeeded {
            return Ok(());
        }
        let facts = report.and_then(|finish| finish.report.facts.clone());
        self.imported(&job.version, &facts.unwrap_or_default())
    }

    fn end_build(
        &self,
        job: &JobRow,
        (state, reason): (State, Reason),
        report: Option<&Finish>,
        unconfirmed: &[v1::UnconfirmedResource],
    ) -> Result<()> {
        let workspace = self.workspace_of(job)?;
        self.take_state(job, &workspace, reason, report)?;
        if state == State::Succeeded {
            self.settle_by_success(&workspace)?;
            self.delete_if_asked(job, &workspace)?;
        }
        self.note_unconfirmed(job, &workspace, unconfirmed)
    }

    pub(super) fn workspace_of(&self, job: &JobRow) -> Result<WorkspaceRow> {
        let id = job.workspace.as_deref().unwrap_or_default();
        let id = id.parse().map_err(|_| Error::NotFound {
            what: "workspace",
            name: id.to_owned(),
        })?;
        self.hold_workspace(id)
    }

    /// The finish's state, else the attempt's newest checkpoint, replaces the one the
    /// build started from; otherwise it waits for a decision.
    fn take_state(
        &self,
        job: &JobRow,
        workspace: &WorkspaceRow,
        reason: Reason,
        report: Option<&Finish>,
    ) -> Result<()> {
        let brought = report.and_then(|finish| finish.state.clone());
        let checkpoint = self.checkpoint_of(job)?;
        self.drop_checkpoint(job)?;
        let (state, source) = match (brought, checkpoint) {
            (Some(state), _) => (state, StateSource::Finish),
            (None, Some(state)) => (state, source_of_checkpoint(reason)),
            (None, None) => return Ok(()),
        };
        let current = self.header_of(workspace.current_state.as_deref())?;
        let base = self.header_of(self.base_state(job)?.as_deref())?;
        let swap = swap::on_finish(current.as_ref(), base.as_ref(), &header(&state));
        self.apply_swap(job, workspace, swap, (source, &state))
    }

    pub(super) fn apply_swap(
        &self,
        job: &JobRow,
        workspace: &WorkspaceRow,
        swap: Swap,
        (source, state): (StateSource, &Checkpoint),
    ) -> Result<()> {
        let workspace = workspace.id.to_string();
        match swap {
            Swap::Same => {}
            Swap::Replace => {
                let id = self.insert_state(&workspace, source, state, Some(job))?;
                self.make_current(&workspace, &id)?;
            }
            Swap::Aside => {
                let id = self.insert_state(&workspace, source, state, Some(job))?;
                self.let_wait(&id)?;
            }
        }
        Ok(())
    }

    fn delete_if_asked(&self, job: &JobRow, workspace: &WorkspaceRow) -> Result<()> {
        if self.transition_of(job)? != Transition::Delete {
            return Ok(());
        }
        let id = workspace.id.to_string();
        self.db
            .prepare("UPDATE workspaces SET deleted_at = ?2 WHERE id = ?1")
            .execute(values![id, self.now])?;
        self.drop_doubts(workspace)
    }
}

pub(super) fn header(state: &Checkpoint) -> swap::Header {
    swap::Header {
        digest: state.blob.digest,
        serial: state.serial,
        lineage: state.lineage.clone(),
    }
}

fn source_of_checkpoint(reason: Reason) -> StateSource {
    match reason {
        Reason::WorkerLost => StateSource::Recovered,
        Reason::Reported
        | Reason::Canceled
        | Reason::AttemptsExhausted
        | Reason::Abandoned
        | Reason::QueueDeadline
        | Reason::RunDeadline => StateSource::Checkpoint,
    }
}

fn ending(reason: Reason, report: Option<&Finish>) -> Ending {
    match (reason, report) {
        (_, Some(_)) => Ending::Finished,
        (Reason::Canceled, None) => Ending::Canceled,
        (Reason::Abandoned, None) => Ending::Abandoned,
        (
            Reason::Reported
            | Reason::AttemptsExhausted
            | Reason::WorkerLost
            | Reason::QueueDeadline
            | Reason::RunDeadline,
            None,
        ) => Ending::Lost,
    }
}

fn verdict_error(
    reason: Reason,
    report: Option<&Finish>,
    unconfirmed: &[v1::UnconfirmedResource],
) -> Option<JobError> {
    match reason {
        Reason::Reported => report.and_then(|finish| finish.report.error.clone()),
        Reason::Canceled => None,
        Reason::AttemptsExhausted => Some(
            JobError::capacity(
                "ATTEMPTS_EXHAUSTED",
                "the job was handed out again and again and no daemon brought it to its gate",
            )
            .hint("see its log and `provisionerd daemons list`, then `provisionerd jobs retry`"),
        ),
        Reason::Abandoned => Some(
            JobError::internal("JOB_ABANDONED", "an operator gave the job up")
                .hint("nothing was changed; `provisionerd jobs retry` runs it again"),
        ),
        Reason::WorkerLost => Some(worker_lost(unconfirmed)),
        Reason::QueueDeadline => Some(
            JobError::capacity(
                "QUEUE_DEADLINE",
                "no daemon had begun the job when its queue deadline passed",
            )
            .hint("see `provisionerd daemons list`, then `provisionerd jobs retry`"),
        ),
        Reason::RunDeadline => Some(
            JobError::user(
                "RUN_DEADLINE",
                "the job ran longer than its run deadline and was ended",
            )
            .hint("what it made is in the state; submit it again with a later deadline"),
        ),
    }
}

fn worker_lost(unconfirmed: &[v1::UnconfirmedResource]) -> JobError {
    let mut names: Vec<_> = unconfirmed
        .iter()
        .map(|resource| resource.address.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > NAMED {
        names.truncate(NAMED);
        names.push("…");
    }
    let error = JobError::internal(
        "WORKER_LOST",
        if names.is_empty() {
            "the daemon was lost while it changed the world; the newest checkpoint is the state"
                .to_owned()
        } else {
            format!(
                "the daemon was lost while it changed the world; \
                 the newest checkpoint is the state, unconfirmed: {}",
                names.join(", ")
            )
        },
    );
    error.hint(
        "look at `provisionerd workspaces show` and the world itself, then start the workspace again",
    )
}
