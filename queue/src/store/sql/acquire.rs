//! Handing out: from all pending jobs of an organization to those that daemons get.
//!
//! Jobs are matched by their *pool*, of which there are few, and of each *lane* only the
//! oldest takes part ([`super::lanes`]), so that a hundred thousand waiting jobs cost as
//! much as ten. Several daemons that wait are served in one transaction: the lanes are
//! looked at once, and each daemon gets what it would have got after the one before
//! ([`super::turns`]).

use std::collections::BTreeMap;

use proto::ids::LeaseId;
use proto::transport::Transport;

use super::Tx;
use super::asked::{All, Asked, First, Read};
use super::codec::tags;
use super::contact::Contact;
use super::lanes::{self, Lane, Pool};
use super::rows::{Value, values};
use super::turns::{Then, Turns};
use crate::lease::millis;
use crate::matching::{Needs, Offer};
use crate::store::model::{Acquire, Acquired, DaemonContact, DaemonRef, Drain, HandedOut};
use crate::store::{Error, Result};

/// The oldest pending job of a lane that nobody else is handing out now.
const OFFER: &str = "UPDATE jobs SET state = 'offered', lease = ?9, daemon = ?10, expires_at = ?11,
         offered_at = ?12
     WHERE row = (SELECT row FROM jobs INDEXED BY jobs_ready
         WHERE state = 'pending' AND organization = ?1 AND tagset = ?2 AND engine = ?3
             AND kind = ?4 AND priority = ?5 AND owner = ?6 AND template = ?7
             AND row >= ?8
         ORDER BY row LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
     RETURNING row, attempt";

/// A daemon that waits for its answer.
struct Waiting<'a> {
    /// Its place among those who ask.
    at: usize,
    acquire: &'a Acquire,
    /// Which pools it may take from.
    pools: Vec<bool>,
}

impl Waiting<'_> {
    fn daemon(&self) -> &DaemonRef {
        &self.acquire.contact.daemon
    }

    fn may_take(&self, lane: &Lane, pools: &[Pool]) -> bool {
        let kinds = &self.acquire.kinds;
        (kinds.is_empty() || kinds.contains(&lane.kind)) && { self.pools.iter().zip(pools) }
            .any(|(may, pool)| *may && pool.has(lane))
    }
}

