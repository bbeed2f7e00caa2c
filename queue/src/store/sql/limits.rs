//! Concurrency limits: set, held by a hand-out, and told of when there is room again.
//!
//! ```text
//! hand-out: lanes with room, as its snapshot shows them
//!             └─ of the one whose turn it is: hold the rows of its limits, count again
//!                  └─ full by now: let go of them, next lane
//! ```
//!
//! Two replicas that hand out under one limit take turns at its row, from the count to the
//! COMMIT; without a limit nothing is held. The rows of one lane are held at a time, that
//! of the owner first, so that nobody waits for who waits for him.

use proto::v1;

use super::codec::{tags, word};
use super::job_row::JobRow;
use super::lanes::Lane;
use super::rows::{Row, values};
use super::{Snapshot, Tx};
use crate::limit::Limit;
use crate::matching::Affinity;
use crate::store::model::SetLimit;
use crate::store::{Event, Result};
use crate::words::{Kind, LimitOf};

/// Jobs that wake a waiter each when a limit is raised or lifted. What waits beyond them
/// is woken by ends and ticks.
const WOKEN: u32 = 1_000;

/// The limits that a job counts against, by what names them in the row.
const OF_JOB: &str = "SELECT l.kind, l.subject, l.most, l.subject FROM jobs j JOIN limits l
         ON l.organization = j.organization AND l.kind = 'owner' AND l.subject = j.owner
     WHERE j.row = ?1
     UNION ALL
     SELECT l.kind, t.name, l.most, l.subject FROM jobs j JOIN limits l
         ON l.organization = j.organization AND l.kind = 'template' AND l.subject = j.template
         JOIN templates t ON t.id = l.subject
     WHERE j.row = ?1";

/// One pending job of each pool and kind, of those pools where this owner waits, if one is
/// named; by jumps, as [`super::lanes`] tells.
const WAITING: &str = "WITH RECURSIVE pool (first) AS (
         SELECT (SELECT n.row FROM jobs n INDEXED BY jobs_ready
             WHERE n.state = 'pending' AND n.organization = ?1
             ORDER BY n.tagset, n.engine, n.kind, n.priority, n.owner, n.template, n.row LIMIT 1)
         UNION ALL
         SELECT (SELECT n.row FROM jobs n INDEXED BY jobs_ready
             WHERE n.state = 'pending' AND n.organization = ?1
                 AND (n.tagset, n.engine, n.kind)
                     >= (j.tagset + 0, j.engine || '', j.kind || '!')
             ORDER BY n.tagset, n.engine, n.kind, n.priority, n.owner, n.template, n.row LIMIT 1)
         FROM pool JOIN jobs j ON j.row = pool.first)
     SELECT j.id, s.tags, j.engine, j.kind, j.version, v.providers
     FROM pool JOIN jobs j ON j.row = pool.first
         JOIN tagsets s ON s.id = j.tagset JOIN template_versions v ON v.id = j.version
     WHERE ?2 IS NULL OR EXISTS (SELECT 1 FROM jobs w INDEXED BY jobs_ready
         WHERE w.state = 'pending' AND w.organization = ?1 AND w.tagset = j.tagset
             AND w.engine = j.engine AND w.kind = j.kind
             AND w.priority IN ('automatic', 'interactive') AND w.owner = ?2)";

/// All limits of an organization, by what they limit and its name.
pub(super) const ALL: &str = "SELECT l.kind, COALESCE(t.name, l.subject), l.most, l.subject
     FROM limits l LEFT JOIN templates t ON l.kind = 'template' AND t.id = l.subject
     WHERE l.organization = ?1 ORDER BY 1, 2";

