//! Giving a job its verdict, whatever led to it, with everything that hangs on it: the
//! import's facts, the workspace's state, what is unconfirmed.

use prost::Message;
use proto::v1::{self, JobError};

use super::Tx;
use super::codec::Phases;
use super::doubts::encoded;
use super::job_row::{Ending, JobRow};
use super::known::{Build, Known};
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
        let known = self.known_of(job)?;
        self.end_knowing(job, known, (state, reason), report)
    }

    /// The same, by who has asked already.
    pub(super) fn end_knowing(
        &mut self,
        job: &JobRow,
        known: Known,
        (state, reason): (State, Reason),
        report: Option<&Finish>,
    ) -> Result<()> {
        let (intends, limited) = (known.intends, known.limited);
        let unconfirmed = self.unconfirmed_after(job, reason, report, &known)?;
        self.end_attempt(job, ending(reason, report))?;
        let error = verdict_error(reason, report, &unconfirmed);
        let mut ended = job.clone();
        self.explain(&mut ended, reason, error.as_ref(), &unconfirmed)?;
        self.end_phase(&mut ended);
        let verdict = Verdict {
            state,
            error: error.as_ref(),
            unconfirmed: &unconfirmed,
            report: report.map(|finish| &*finish.report),
        };
        self.write_verdict(&ended, &verdict)?;
        if intends {
            self.drop_intended(job)?;
        }
        match job.kind {
            Kind::TemplateImport => self.end_import(job, state, report)?,
            Kind::TemplateDryRun => {}
            Kind::WorkspaceBuild => self.end_build(job, known, &verdict, (reason, report))?,
        }
        self.note_verdict(job, state, report, error.as_ref())?;
        self.emit(Event::JobChanged(job.id));
        if limited {
            self.room_made(job)?;
        }
        Ok(())
    }

    fn write_verdict(&self, job: &JobRow, verdict: &Verdict<'_>) -> Result<()> {
        let report = verdict.report;
        let engine = report.and_then(|report| report.engine.as_ref());
        let text = |value: Option<&String>| value.filter(|text| !text.is_empty()).cloned();
        let phases = match report {
            Some(report) if !report.phases.is_empty() => report.phases.clone(),
            Some(_) | None => job.phases.list.clone(),
        };
        self.db
            .prepare(
                "UPDATE jobs SET state = ?2, completed_at = ?3, error = ?4, phases = ?5,
                     unconfirmed = ?6, log_end = ?7, engine_name = ?8, engine_version = ?9,
                     engine_processes = ?10, sandbox = ?11, broker = ?12
                 WHERE row = ?1",
            )
            .run(values![
                job.row,
                verdict.state.as_str(),
                self.now,
                verdict.error.map(Message::encode_to_vec),
                Phases { list: phases }.encode_to_vec(),
                encoded(verdict.unconfirmed),
                job.log_end,
                text(engine.map(|engine| &engine.name)),
                text(engine.map(|engine| &engine.version)),
                report.map(|report| report.engine_processes),
                text(report.map(|report| &report.sandbox)),
                text(report.map(|report| &report.broker)),
            ])?;
        let Some(extraction) = report.and_then(|report| report.extraction.as_ref()) else {
            return Ok(());
        };
        self.db
            .prepare(
                "INSERT INTO extractions VALUES (?1, ?2)
                 ON CONFLICT (job) DO UPDATE SET extraction = excluded.extraction",
            )
            .run(values![job.row, extraction.encode_to_vec()])
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
        known: Known,
        verdict: &Verdict<'_>,
        (reason, report): (Reason, Option<&Finish>),
    ) -> Result<()> {
        let Some(build) = known.build else {
            return Err(no_workspace(job));
        };
        let brought = report.and_then(|finish| finish.state.clone());
        self.take_state(job, &build, (brought, known.checkpoint), reason)?;
        if verdict.state == State::Succeeded {
            self.settle_by_success(&build.workspace, &build.doubts)?;
            self.delete_if_asked(&build)?;
        }
        self.note_unconfirmed(job, &build.workspace, verdict.unconfirmed)
    }

    pub(super) fn workspace_of(&self, job: &JobRow) -> Result<WorkspaceRow> {
        let id = job.workspace.as_deref().and_then(|id| id.parse().ok());
        self.hold_workspace(id.ok_or_else(|| no_workspace(job))?)
    }

    /// The finish's state, else the attempt's newest checkpoint, replaces the one the
    /// build started from; otherwise it waits for a decision.
    fn take_state(
        &self,
        job: &JobRow,
        build: &Build,
        (brought, checkpoint): (Option<Checkpoint>, Option<Checkpoint>),
        reason: Reason,
    ) -> Result<()> {
        if checkpoint.is_some() {
            self.drop_checkpoint(job)?;
        }
        let (state, source) = match (brought, checkpoint) {
            (Some(state), _) => (state, StateSource::Finish),
            (None, Some(state)) => (state, source_of_checkpoint(reason)),
            (None, None) => return Ok(()),
        };
        let (current, base) = (build.current.as_ref(), build.base.as_ref());
        let swap = swap::on_finish(current, base, &header(&state));
        self.apply_swap(job, &build.workspace, swap, (source, &state))
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

    fn delete_if_asked(&self, build: &Build) -> Result<()> {
        if build.transition != Transition::Delete {
            return Ok(());
        }
        let id = build.workspace.id.to_string();
        self.db
            .prepare("UPDATE workspaces SET deleted_at = ?2 WHERE id = ?1")
            .run(values![id, self.now])?;
        self.drop_doubts(&build.workspace)
    }
}

/// What is written of an ending.
struct Verdict<'a> {
    state: State,
    error: Option<&'a JobError>,
    unconfirmed: &'a [v1::UnconfirmedResource],
    report: Option<&'a v1::FinishJobRequest>,
}

pub(super) fn no_workspace(job: &JobRow) -> Error {
    Error::NotFound {
        what: "workspace",
        name: job.workspace.clone().unwrap_or_default(),
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
