//! One look at the clock: offers nobody confirmed, leases that ran out, daemons whose
//! control grace is over, deadlines of jobs. Idempotent; a job it does not reach now it
//! reaches next time.

use super::Tx;
use super::job_row::{COLUMNS, Ending, JobRow};
use super::rows::values;
use crate::lease::{self, Side, millis};
use crate::lifecycle::{self, Event as Happens, Next, State};
use crate::store::Result;
use crate::store::model::Expired;

/// Jobs past their deadline that one look ends: a thousand that were submitted together
/// do not hold up everybody's writes.
const AT_ONCE: u32 = 100;

/// Takes the look.
pub(super) fn run(tx: &mut Tx<'_>) -> Result<Expired> {
    let mut expired = Expired::default();
    let overdue = tx.overdue()?;
    let patience = if overdue.is_empty() {
        0
    } else {
        tx.patience()?
    };
    for job in overdue {
        match job.state {
            State::Offered => {
                tx.take_back(&job, Happens::Withdraw)?;
                expired.withdrawn.push(job.id);
            }
            State::Running | State::Canceling => {
                if tx.is_lost(&job, patience)? {
                    tx.lose(&job, &mut expired)?;
                }
            }
            State::Pending | State::Succeeded | State::Canceled | State::Failed => {}
        }
    }
    for job in tx.waited_too_long()? {
        if let Ok(Next::End(state, reason)) =
            lifecycle::next(job.standing(), Happens::QueueDeadline)
        {
            tx.end(&job, state, reason, None)?;
            expired.ended.push(job.id);
        }
    }
    for job in tx.running_too_long()? {
        tx.overrun(&job)?;
    }
    Ok(expired)
}

impl Tx<'_> {
    fn waited_too_long(&self) -> Result<Vec<JobRow>> {
        self.past(
            "jobs INDEXED BY jobs_wait_ends
             WHERE state = 'pending' AND started_at IS NULL AND queue_deadline_at IS NOT NULL
                 AND queue_deadline_at <= ?1 ORDER BY queue_deadline_at",
        )
    }

    fn running_too_long(&self) -> Result<Vec<JobRow>> {
        self.past(
            "jobs INDEXED BY jobs_run_ends
             WHERE state = 'running' AND run_deadline_at IS NOT NULL
                 AND run_deadline_at <= ?1 ORDER BY run_deadline_at",
        )
    }

    fn past(&self, which: &str) -> Result<Vec<JobRow>> {
        let sql =
            format!("SELECT {COLUMNS} FROM {which} LIMIT {AT_ONCE} FOR NO KEY UPDATE SKIP LOCKED");
        self.db
            .prepare(&sql)
            .all(values![self.now], JobRow::from_row)
    }

    /// For how much longer than their leases jobs before the gate are waited for. A replica
    /// that has gone leaves daemons that come back by another one, all at the same time: as
    /// after a restart of the queue, those that live get their word in first.
    fn patience(&self) -> Result<i64> {
        let silent = self.now - millis(lease::silent(self.timings));
        let settle = millis(self.timings.store_settle);
        let statement = self
            .db
            .prepare("SELECT EXISTS (SELECT 1 FROM replicas WHERE seen_at <= ?1 AND seen_at > ?2)");
        let gone = statement.one(values![silent, silent - settle], |row| row.get::<bool>(0))?;
        Ok(if gone { settle } else { 0 })
    }

    /// Asked again now that the job is held: its daemon may have been heard between the
    /// look at the daemon and the hold.
    fn is_lost(&self, job: &JobRow, patience: i64) -> Result<bool> {
        let until = match job.side() {
            Side::BeforeGate => job.expires_at.saturating_add(patience),
            Side::AfterGate => job.expires_at,
        };
        if lease::is_over(until, self.now) {
            return Ok(true);
        }
        let statement = self.db.prepare(
            "SELECT control_lost_at FROM daemons
             WHERE organization = ?1 AND name = ?2 AND control_lost_at IS NOT NULL",
        );
        let lost_at = statement.first(values![job.organization, job.daemon], |row| row.get(0))?;
        Ok(job.side() == Side::BeforeGate
            && lost_at.is_some_and(|at| lease::control_is_over(at, self.now, self.timings)))
    }

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
             WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                 AND (expires_at <= ?1
                 OR (gate_open_at IS NULL AND EXISTS (SELECT 1 FROM daemons d
                     WHERE d.organization = jobs.organization AND d.name = jobs.daemon
                         AND d.control_lost_at <= ?2))) FOR NO KEY UPDATE SKIP LOCKED"
        );
        let statement = self.db.prepare(&sql);
        statement.all(values![self.now, control_before], JobRow::from_row)
    }
}