impl Tx<'_> {
    /// Hands jobs out to all of these, in their order; to each as if it had asked alone,
    /// behind the one before. Who is left without an answer has to ask again: a job of its
    /// organization was handed out under a limit, whose row no other one's may be waited for
    /// behind. Organizations go in the order of their names.
    pub(in crate::store) fn acquire_all(&mut self, asks: &[Acquire]) -> Result<HandedOut> {
        let mut by_organization: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, ask) in asks.iter().enumerate() {
            let organization = ask.contact.daemon.organization.as_str();
            by_organization.entry(organization).or_default().push(at);
        }
        let organizations: Vec<&str> = by_organization.keys().copied().collect();
        let (mut answers, pools) = self.see_all(asks, &organizations)?;
        for ((organization, places), pools) in by_organization.into_iter().zip(pools) {
            let unanswered = places.into_iter().filter(|at| answers[*at].is_none());
            let waiting = unanswered.map(|at| (at, &asks[at])).collect();
            self.hand_out_to(organization, waiting, pools, &mut answers)?;
        }
        Ok(answers)
    }

    /// Notes the contact of all of them; answers those who get nothing, and the pools of
    /// each organization.
    fn see_all(
        &self,
        asks: &[Acquire],
        organizations: &[&str],
    ) -> Result<(HandedOut, Vec<Vec<Pool>>)> {
        let introduced = asks.iter();
        let introduced: Vec<_> = introduced
            .map(|ask| self.introduced(&ask.contact, Contact::Call))
            .collect();
        let mut bearers: Vec<_> = introduced.iter().map(|one| one.asked()).collect();
        let pools = organizations.iter();
        let mut pools: Vec<_> = pools
            .map(|of| All::of(lanes::POOLS, &[Value::Text(Some(of))], lanes::pool))
            .collect();
        let mut asked: Vec<&mut dyn Asked> = Vec::new();
        asked.extend(bearers.iter_mut().map(|bearer| bearer as &mut dyn Asked));
        asked.extend(pools.iter_mut().map(|pools| pools as &mut dyn Asked));
        self.db.ask(&mut asked)?;
        drop(asked);

        let mut seen: Vec<_> = { introduced.iter().zip(bearers) }.enumerate().collect();
        // What two such transactions may both write they write in the same order.
        seen.sort_by_key(|(_, (one, _))| {
            let daemon = &one.contact().daemon;
            (&daemon.organization, &daemon.name)
        });
        let mut answers: HandedOut = asks.iter().map(|_| None).collect();
        for (at, (one, bearer)) in seen {
            answers[at] = match self.see_bearer(one, bearer.found()) {
                Ok(Drain::On) => Some(Ok(Acquired::Draining)),
                Ok(Drain::Off) => None,
                // Its own, before anything was written of it.
                Err(error @ (Error::NotFound { .. } | Error::DaemonNameTaken { .. })) => {
                    Some(Err(error))
                }
                Err(error) => return Err(error),
            };
        }
        Ok((answers, pools.into_iter().map(All::found).collect()))
    }

    /// Hands out jobs of one organization.
    fn hand_out_to(
        &mut self,
        organization: &str,
        waiting: Vec<(usize, &Acquire)>,
        mut pools: Vec<Pool>,
        answers: &mut HandedOut,
    ) -> Result<()> {
        let mut rows = Vec::new();
        let mut line = Vec::new();
        for (at, acquire) in waiting {
            let contact = &acquire.contact;
            if contact.transport() == Transport::Unary
                && let Some(row) = self.offer_again(contact)?
            {
                rows.push((at, row));
                continue;
            }
            line.push(Waiting {
                at,
                acquire,
                pools: Vec::new(),
            });
        }
        pools.retain(|pool| line.iter().any(|one| may_take(one.acquire, pool)));
        for one in &mut line {
            one.pools = pools
                .iter()
                .map(|pool| may_take(one.acquire, pool))
                .collect();
        }
        self.offer_to(organization, line, &pools, (&mut rows, answers))?;
        self.headers(&rows, answers)
    }

    /// Offers jobs to those in line, round by round: what is chosen without knowing what
    /// came of the choice before travels together.
    fn offer_to(
        &self,
        organization: &str,
        mut line: Vec<Waiting<'_>>,
        pools: &[Pool],
        (rows, answers): (&mut Vec<(usize, i64)>, &mut HandedOut),
    ) -> Result<()> {
        let firsts: Vec<i64> = pools.iter().map(|pool| pool.first).collect();
        let mut turns = self.look(organization, &firsts)?;
        while !line.is_empty() {
            let round = turns.round(line.len(), |who, lane| line[who].may_take(lane, pools));
            let mut served = round.in_vain;
            for who in &served {
                answers[line[*who].at] = Some(Ok(Acquired::Nothing));
            }
            match round.then {
                Then::Look => turns = self.look_again(organization, pools)?,
                Then::Limited(pick) => {
                    let (lane, one) = (turns.lane(pick.lane), &line[pick.who]);
                    if let Some(row) = self.offer_within_limits(lane, one.daemon())? {
                        rows.push((one.at, row));
                        return Ok(());
                    }
                    turns.is_over(pick.lane);
                }
                Then::Offer(picks) => {
                    let to = picks.iter();
                    let to = to.map(|it| (turns.lane(it.lane), line[it.who].daemon()));
                    let offered = self.offers(&to.collect::<Vec<_>>())?;
                    for (pick, row) in picks.into_iter().zip(offered) {
                        // Without a row all of its jobs are in other hands at this moment.
                        turns.came_of(&pick, row.is_some());
                        if let Some(row) = row {
                            rows.push((line[pick.who].at, row));
                            served.push(pick.who);
                        }
                    }
                }
            }
            let all = line.into_iter().enumerate();
            let left = all.filter(|(who, _)| !served.contains(who));
            line = left.map(|(_, one)| one).collect();
        }
        Ok(())
    }

    /// A pool whose first job has gone begins elsewhere.
    fn look_again(&self, organization: &str, pools: &[Pool]) -> Result<Turns> {
        let statement = self.db.prepare(lanes::POOLS);
        let mut found = statement.all(values![organization], lanes::pool)?;
        found.retain(|found| pools.iter().any(|pool| pool.is_same(found)));
        let firsts: Vec<i64> = found.iter().map(|pool| pool.first).collect();
        self.look(organization, &firsts)
    }

    fn look(&self, organization: &str, firsts: &[i64]) -> Result<Turns> {
        let lanes = match firsts {
            [] => Vec::new(),
            firsts => self.lanes(organization, firsts)?,
        };
        Ok(Turns::of(lanes, self.now))
    }

    /// Offers a job of a lane, and holds the limits that it counts against.
    fn offer_within_limits(&self, lane: &Lane, daemon: &DaemonRef) -> Result<Option<i64>> {
        let run = |sql: &str| self.db.prepare(sql).execute(values![]);
        run("SAVEPOINT limited")?;
        let offered = match self.hold_limits(&daemon.organization, lane)? {
            true => self.offers(&[(lane, daemon)])?.pop().flatten(),
            false => None,
        };
        if offered.is_none() {
            // Lets go of the limits, before those of another lane are waited for.
            run("ROLLBACK TO SAVEPOINT limited")?;
        }
        run("RELEASE SAVEPOINT limited")?;
        Ok(offered)
    }

    /// Offers the oldest job of each lane to its daemon, one after the other, and begins
    /// the attempts of those that there are.
    fn offers(&self, to: &[(&Lane, &DaemonRef)]) -> Result<Vec<Option<i64>>> {
        if to.is_empty() {
            return Ok(Vec::new());
        }
        let leases: Vec<LeaseId> = to.iter().map(|_| LeaseId::generate()).collect();
        let expires_at = self.now + millis(self.timings.confirm);
        let times = (self.now, expires_at);
        let offers = to.iter().zip(&leases);
        let mut offers: Vec<_> = offers
            .map(|((lane, daemon), lease)| offer(lane, daemon, lease, times))
            .collect();
        let mut asked: Vec<&mut dyn Asked> = Vec::new();
        asked.extend(offers.iter_mut().map(|offer| offer as &mut dyn Asked));
        self.db.ask(&mut asked)?;
        drop(asked);
        let begins = self.db.prepare(
            "INSERT INTO attempts (job, attempt, lease, daemon, instance, offered_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        );
        let mut offered = Vec::new();
        for ((offer, (_, daemon)), lease) in offers.into_iter().zip(to).zip(&leases) {
            offered.push(match offer.found() {
                Some((row, attempt)) => {
                    let (name, instance) = (&daemon.name, &daemon.instance);
                    let lease = lease.as_bytes();
                    begins.run(values![row, attempt, lease, name, instance, self.now])?;
                    Some(row)
                }
                None => None,
            });
        }
        Ok(offered)
    }

    /// Answers with the jobs in these rows.
    fn headers(&self, rows: &[(usize, i64)], answers: &mut HandedOut) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut headers: Vec<_> = rows.iter().map(|(_, row)| self.handed_out(*row)).collect();
        let mut asked: Vec<&mut dyn Asked> = Vec::new();
        asked.extend(headers.iter_mut().map(|header| header as &mut dyn Asked));
        self.db.ask(&mut asked)?;
        drop(asked);
        for ((at, _), header) in rows.iter().zip(headers) {
            answers[*at] = Some(Ok(Acquired::Job(Box::new(header.must()?))));
        }
        Ok(())
    }

    /// What this instance was offered and does not seem to have: the same offer, which runs
    /// anew. It may have come back with another key, which does not allow its tags any more.
    fn offer_again(&self, contact: &DaemonContact) -> Result<Option<i64>> {
        let daemon = &contact.daemon;
        let statement = self.db.prepare(
            "SELECT row, (SELECT s.tags FROM tagsets s WHERE s.id = jobs.tagset), engine
             FROM jobs INDEXED BY jobs_in_hand
             WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                 AND state = 'offered'
                 AND organization = ?1 AND daemon = ?2
                 AND EXISTS (SELECT 1 FROM attempts a WHERE a.job = jobs.row
                     AND a.attempt = jobs.attempt AND a.instance = ?3)
             ORDER BY row LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
        );
        let values = values![daemon.organization, daemon.name, daemon.instance];
        let offered = statement.first(values, |row| {
            let (tags, engine) = (tags(row, 1)?, row.get::<String>(2)?);
            let needs = Needs {
                tags: &tags,
                engine: &engine,
            };
            Ok((row.get::<i64>(0)?, offer_of(contact).may_take(needs)))
        })?;
        let Some((row, true)) = offered else {
            return Ok(None);
        };
        self.db
            .prepare("UPDATE jobs SET expires_at = ?2 WHERE row = ?1")
            .execute(values![row, self.now + millis(self.timings.confirm)])?;
        Ok(Some(row))
    }
}