impl Tx<'_> {
    /// Sets a limit or lifts it, and wakes who may have waited for that.
    pub(super) fn set_limit(&mut self, set: &SetLimit) -> Result<v1::Limit> {
        let organization = &set.organization;
        self.organization_exists(organization)?;
        let subject = match set.of {
            LimitOf::Owner => set.name.clone(),
            LimitOf::Template => self.template_id(organization, &set.name)?,
        };
        match set.most {
            Some(most) => self
                .db
                .prepare(
                    "INSERT INTO limits (organization, kind, subject, most)
                     VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (organization, kind, subject) DO UPDATE SET most = excluded.most",
                )
                .execute(values![organization, set.of.as_str(), subject, most])?,
            None => self
                .db
                .prepare(
                    "DELETE FROM limits WHERE organization = ?1 AND kind = ?2 AND subject = ?3",
                )
                .execute(values![organization, set.of.as_str(), subject])?,
        };
        self.wake_limited(organization, set.of, &subject)?;
        Ok(v1::Limit {
            of: set.of.into(),
            name: set.name.clone(),
            most: set.most,
            running: self.in_hand(organization, set.of, &subject)?,
        })
    }

    fn wake_limited(&mut self, organization: &str, of: LimitOf, subject: &str) -> Result<()> {
        let column = of.as_str();
        let sql = format!(
            "SELECT j.id, s.tags, j.engine, j.kind, j.version, v.providers
             FROM jobs j INDEXED BY jobs_ready JOIN tagsets s ON s.id = j.tagset
                 JOIN template_versions v ON v.id = j.version
             WHERE j.state = 'pending' AND j.organization = ?1 AND j.{column} = ?2
             LIMIT {WOKEN}"
        );
        let found = self.db.prepare(&sql);
        let found = found.all(values![organization, subject], |row| {
            ready(organization, row)
        })?;
        found.into_iter().for_each(|event| self.emit(event));
        Ok(())
    }

    /// Holds the limits of a lane until the end of the transaction; whether one more of
    /// its jobs may be handed out.
    pub(super) fn hold_limits(&self, organization: &str, lane: &Lane) -> Result<bool> {
        for limit in &lane.limits {
            let statement = self.db.prepare(
                "SELECT most FROM limits WHERE organization = ?1 AND kind = ?2 AND subject = ?3
                 FOR NO KEY UPDATE",
            );
            let most = statement.first(
                values![organization, limit.of.as_str(), limit.name],
                |row| row.get::<u32>(0),
            )?;
            let Some(most) = most else { continue };
            // A statement of its own: it sees what was committed while this one waited.
            if self.in_hand(organization, limit.of, &limit.name)? >= most {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A job that was in a daemon's hands is no longer: who waited for its limits may be
    /// woken. To be called once that is written.
    pub(super) fn room_made(&mut self, job: &JobRow) -> Result<()> {
        if !job.state.is_in_hand() {
            return Ok(());
        }
        for (limit, subject) in self.limits_of(job.row)? {
            let owner = (limit.of == LimitOf::Owner).then_some(subject);
            let statement = self.db.prepare(WAITING);
            let found = statement.all(values![job.organization, owner], |row| {
                ready(&job.organization, row)
            })?;
            found.into_iter().for_each(|event| self.emit(event));
        }
        Ok(())
    }
}

impl Snapshot<'_> {
    /// All limits of an organization, by what they limit and its name.
    pub(super) fn list_limits(self, organization: &str) -> Result<Vec<v1::Limit>> {
        let limits = self.db.prepare(ALL).all(values![organization], limit)?;
        let limits = self.counted(organization, limits)?.into_iter();
        let shown = limits.map(|(limit, _)| v1::Limit {
            of: limit.of.into(),
            name: limit.name,
            most: Some(limit.most),
            running: limit.running,
        });
        Ok(shown.collect())
    }

    /// The limits that a job counts against, not counted, each with what its row names.
    fn limits_of(self, job: i64) -> Result<Vec<(Limit, String)>> {
        self.db.prepare(OF_JOB).all(values![job], limit)
    }

    fn counted(
        self,
        organization: &str,
        mut limits: Vec<(Limit, String)>,
    ) -> Result<Vec<(Limit, String)>> {
        for (limit, subject) in &mut limits {
            limit.running = self.in_hand(organization, limit.of, subject)?;
        }
        Ok(limits)
    }

    /// How many jobs count against a limit now.
    fn in_hand(self, organization: &str, of: LimitOf, subject: &str) -> Result<u32> {
        let statement = self.db.prepare(match of {
            LimitOf::Owner => {
                "SELECT COUNT(*) FROM jobs INDEXED BY jobs_in_hand_by_owner
                 WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                     AND owner = ?2 AND organization || '' = ?1"
            }
            LimitOf::Template => {
                "SELECT COUNT(*) FROM jobs INDEXED BY jobs_in_hand_by_template
                 WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                     AND template = ?2 AND organization || '' = ?1"
            }
        });
        statement.one(values![organization, subject], |row| row.get(0))
    }
}

/// A limit that is not counted yet, and what its row names.
pub(super) fn limit(row: Row<'_>) -> Result<(Limit, String)> {
    let limit = Limit {
        of: word(row, 0, LimitOf::from_text)?,
        name: row.get(1)?,
        running: 0,
        most: row.get(2)?,
    };
    Ok((limit, row.get(3)?))
}

/// A row of id, tags, engine, kind, version and providers, as the event that wakes a waiter.
fn ready(organization: &str, row: Row<'_>) -> Result<Event> {
    Ok(Event::JobReady {
        job: super::codec::id(row, 0)?,
        organization: organization.to_owned(),
        tags: tags(row, 1)?,
        engine: row.get(2)?,
        kind: word(row, 3, Kind::from_text)?,
        affinity: Affinity {
            version: row.get(4)?,
            providers: row.get(5)?,
        },
    })
}
