//! Handing out: from all pending jobs of an organization to the one a daemon gets.
//!
//! Jobs are matched by their *set* of tags, of which there are few, and of each owner
//! only the oldest takes part, so that ten thousand waiting jobs cost one scan of an
//! index.

use std::collections::HashMap;

use proto::ids::{JobId, LeaseId};
use proto::v1;

use super::codec::{tags, word};
use super::contact::Contact;
use super::rows::values;
use super::{Snapshot, Tx};
use crate::lease::millis;
use crate::lifecycle::{self, Event as Happens, Next, State};
use crate::matching::{self, Candidate, Offer, Tags};
use crate::store::model::{Acquire, Acquired, DaemonContact, DaemonRef, Drain};
use crate::store::{Error, Event, Result};
use crate::words::{Kind, Priority};

use super::job_row::{Ending, JobRow};

/// Which pending jobs a daemon may take.
struct Wanted<'a> {
    organization: &'a str,
    /// A JSON list of ids.
    tagsets: String,
    /// A JSON list of words.
    kinds: String,
}

fn json<T: serde::Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).expect("invariant: numbers and words are JSON")
}

impl Tx<'_> {
    pub(super) fn acquire(&mut self, acquire: &Acquire) -> Result<Acquired> {
        let contact = &acquire.contact;
        match self.see_daemon(contact, Contact::Call)? {
            Drain::On => return Ok(Acquired::Draining),
            Drain::Off => {}
        }
        let organization = &contact.daemon.organization;
        let tagsets = self.takeable(organization, contact)?;
        let kinds: Vec<_> = match acquire.kinds.as_slice() {
            [] => Kind::ALL.iter().map(|kind| kind.as_str()).collect(),
            some => some.iter().map(|kind| kind.as_str()).collect(),
        };
        let wanted = Wanted {
            organization,
            tagsets: json(&tagsets),
            kinds: json(&kinds),
        };
        let mut candidates = if tagsets.is_empty() {
            Vec::new()
        } else {
            self.candidates(&wanted)?
        };
        let running = self.running_by_owner(organization)?;
        while let Some(chosen) = matching::choose(&candidates, &running, self.now) {
            if let Some(row) = self.hold_oldest(&wanted, chosen)? {
                let job = self.offer(row, &contact.daemon)?;
                return Ok(Acquired::Job(Box::new(job)));
            }
            // All of them are in other hands at this very moment.
            let taken = chosen.row;
            candidates.retain(|candidate| candidate.row != taken);
        }
        Ok(Acquired::Nothing)
    }

    /// Holds the oldest pending job like `like` that nobody else is handing out now.
    fn hold_oldest(&self, wanted: &Wanted<'_>, like: &Candidate) -> Result<Option<i64>> {
        let statement = self.db.prepare(
            "SELECT row FROM jobs INDEXED BY jobs_ready
             WHERE state = 'pending' AND organization = ?1
                 AND tagset IN (SELECT CAST(value AS BIGINT) FROM json_each(?2))
                 AND kind IN (SELECT value FROM json_each(?3))
                 AND priority = ?4 AND owner = ?5 AND row >= ?6
             ORDER BY row LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
        );
        let priority = like.priority.as_str();
        statement.first(
            values![
                wanted.organization,
                wanted.tagsets,
                wanted.kinds,
                priority,
                like.owner,
                like.row
            ],
            |row| row.get(0),
        )
    }

    fn offer(&mut self, row: i64, daemon: &DaemonRef) -> Result<v1::Job> {
        let lease = LeaseId::generate();
        let expires_at = self.now + millis(self.timings.confirm);
        self.db
            .prepare(
                "UPDATE jobs SET state = 'offered', lease = ?2, daemon = ?3, expires_at = ?4
                 WHERE row = ?1",
            )
            .execute(values![row, lease.as_bytes(), daemon.name, expires_at])?;
        self.db
            .prepare(
                "INSERT INTO attempts (job, attempt, lease, daemon, instance, offered_at)
                 SELECT row, attempt, lease, daemon, ?2, ?3 FROM jobs WHERE row = ?1",
            )
            .execute(values![row, daemon.instance, self.now])?;
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
            .hold_job(id)?
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
        self.db
            .prepare(
                "UPDATE jobs SET state = 'running', started_at = COALESCE(started_at, ?2),
                     last_update_at = ?2, expires_at = ?3
                 WHERE row = ?1",
            )
            .execute(values![job.row, self.now, expires_at])?;
        self.db
            .prepare("UPDATE attempts SET confirmed_at = ?3 WHERE job = ?1 AND attempt = ?2")
            .execute(values![job.row, job.attempt, self.now])?;
        self.emit(Event::JobChanged(job.id));
        Ok(())
    }

    /// Takes an unconfirmed hand-out back; anything else is left as it is.
    pub(super) fn withdraw(&mut self, id: JobId, lease: LeaseId) -> Result<()> {
        match self.hold_job(id)? {
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
        let statement = self.db.prepare(
            "SELECT id, tags FROM tagsets WHERE id IN
                 (SELECT tagset FROM jobs INDEXED BY jobs_ready WHERE state = 'pending' AND organization = ?1)",
        );
        let rows: Vec<(i64, Tags)> = statement.all(values![organization], |row| {
            Ok((row.get(0)?, tags(row, 1)?))
        })?;
        let takeable = rows.into_iter().filter(|(_, tags)| offer.may_take(tags));
        Ok(takeable.map(|(id, _)| id).collect())
    }

    /// The oldest pending job of each owner and priority.
    fn candidates(self, wanted: &Wanted<'_>) -> Result<Vec<Candidate>> {
        let statement = self.db.prepare(
            "SELECT MIN(row), owner, priority, MIN(created_at) FROM jobs INDEXED BY jobs_ready
             WHERE state = 'pending' AND organization = ?1
                 AND tagset IN (SELECT CAST(value AS BIGINT) FROM json_each(?2))
                 AND kind IN (SELECT value FROM json_each(?3))
             GROUP BY priority, owner",
        );
        let values = values![wanted.organization, wanted.tagsets, wanted.kinds];
        statement.all(values, |row| {
            Ok(Candidate {
                row: row.get(0)?,
                owner: row.get(1)?,
                priority: word(row, 2, Priority::from_text)?,
                created_ms: row.get(3)?,
            })
        })
    }

    fn running_by_owner(self, organization: &str) -> Result<HashMap<String, u32>> {
        let statement = self.db.prepare(
            "SELECT owner, COUNT(*) FROM jobs INDEXED BY jobs_in_hand
             WHERE state IN ('offered', 'running', 'canceling') AND organization = ?1
             GROUP BY owner",
        );
        let rows = statement.all(values![organization], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.into_iter().collect())
    }
}
