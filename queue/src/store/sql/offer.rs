//! What becomes of an offer: it is confirmed, or it goes back.

use proto::ids::{JobId, LeaseId};
use proto::v1;

use super::job_row::{Ending, JobRow};
use super::rows::values;
use super::{Snapshot, Tx};
use crate::lease::millis;
use crate::lifecycle::{self, Event as Happens, Next, State};
use crate::store::model::{Begun, DaemonRef};
use crate::store::{Error, Event, Result};

impl Tx<'_> {
    pub(super) fn confirm(
        &mut self,
        daemon: &DaemonRef,
        id: JobId,
        lease: LeaseId,
    ) -> Result<Begun> {
        let gone = || Error::OfferGone { job: id };
        let held = self.hold_attempt(&self.named(daemon, id, lease))?;
        let Some((mut job, Some(_))) = held.filter(|(job, _)| job.lease == Some(lease)) else {
            return Err(gone());
        };
        let first = match lifecycle::next(job.standing(), Happens::Confirm).map_err(|_| gone())? {
            Next::Move(State::Running) => {
                self.begin(&mut job)?;
                !job.has_run
            }
            Next::Stay => false,
            Next::Move(_) | Next::GateOpens | Next::Requeue(_) | Next::End(..) => {
                return Err(gone());
            }
        };
        Ok(Begun {
            lease: self.lease_of(&job, lease),
            first,
        })
    }

    fn begin(&mut self, job: &mut JobRow) -> Result<()> {
        job.expires_at = self.now + millis(self.timings.lease_pending);
        self.db
            .prepare(
                "UPDATE jobs SET state = 'running', started_at = COALESCE(started_at, ?2),
                     last_update_at = ?2, expires_at = ?3,
                     run_deadline_at = ?2 + run_deadline_ms
                 WHERE row = ?1",
            )
            .run(values![job.row, self.now, job.expires_at])?;
        self.db
            .prepare("UPDATE attempts SET confirmed_at = ?3 WHERE job = ?1 AND attempt = ?2")
            .run(values![job.row, job.attempt, self.now])?;
        self.emit(Event::JobChanged(job.id));
        Ok(())
    }

    /// Takes a hand-out back whose stream broke before it was confirmed; anything else is
    /// left as it is.
    pub(super) fn withdraw(&mut self, id: JobId, lease: LeaseId) -> Result<()> {
        match self.hold_job(id)? {
            Some(job) if job.lease == Some(lease) && job.state == State::Offered => {
                self.take_back(&job, Happens::Undelivered)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes an offer back.
    pub(super) fn take_back(&mut self, job: &JobRow, why: Happens) -> Result<()> {
        match lifecycle::next(job.standing(), why) {
            Ok(Next::Requeue(attempts)) => self.requeue(job, attempts, Ending::Withdrawn),
            Ok(Next::End(state, reason)) => self.end(job, state, reason, None),
            Ok(Next::Stay | Next::Move(_) | Next::GateOpens) | Err(lifecycle::Refused) => Ok(()),
        }
    }
}

impl Snapshot<'_> {
    /// What is left of the job's lease.
    pub(super) fn lease_of(self, job: &JobRow, lease: LeaseId) -> v1::Lease {
        let left = super::codec::count(job.expires_at - self.now);
        let left = std::time::Duration::from_millis(left);
        crate::lease::remaining(lease, job.attempt, left, job.side(), self.timings)
    }
}
