//! Finish: every ending a daemon reports. It is stored in any case; what it changes
//! depends on whether its lease still holds the job.

use super::Tx;
use super::job_row::{Ending, JobRow};
use super::logs::Stored;
use super::rows::values;
use crate::lifecycle::{self, Event as Happens, Next};
use crate::store::model::{Disposition, Finish, Holder};
use crate::store::{Error, Result};

impl Tx<'_> {
    pub(super) fn finish(&mut self, finish: &Finish) -> Result<Disposition> {
        self.heard(&finish.daemon)?;
        if let Some(state) = &finish.state {
            let holder = Holder::Lease {
                daemon: finish.daemon.clone(),
                job: finish.job,
                lease: finish.lease,
            };
            self.may_name(state.blob, &holder)?;
        }
        let job = self
            .hold_job(finish.job)?
            .filter(|job| job.organization == finish.daemon.organization);
        let Some(job) = job else {
            return self.keep_aside(finish, Disposition::Unclaimed);
        };
        let Some(stored) = self.attempt_of(&job, &finish.daemon, finish.lease)? else {
            return self.keep_aside(finish, Disposition::Unclaimed);
        };
        self.append_lines(&job, &stored, &finish.report.lines)?;
        if job.lease == Some(finish.lease) && !job.state.is_terminal() {
            self.append_ledger(&job, &finish.report.ledger)?;
            self.apply_finish(&job, finish)?;
            return Ok(Disposition::Applied);
        }
        if self.ended_by_finish(&job, &stored)? {
            return Ok(Disposition::Applied);
        }
        self.late(&job, &stored, finish)?;
        self.keep_aside(finish, Disposition::Late)
    }

    fn apply_finish(&mut self, job: &JobRow, finish: &Finish) -> Result<()> {
        let event = Happens::Finish(finish.outcome, finish.release);
        match lifecycle::next(job.standing(), event) {
            Ok(Next::Requeue(attempts)) => self.requeue(job, attempts, Ending::Released),
            Ok(Next::End(state, reason)) => self.end(job, state, reason, Some(finish)),
            Ok(Next::Stay | Next::Move(_) | Next::GateOpens) | Err(lifecycle::Refused) => {
                Err(Error::WrongStatus {
                    job: job.id,
                    status: job.state.status(),
                    need: "a finish needs a job in a daemon's hands",
                })
            }
        }
    }

    /// Whether this very attempt was ended by a finish: then this is a repetition.
    fn ended_by_finish(&self, job: &JobRow, stored: &Stored) -> Result<bool> {
        let statement = self.db.prepare(
            "SELECT ending IN ('finished', 'released') FROM attempts
             WHERE job = ?1 AND attempt = ?2",
        );
        let found = statement.first(values![job.row, stored.attempt], |row| {
            row.get::<Option<bool>>(0)
        })?;
        Ok(found.flatten().unwrap_or(false))
    }
}
