//! The audit log: each line stands in the transaction of what it tells, so that nothing is
//! done which the log does not know, nor the other way round. Only refusals, which change
//! nothing, come by themselves.

use proto::v1::{self, JobError};

use super::codec::{count, signed};
use super::job_row::JobRow;
use super::rows::{Row, values};
use super::{Snapshot, Tx};
use crate::lifecycle::State;
use crate::store::Result;
use crate::store::model::{Act, Actor, AuditEntry, AuditFilter, Finish};

/// The call under which the end of a job stands.
const VERDICT: &str = "Verdict";

/// Lines that one page looks at: who asks for what is rare turns pages instead of holding a
/// reader for long.
const LOOKED_AT: u32 = 20_000;

impl Tx<'_> {
    /// Notes one line.
    pub(super) fn note(&self, entry: &AuditEntry) -> Result<()> {
        let act = &entry.act;
        self.db
            .prepare(
                "INSERT INTO audit (at, organization, actor_kind, actor, owner, call, object, job,
                     peer, outcome, times)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )
            .run(values![
                self.now,
                act.organization,
                act.actor.kind(),
                act.actor.name(),
                act.actor.owner(),
                &*act.call,
                act.object,
                entry.job.map(|job| job.to_string()),
                act.peer,
                entry.outcome,
                signed(entry.times, "count of like lines")?,
            ])
    }

    /// Notes for whom this transaction was run, if for anybody.
    pub(super) fn note_act(&self) -> Result<()> {
        let Some(act) = &self.act else { return Ok(()) };
        self.note(&AuditEntry {
            act: Act::clone(act),
            job: self.made,
            outcome: Act::DONE.to_owned(),
            times: 1,
        })
    }

    /// Notes the end of a job, and who brought it about.
    pub(super) fn note_verdict(
        &self,
        job: &JobRow,
        state: State,
        report: Option<&Finish>,
        error: Option<&JobError>,
    ) -> Result<()> {
        let act = self.act.as_deref();
        let actor = match (report, act) {
            (Some(finish), _) => Actor::Key {
                name: finish.daemon.key.clone(),
                daemon: finish.daemon.name.clone(),
            },
            (None, Some(act)) => act.actor.clone(),
            (None, None) => Actor::Queue,
        };
        let outcome = match error {
            Some(error) => format!("{} {}", state.as_str(), error.code),
            None => state.as_str().to_owned(),
        };
        self.note(&AuditEntry {
            act: Act {
                organization: job.organization.clone(),
                actor,
                call: VERDICT.into(),
                object: job.id.to_string(),
                peer: act.map(|act| act.peer.clone()).unwrap_or_default(),
            },
            job: Some(job.id),
            outcome,
            times: 1,
        })
    }
}

/// The newest lines of an organization, and of those what is asked for. What the workspace of
/// another owner is called stands behind a slash.
const PAGE: &str = "SELECT row, at, organization, actor_kind, actor, owner, call, object, job, \
         peer, outcome, times \
     FROM (SELECT * FROM audit WHERE organization = ?1 AND row < ?2 \
         ORDER BY row DESC LIMIT ?3) newest \
     WHERE at >= ?4 AND (?5 = '' OR actor = ?5 OR owner = ?5) \
         AND (?6 = '' OR lower(call) = ?6) \
         AND (?7 = '' OR object = ?7 OR job = ?7 OR (length(object) > length(?7) \
             AND substr(object, length(object) - length(?7)) = '/' || ?7)) \
     ORDER BY row DESC LIMIT ?8";

impl Snapshot<'_> {
    /// A page of the log, newest first.
    pub(super) fn audit(self, filter: &AuditFilter) -> Result<v1::ListAuditReply> {
        let before = match filter.before {
            Some(before) => signed(before, "line of the audit log")?,
            None => i64::MAX,
        };
        let statement = self.db.prepare(PAGE);
        let entries = statement.all(
            values![
                filter.organization,
                before,
                LOOKED_AT,
                filter.since_ms,
                filter.actor,
                filter.call.to_ascii_lowercase(),
                filter.object,
                filter.limit
            ],
            entry,
        )?;
        let next = if entries.len() < filter.limit as usize {
            self.rest_of_audit(filter, before)?
        } else {
            entries.last().map_or(0, |entry| entry.id)
        };
        Ok(v1::ListAuditReply { entries, next })
    }

    /// Where what a page did not look at begins; 0 when it looked at all that may be asked for.
    fn rest_of_audit(self, filter: &AuditFilter, before: i64) -> Result<u64> {
        let statement = self.db.prepare(
            "SELECT row, at FROM audit WHERE organization = ?1 AND row < ?2
             ORDER BY row DESC LIMIT 1 OFFSET ?3",
        );
        let last = statement.first(values![filter.organization, before, LOOKED_AT - 1], |row| {
            Ok((count(row.get(0)?), row.get::<i64>(1)?))
        })?;
        Ok(match last {
            Some((row, at)) if at >= filter.since_ms => row,
            Some(_) | None => 0,
        })
    }
}

fn entry(row: Row<'_>) -> Result<v1::AuditEntry> {
    Ok(v1::AuditEntry {
        id: count(row.get(0)?),
        at_ms: row.get(1)?,
        organization: row.get(2)?,
        actor_kind: row.get(3)?,
        actor: row.get(4)?,
        owner: row.get(5)?,
        call: row.get(6)?,
        object: row.get(7)?,
        job_id: row.get(8)?,
        peer: row.get(9)?,
        outcome: row.get(10)?,
        times: count(row.get(11)?),
    })
}
