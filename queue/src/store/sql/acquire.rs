//! Handing out: from all pending jobs of an organization to the one a daemon gets.
//!
//! Jobs are matched by their *pool*, of which there are few, and of each *lane* only the
//! oldest takes part ([`super::lanes`]), so that a hundred thousand waiting jobs cost as
//! much as ten.

use proto::ids::{JobId, LeaseId};
use proto::transport::Transport;
use proto::v1;

use super::asked::All;
use super::contact::Contact;
use super::lanes::{self, Lane, Pool};
use super::rows::values;
use super::{Snapshot, Tx};
use crate::lease::millis;
use crate::lifecycle::{self, Event as Happens, Next, State};
use crate::matching::{self, Offer};
use crate::store::model::{Acquire, Acquired, DaemonContact, DaemonRef, Drain};
use crate::store::{Error, Event, Result};
use crate::words::Kind;

use super::job_row::{Ending, JobRow};

impl Tx<'_> {
    pub(in crate::store) fn acquire(&mut self, acquire: &Acquire) -> Result<Acquired> {
        let contact = &acquire.contact;
        let organization = &contact.daemon.organization;
        let mut pools = All::of(lanes::POOLS, values![organization], lanes::pool);
        match self.see_daemon_beside(contact, Contact::Call, Some(&mut pools))? {
            Drain::On => return Ok(Acquired::Draining),
            Drain::Off => {}
        }
        if contact.transport() == Transport::Unary
            && let Some(job) = self.offer_again(&contact.daemon)?
        {
            return Ok(Acquired::Job(Box::new(job)));
        }
        let kinds = match acquire.kinds.as_slice() {
            [] => Kind::ALL,
            some => some,
        };
        for lane in self.lanes_in_turn(contact, pools.found(), kinds)? {
            if let Some(row) = self.offer_within_limits(&lane, &contact.daemon)? {
                let job = self.offered(row, &contact.daemon)?;
                return Ok(Acquired::Job(Box::new(job)));
            }
            // All of its jobs are in other hands at this very moment, or a limit is full.
        }
        Ok(Acquired::Nothing)
    }

    /// Lanes that a daemon may take from, the one whose turn it is first.
    fn lanes_in_turn(
        &self,
        contact: &DaemonContact,
        mut pools: Vec<Pool>,
        kinds: &[Kind],
    ) -> Result<Vec<Lane>> {
        let organization = &contact.daemon.organization;
        let offer = Offer {
            tags: &contact.tags,
            facts: &contact.facts,
        };
        pools.retain(|pool| offer.may_take(pool.needs()));
        if pools.is_empty() {
            return Ok(Vec::new());
        }
        let mut lanes = self.lanes(organization, &pools, kinds)?;
        lanes.retain(Lane::has_room);
        lanes.sort_by_key(|lane| matching::turn(&lane.claim, self.now));
        Ok(lanes)
    }

    /// Offers a job of a lane, and holds the limits that it counts against.
    fn offer_within_limits(&self, lane: &Lane, daemon: &DaemonRef) -> Result<Option<i64>> {
        if lane.limits.is_empty() {
            return self.offer_oldest(lane, daemon);
        }
        let run = |sql: &str| self.db.prepare(sql).execute(values![]);
        run("SAVEPOINT limited")?;
        let offered = match self.hold_limits(&daemon.organization, lane)? {
            true => self.offer_oldest(lane, daemon)?,
            false => None,
        };
        if offered.is_none() {
            // Lets go of the limits, before those of another lane are waited for.
            run("ROLLBACK TO SAVEPOINT limited")?;
        }
        run("RELEASE SAVEPOINT limited")?;
        Ok(offered)
    }

    /// Offers the oldest pending job of a lane that nobody else is handing out now.
    fn offer_oldest(&self, lane: &Lane, daemon: &DaemonRef) -> Result<Option<i64>> {
        let lease = LeaseId::generate();
        let statement = self.db.prepare(
            "UPDATE jobs SET state = 'offered', lease = ?9, daemon = ?10, expires_at = ?11,
                 offered_at = ?12
             WHERE row = (SELECT row FROM jobs INDEXED BY jobs_ready
                 WHERE state = 'pending' AND organization = ?1 AND tagset = ?2 AND engine = ?3
                     AND kind = ?4 AND priority = ?5 AND owner = ?6 AND template = ?7
                     AND row >= ?8
                 ORDER BY row LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
             RETURNING row",
        );
        statement.first(
            values![
                daemon.organization,
                lane.tagset,
                lane.engine,
                lane.kind.as_str(),
                lane.priority.as_str(),
                lane.owner,
                lane.template,
                lane.claim.row,
                lease.as_bytes(),
                daemon.name,
                self.now + millis(self.timings.confirm),
                self.now
            ],
            |row| row.get(0),
        )
    }

    /// Begins the attempt of a job that was just offered; what the daemon is told of it.
    fn offered(&self, row: i64, daemon: &DaemonRef) -> Result<v1::Job> {
        self.db
            .prepare(
                "INSERT INTO attempts (job, attempt, lease, daemon, instance, offered_at)
                 SELECT row, attempt, lease, daemon, ?2, ?3 FROM jobs WHERE row = ?1",
            )
            .run(values![row, daemon.instance, self.now])?;
        self.hand_out(row)
    }

    /// What this instance was offered and does not seem to have: the same offer, which runs
    /// anew.
    fn offer_again(&mut self, daemon: &DaemonRef) -> Result<Option<v1::Job>> {
        let statement = self.db.prepare(
            "SELECT row FROM jobs INDEXED BY jobs_in_hand
             WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                 AND state = 'offered'
                 AND organization = ?1 AND daemon = ?2
                 AND EXISTS (SELECT 1 FROM attempts a WHERE a.job = jobs.row
                     AND a.attempt = jobs.attempt AND a.instance = ?3)
             ORDER BY row LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
        );
        let values = values![daemon.organization, daemon.name, daemon.instance];
        let Some(row) = statement.first(values, |row| row.get::<i64>(0))? else {
            return Ok(None);
        };
        self.db
            .prepare("UPDATE jobs SET expires_at = ?2 WHERE row = ?1")
            .execute(values![row, self.now + millis(self.timings.confirm)])?;
        self.hand_out(row).map(Some)
    }

    pub(super) fn confirm(
        &mut self,
        daemon: &DaemonRef,
        id: JobId,
        lease: LeaseId,
    ) -> Result<v1::Lease> {
        let gone = || Error::OfferGone { job: id };
        let held = self.hold_attempt(&self.named(daemon, id, lease))?;
        let Some((mut job, Some(_))) = held.filter(|(job, _)| job.lease == Some(lease)) else {
            return Err(gone());
        };
        match lifecycle::next(job.standing(), Happens::Confirm).map_err(|_| gone())? {
            Next::Move(State::Running) => self.begin(&mut job)?,
            Next::Stay => {}
            Next::Move(_) | Next::GateOpens | Next::Requeue(_) | Next::End(..) => {
                return Err(gone());
            }
        }
        Ok(self.lease_of(&job, lease))
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
