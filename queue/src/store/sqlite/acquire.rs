//! Handing out: from all pending jobs of an organization to the one a daemon gets.
//!
//! Jobs are matched by their *set* of tags, of which there are few, and of each owner
//! only the oldest takes part, so that ten thousand waiting jobs cost one scan of an
//! index.

use std::collections::HashMap;

use proto::ids::{JobId, LeaseId};
use proto::v1;
use rusqlite::params;

use super::codec::{tags, word};
use super::{Snapshot, Tx};
use crate::lease::millis;
use crate::lifecycle::{self, Event as Happens, Next, State};
use crate::matching::{self, Candidate, Offer};
use crate::store::model::{Acquire, DaemonContact, DaemonRef};
use crate::store::{Error, Event, Result};
use crate::words::{Kind, Priority};

use super::job_row::{Ending, JobRow};

impl Tx<'_> {
    pub(super) fn acquire(&mut self, acquire: &Acquire) -> Result<Option<v1::Job>> {
        let contact = &acquire.contact;
        self.see_daemon(contact)?;
        if self.is_draining(&contact.daemon)? {
            return Ok(None);
        }
        let organization = &contact.daemon.organization;
        let tagsets = self.takeable(organization, contact)?;
        let kinds: Vec<_> = match acquire.kinds.as_slice() {
            [] => Kind::ALL.iter().map(|kind| kind.as_str()).collect(),
            some => some.iter().map(|kind| kind.as_str()).collect(),
        };
        let candidates = self.candidates(organization, &tagsets, &kinds)?;
        let running = self.running_by_owner(organization)?;
        match matching::choose(&candidates, &running, self.now) {
            None => Ok(None),
            Some(chosen) => self.offer(chosen.row, &contact.daemon).map(Some),
        }
    }

    fn offer(&mut self, row: i64, daemon: &DaemonRef) -> Result<v1::Job> {
        let lease = LeaseId::generate();
        let expires_at = self.now + millis(self.timings.confirm);
        self.conn
            .prepare_cached(
                "UPDATE jobs SET state = 'offered', lease = ?2, daemon = ?3, expires_at = ?4
                 WHERE row = ?1",
            )?
            .execute(params![row, lease.as_bytes(), daemon.name, expires_at])?;
        self.conn
            .prepare_cached(
                "INSERT INTO attempts (job, attempt, lease, daemon, instance, offered_at)
                 SELECT row, attempt, lease, daemon, ?2, ?3 FROM jobs WHERE row = ?1",
            )?
            .execute(params![row, daemon.instance, self.now])?;
        self.hand_out(row)
    }

    pub(super) fn confirm(
        &mut self,
        daemon: &DaemonRef,
        id: JobId,
        lease: LeaseId,
    ) -> Result<v1::Lease> {
        self.heard(daemon)?;
        let gone = || Error::OfferGone { job: id };
        let job = self
            .find_job(id)?
            .filter(|job| job.lease == Some(lease) && job.organization == daemon.organization)
            .ok_or_else(gone)?;
        if self.attempt_of(&job, daemon, lease)?.is_none() {
            return Err(gone());
        }
        match lifecycle::next(job.standing(), Happens::Confirm).map_err(|_| gone())? {
            Next::Move(State::Running) => self.begin(&job)?,
            Next::Stay => {}
            Next::Move(_) | Next::GateOpens | Next::Requeue(_) | Next::End(..) => {
                return Err(gone());
            }
        }
        let job = self.find_job(id)?.ok_or_else(gone)?;
        Ok(self.lease_of(&job, lease))
    }

    fn begin(&mut self, job: &JobRow) -> Result<()> {
        let expires_at = self.now + millis(self.timings.lease_pending);
        self.conn
            .prepare_cached(
                "UPDATE jobs SET state = 'running', started_at = COALESCE(started_at, ?2),
                     last_update_at = ?2, expires_at = ?3
                 WHERE row = ?1",
            )?
            .execute(params![job.row, self.now, expires_at])?;
        self.conn
            .prepare_cached(
                "UPDATE attempts SET confirmed_at = ?3 WHERE job = ?1 AND attempt = ?2",
            )?
            .execute(params![job.row, job.attempt, self.now])?;
        self.emit(Event::JobChanged(job.id));
        Ok(())
    }

    /// Takes an unconfirmed hand-out back; anything else is left as it is.
    pub(super) fn withdraw(&mut self, id: JobId, lease: LeaseId) -> Result<()> {
        match self.find_job(id)? {
            Some(job) if job.lease == Some(lease) && job.state == State::Offered => {
                self.withdraw_offer(&job)
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn withdraw_offer(&mut self, job: &JobRow) -> Result<()> {
        match lifecycle::next(job.standing(), Happens::Withdraw) {
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

    /// Sets of tags, among those of pending jobs, that a daemon may take.
    fn takeable(self, organization: &str, daemon: &DaemonContact) -> Result<Vec<i64>> {
        let offer = Offer {
            tags: &daemon.tags,
            facts: &daemon.facts,
        };
        let mut statement = self.conn.prepare_cached(
            "SELECT id, tags FROM tagsets WHERE id IN
                 (SELECT tagset FROM jobs INDEXED BY jobs_ready WHERE state = 'pending' AND organization = ?1)",
        )?;
        let rows = statement.query_map([organization], |row| {
            Ok((row.get::<_, i64>(0)?, tags(row, 1)?))
        })?;
        let mut takeable = Vec::new();
        for row in rows {
            let (id, tags) = row?;
            if offer.may_take(&tags) {
                takeable.push(id);
            }
        }
        Ok(takeable)
    }

    /// The oldest pending job of each owner and priority.
    fn candidates(
        self,
        organization: &str,
        tagsets: &[i64],
        kinds: &[&str],
    ) -> Result<Vec<Candidate>> {
        if tagsets.is_empty() {
            return Ok(Vec::new());
        }
        let mut statement = self.conn.prepare_cached(
            "SELECT MIN(row), owner, priority, created_at FROM jobs INDEXED BY jobs_ready
             WHERE state = 'pending' AND organization = ?1
                 AND tagset IN (SELECT value FROM json_each(?2))
                 AND kind IN (SELECT value FROM json_each(?3))
             GROUP BY priority, owner",
        )?;
        let arguments = params![
            organization,
            serde_json::json!(tagsets).to_string(),
            serde_json::json!(kinds).to_string()
        ];
        let rows = statement.query_map(arguments, |row| {
            Ok(Candidate {
                row: row.get(0)?,
                owner: row.get(1)?,
                priority: word(row, 2, Priority::from_text)?,
                created_ms: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn running_by_owner(self, organization: &str) -> Result<HashMap<String, u32>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT owner, COUNT(*) FROM jobs INDEXED BY jobs_in_hand
             WHERE state IN ('offered', 'running', 'canceling') AND organization = ?1
             GROUP BY owner",
        )?;
        let rows = statement.query_map([organization], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