/// The question that offers a lane's job; answers its row and attempt.
fn offer<'a>(
    lane: &'a Lane,
    daemon: &'a DaemonRef,
    lease: &'a LeaseId,
    (now, expires_at): (i64, i64),
) -> First<'a, (i64, u32), Read<(i64, u32)>> {
    let values = [
        Value::Text(Some(&daemon.organization)),
        Value::Int(Some(lane.tagset)),
        Value::Text(Some(&lane.engine)),
        Value::Text(Some(lane.kind.as_str())),
        Value::Text(Some(lane.priority.as_str())),
        Value::Text(Some(&lane.owner)),
        Value::Text(Some(&lane.template)),
        Value::Int(Some(lane.claim.row)),
        Value::Blob(Some(lease.as_bytes())),
        Value::Text(Some(&daemon.name)),
        Value::Int(Some(expires_at)),
        Value::Int(Some(now)),
    ];
    First::of(OFFER, &values, |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Whether a daemon may take jobs of a pool.
fn may_take(acquire: &Acquire, pool: &Pool) -> bool {
    offer_of(&acquire.contact).may_take(pool.needs())
}

fn offer_of(contact: &DaemonContact) -> Offer<'_> {
    Offer {
        tags: &contact.tags,
        facts: &contact.facts,
    }
}
