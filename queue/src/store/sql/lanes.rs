//! The lanes of pending jobs: jobs of one lane differ in nothing but age, so that only the
//! oldest of each takes part in a hand-out.
//!
//! ```text
//! pool = tags, engine            who may take it
//! lane = pool, kind, priority, owner, template
//! ```
//!
//! Both are read off the index of pending jobs by jumping from the first entry of one to
//! the first of the next: what is visited grows with the number of pools and of lanes in
//! the pools a daemon may take from, never with the number of jobs. Nothing is kept beside
//! the jobs, so nothing can disagree with them.

use super::Snapshot;
use super::codec::{tags, word};
use super::rows::{Row, values};
use crate::limit::Limit;
use crate::matching::{Claim, Needs, Tags};
use crate::store::Result;
use crate::words::{Kind, LimitOf, Priority};

/// Pending jobs with the same tags and engine.
pub(super) struct Pool {
    /// Its first job, in the order of the index.
    pub first: i64,
    pub tagset: i64,
    pub tags: Tags,
    pub engine: String,
}

impl Pool {
    /// What its jobs ask of a daemon.
    pub(super) fn needs(&self) -> Needs<'_> {
        Needs {
            tags: &self.tags,
            engine: &self.engine,
        }
    }

    /// Whether it has the same jobs.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.tagset == other.tagset && self.engine == other.engine
    }

    /// Whether a lane is one of its.
    pub(super) fn has(&self, lane: &Lane) -> bool {
        self.tagset == lane.tagset && self.engine == lane.engine
    }
}

/// A lane with its oldest job.
pub(super) struct Lane {
    pub tagset: i64,
    pub engine: String,
    pub kind: Kind,
    pub priority: Priority,
    pub owner: String,
    pub template: String,
    pub claim: Claim,
    /// Those that apply to its jobs, that of the owner first. A template's is named by
    /// its id.
    pub limits: Vec<Limit>,
}

impl Lane {
    /// Whether its limits let one more of its jobs be handed out.
    pub(super) fn has_room(&self) -> bool {
        !self.limits.iter().any(Limit::is_full)
    }
}

/// The jumps are written so that SQLite seeks, too. What is compared with is an
/// expression: with a bare column, whose affinity would have to be reconciled, only the
/// first pair is used. And it lies behind all of the lane or pool that is left (no engine's
/// name and no template's id begins with another's and a `!`): SQLite seeks to what is
/// equal and goes on from there one by one.
pub(super) const POOLS: &str = "WITH RECURSIVE pool (first) AS (
         SELECT (SELECT n.row FROM jobs n INDEXED BY jobs_ready
             WHERE n.state = 'pending' AND n.organization = ?1
             ORDER BY n.tagset, n.engine, n.kind, n.priority, n.owner, n.template, n.row LIMIT 1)
         UNION ALL
         SELECT (SELECT n.row FROM jobs n INDEXED BY jobs_ready
             WHERE n.state = 'pending' AND n.organization = ?1
                 AND (n.tagset, n.engine) >= (j.tagset + 0, j.engine || '!')
             ORDER BY n.tagset, n.engine, n.kind, n.priority, n.owner, n.template, n.row LIMIT 1)
         FROM pool JOIN jobs j ON j.row = pool.first)
     SELECT pool.first, s.tags, j.engine, j.tagset FROM pool JOIN jobs j ON j.row = pool.first
         JOIN tagsets s ON s.id = j.tagset";

/// A lane begins at the first job of its pool, and goes on after each lane's last.
const LANES: &str = "WITH RECURSIVE lane (first) AS (
         SELECT row FROM jobs
             WHERE row IN (SELECT CAST(value AS BIGINT) FROM json_each(?2))
         UNION ALL
         SELECT (SELECT n.row FROM jobs n INDEXED BY jobs_ready
             WHERE n.state = 'pending' AND n.organization = ?1
                 AND n.tagset = j.tagset AND n.engine = j.engine
                 AND (n.kind, n.priority, n.owner, n.template)
                     >= (j.kind || '', j.priority || '', j.owner || '', j.template || '!')
             ORDER BY n.kind, n.priority, n.owner, n.template, n.row LIMIT 1)
         FROM lane JOIN jobs j ON j.row = lane.first)
     SELECT j.row, j.created_at, j.tagset, j.engine, j.kind, j.priority, j.owner, j.template,
         (SELECT COUNT(*) FROM jobs h INDEXED BY jobs_in_hand_by_owner
             WHERE (h.state = 'offered' OR h.state = 'running' OR h.state = 'canceling')
                 AND h.owner = j.owner AND h.organization || '' = ?1),
         (SELECT MAX(s.offered_at) FROM jobs s INDEXED BY jobs_served
             WHERE s.offered_at IS NOT NULL AND s.organization = ?1 AND s.owner = j.owner),
         o.most, t.most,
         CASE WHEN t.most IS NULL THEN 0 ELSE
             (SELECT COUNT(*) FROM jobs h INDEXED BY jobs_in_hand_by_template
                 WHERE (h.state = 'offered' OR h.state = 'running' OR h.state = 'canceling')
                     AND h.template = j.template) END
     FROM lane JOIN jobs j ON j.row = lane.first
         LEFT JOIN limits o
             ON o.organization = ?1 AND o.kind = 'owner' AND o.subject = j.owner
         LEFT JOIN limits t
             ON t.organization = ?1 AND t.kind = 'template' AND t.subject = j.template";

impl Snapshot<'_> {
    /// The lanes of the pools with these first jobs. One that was taken in the meantime
    /// still says where its lane is.
    pub(super) fn lanes(self, organization: &str, firsts: &[i64]) -> Result<Vec<Lane>> {
        let statement = self.db.prepare(LANES);
        statement.all(values![organization, json(firsts)], |row| {
            let priority = word(row, 5, Priority::from_text)?;
            let limits = limits(row)?;
            Ok(Lane {
                tagset: row.get(2)?,
                engine: row.get(3)?,
                kind: word(row, 4, Kind::from_text)?,
                priority,
                owner: row.get(6)?,
                template: row.get(7)?,
                claim: Claim {
                    row: row.get(0)?,
                    priority,
                    created_ms: row.get(1)?,
                    running: row.get(8)?,
                    served_ms: row.get(9)?,
                },
                limits,
            })
        })
    }
}

/// One of [`POOLS`].
pub(super) fn pool(row: Row<'_>) -> Result<Pool> {
    Ok(Pool {
        first: row.get(0)?,
        tags: tags(row, 1)?,
        engine: row.get(2)?,
        tagset: row.get(3)?,
    })
}

/// Of a lane, that of the owner first.
fn limits(row: Row<'_>) -> Result<Vec<Limit>> {
    let mut limits = Vec::new();
    for (of, name, running, most) in [(LimitOf::Owner, 6, 8, 10), (LimitOf::Template, 7, 12, 11)] {
        if let Some(most) = row.get(most)? {
            limits.push(Limit {
                of,
                name: row.get(name)?,
                running: row.get(running)?,
                most,
            });
        }
    }
    Ok(limits)
}

fn json<T: serde::Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).expect("invariant: numbers and words are JSON")
}
