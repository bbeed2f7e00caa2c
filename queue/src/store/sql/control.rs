//! What people do to jobs: cancel, abandon, retry.

use std::collections::HashMap;
use std::time::Duration;

use proto::ids::JobId;
use proto::v1;

use super::Tx;
use super::codec::{Parameters, message, word};
use super::job_row::JobRow;
use super::rows::{Row, values};
use super::submit::NewJob;
use super::workspaces::NewBuild;
use crate::lifecycle::{self, Event as Happens, Next, State};
use crate::store::model::{Abandon, Deadlines, Submission};
use crate::store::{Error, Event, Result};
use crate::words::{Cancel, Kind, Priority};

impl Tx<'_> {
    pub(super) fn cancel(&mut self, organization: &str, id: JobId, kind: Cancel) -> Result<()> {
        let job = self.hold_job_of(organization, id)?;
        match lifecycle::next(job.standing(), Happens::Cancel) {
            Ok(Next::End(state, reason)) => {
                self.set_cancel(&job, kind)?;
                self.end(&job, state, reason, None)
            }
            Ok(Next::Move(state)) => {
                self.set_state(&job, state)?;
                self.set_cancel(&job, kind)
            }
            Ok(Next::Stay) => self.set_cancel(&job, kind),
            Ok(Next::GateOpens | Next::Requeue(_)) | Err(lifecycle::Refused) => {
                Err(wrong(&job, "only a job that has not ended can be canceled"))
            }
        }
    }

    /// A stronger cancel replaces a weaker one, never the other way round.
    fn set_cancel(&mut self, job: &JobRow, kind: Cancel) -> Result<()> {
        let kind = kind.max(job.cancel);
        self.db
            .prepare("UPDATE jobs SET cancel = ?2, overdue = 0 WHERE row = ?1")
            .execute(values![job.row, kind.as_str()])?;
        self.emit(Event::JobChanged(job.id));
        if let Some(daemon) = &job.daemon {
            self.emit(Event::CancelRequested {
                job: job.id,
                organization: job.organization.clone(),
                daemon: daemon.clone(),
                kind,
            });
        }
        Ok(())
    }

    /// The deadline of its run asks for a cancel, as a person would; whoever asks later
    /// is believed instead.
    pub(super) fn overrun(&mut self, job: &JobRow) -> Result<()> {
        let Ok(Next::Move(state)) = lifecycle::next(job.standing(), Happens::RunDeadline) else {
            return Ok(());
        };
        self.set_state(job, state)?;
        self.set_cancel(job, Cancel::Cancel)?;
        self.db
            .prepare("UPDATE jobs SET overdue = 1 WHERE row = ?1")
            .execute(values![job.row])?;
        Ok(())
    }

    fn set_state(&self, job: &JobRow, state: State) -> Result<()> {
        self.db
            .prepare("UPDATE jobs SET state = ?2 WHERE row = ?1")
            .execute(values![job.row, state.as_str()])?;
        Ok(())
    }

    pub(super) fn abandon(&mut self, organization: &str, id: JobId, how: Abandon) -> Result<()> {
        let job = self.hold_job_of(organization, id)?;
        match lifecycle::next(job.standing(), Happens::Abandon) {
            Ok(Next::End(state, reason)) => {
                self.end(&job, state, reason, None)?;
                if how == Abandon::Careful && job.gate_open_at.is_some() {
                    self.hold_starts(&job)?;
                }
                Ok(())
            }
            Ok(Next::Stay | Next::Move(_) | Next::GateOpens | Next::Requeue(_))
            | Err(lifecycle::Refused) => {
                if how == Abandon::Force && self.release_starts(&job)? {
                    return Ok(());
                }
                Err(wrong(
                    &job,
                    "only a job in a daemon's hands can be abandoned",
                ))
            }
        }
    }

    fn hold_starts(&self, job: &JobRow) -> Result<()> {
        self.db
            .prepare("UPDATE workspaces SET abandoned_job = ?2, abandoned_until = ?3 WHERE id = ?1")
            .execute(values![job.workspace, job.id.to_string(), job.expires_at])?;
        Ok(())
    }

    /// Lifts the hold of a job abandoned before; whether there was one.
    fn release_starts(&self, job: &JobRow) -> Result<bool> {
        let lifted = self
            .db
            .prepare(
                "UPDATE workspaces SET abandoned_job = NULL, abandoned_until = NULL
                 WHERE id = ?1 AND abandoned_job = ?2",
            )
            .execute(values![job.workspace, job.id.to_string()])?;
        Ok(lifted > 0)
    }

    pub(super) fn retry(
        &mut self,
        organization: &str,
        id: JobId,
        trace_context: &HashMap<String, String>,
    ) -> Result<JobId> {
        let job = self.hold_job_of(organization, id)?;
        match job.state {
            State::Canceled | State::Failed => {}
            State::Pending
            | State::Offered
            | State::Running
            | State::Canceling
            | State::Succeeded => {
                return Err(wrong(
                    &job,
                    "only a failed or canceled job can be tried again",
                ));
            }
        }
        let (submission, parameters) = self.submission_of(&job, trace_context)?;
        let new = NewJob {
            organization,
            kind: job.kind,
            version: &job.version,
            workspace: None,
            parameters: &parameters,
            submission: &submission,
        };
        match job.kind {
            Kind::TemplateImport => {
                let id = self.insert_job(&new)?;
                self.set_import_job(&job.version, id)?;
                Ok(id)
            }
            Kind::TemplateDryRun => self.insert_job(&new),
            Kind::WorkspaceBuild => self.retry_build(&job, &submission, &parameters),
        }
    }

    fn retry_build(
        &mut self,
        job: &JobRow,
        submission: &Submission,
        parameters: &[v1::ParameterValue],
    ) -> Result<JobId> {
        let workspace = self.workspace_of(job)?;
        let last = self.last_build(&workspace)?;
        if last.job_row != job.row {
            return Err(wrong(
                job,
                "only the newest build of a workspace can be tried again",
            ));
        }
        let waits = self.has_waiting_state(workspace.id)?;
        self.may_build(&workspace, &last, (last.transition, last.forget), waits)?;
        self.insert_build(&NewBuild {
            workspace: &workspace,
            number: last.number + 1,
            transition: last.transition,
            version: &last.version,
            forget: last.forget,
            parameters,
            submission,
        })
    }

    /// What an earlier job was submitted with.
    fn submission_of(
        &self,
        job: &JobRow,
        trace_context: &HashMap<String, String>,
    ) -> Result<(Submission, Vec<v1::ParameterValue>)> {
        let tags = self.tags_of(job.tagset)?;
        let statement = self.db.prepare(
            "SELECT owner, priority, parameters, queue_deadline_at - created_at, run_deadline_ms
             FROM jobs WHERE row = ?1",
        );
        statement.one(values![job.row], |row| {
            let submission = Submission {
                owner: row.get(0)?,
                priority: word(row, 1, Priority::from_text)?,
                tags,
                trace_context: trace_context.clone(),
                deadlines: Deadlines {
                    queue: duration(row, 3)?,
                    run: duration(row, 4)?,
                },
            };
            Ok((submission, message::<Parameters>(row, 2)?.list))
        })
    }
}

/// A nullable column of milliseconds.
fn duration(row: Row<'_>, index: usize) -> Result<Option<Duration>> {
    let ms: Option<u64> = row.get(index)?;
    Ok(ms.map(Duration::from_millis))
}

fn wrong(job: &JobRow, need: &'static str) -> Error {
    Error::WrongStatus {
        job: job.id,
        status: job.state.status(),
        need,
    }
}
