//! Finish: every ending a daemon reports. It is stored in any case; what it changes
//! depends on whether its lease still holds the job.

use super::Tx;
use super::job_row::{Ending, JobRow};
use super::logs::{Came, Run, Stored};
use super::rows::values;
use crate::lifecycle::{self, Event as Happens, Next};
use crate::store::model::{Disposition, Finish, Holder};
use crate::store::{Error, Result};

impl Tx<'_> {
    /// `whole` is [`Run::of_batch`] of its lines.
    pub(super) fn finish(&mut self, finish: &Finish, whole: Option<&Run>) -> Result<Disposition> {
        self.heard(&finish.daemon)?;
        if let Some(state) = &finish.state {
            let holder = Holder::Lease {
                daemon: finish.daemon.clone(),
                job: finish.job,
                lease: finish.lease,
            };
            self.may_name(state.blob, &holder)?;
        }
        let held = self.hold_attempt(&finish.daemon, finish.job, finish.lease)?;
        let Some((mut job, Some(mut stored))) = held else {
            return self.keep_aside(finish, Disposition::Unclaimed);
        };
        let came = self.append_lines(&mut job, &mut stored, &finish.report.lines, whole)?;
        if job.lease == Some(finish.lease) && !job.state.is_terminal() {
            if came == Came::Lines {
                self.write_stored(&job, &stored, None)?;
            }
            self.append_ledger(&job, &finish.report.ledger)?;
            self.apply_finish(&job, finish)?;
            return Ok(Disposition::Applied);
        }
        self.write_lines(&job, &stored, came)?;
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
