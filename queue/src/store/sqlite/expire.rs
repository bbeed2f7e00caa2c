//! One look at the clock: offers nobody confirmed, leases that ran out, daemons whose
//! control grace is over. Idempotent; a job it does not reach now it reaches next time.

use rusqlite::params;

use super::Tx;
use super::job_row::{COLUMNS, Ending, JobRow};
use crate::lease::millis;
use crate::lifecycle::{self, Event as Happens, Next, State};
use crate::store::Result;
use crate::store::model::Expired;

/// Takes the look.
pub(super) fn run(tx: &mut Tx<'_>) -> Result<Expired> {
    let mut expired = Expired::default();
    for job in tx.overdue()? {
        match job.state {
            State::Offered => {
                tx.withdraw_offer(&job)?;
                expired.withdrawn.push(job.id);
            }
            State::Running | State::Canceling => tx.lose(&job, &mut expired)?,
            State::Pending | State::Succeeded | State::Canceled | State::Failed => {}
        }
    }
    Ok(expired)
}

impl Tx<'_> {
    fn lose(&mut self, job: &JobRow, expired: &mut Expired) -> Result<()> {
        match lifecycle::next(job.standing(), Happens::Lost) {
            Ok(Next::Requeue(attempts)) => {
                self.requeue(job, attempts, Ending::Lost)?;
                expired.requeued.push(job.id);
            }
            Ok(Next::End(state, reason)) => {
                self.end(job, state, reason, None)?;
                expired.ended.push(job.id);
            }
            Ok(Next::Stay | Next::Move(_) | Next::GateOpens) | Err(lifecycle::Refused) => {}
        }
        Ok(())
    }

    fn overdue(&self) -> Result<Vec<JobRow>> {
        let control_before = self.now - millis(self.timings.control_grace);
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs INDEXED BY jobs_in_hand
             WHERE state IN ('offered', 'running', 'canceling') AND (expires_at <= ?1
                 OR (gate_open_at IS NULL AND EXISTS (SELECT 1 FROM daemons d
                     WHERE d.organization = jobs.organization AND d.name = jobs.daemon
                         AND d.control_lost_at <= ?2)))"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map(params![self.now, control_before], JobRow::from_row)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
