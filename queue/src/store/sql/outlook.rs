//! What a forecast is made of, read in a handful of statements however many jobs wait, and
//! where one job stands.

use std::collections::{BTreeSet, HashMap};

use super::Snapshot;
use super::codec::{count, tags, word, word_or_null};
use super::limits::limit;
use super::rows::{Row, values};
use crate::lease::millis;
use crate::lifecycle::State;
use crate::limit::Limit;
use crate::matching::AUTOMATIC_WAITS;
use crate::store::Result;
use crate::store::model::{
    Crew, DaemonContact, Drain, InHand, Outlook, Place, Queued, Standing, Work,
};
use crate::words::{Kind, Priority, Transition};
use proto::ids::JobId;

/// Runs of a template and kind of job that an estimate is made of.
const RUNS: u32 = 16;

const QUEUED: &str = "SELECT s.tags, q.engine, q.kind, q.priority, q.owner, q.template, q.jobs, \
         q.oldest, q.newest, first.created_at, q.tagset,
         (SELECT MAX(h.offered_at) FROM jobs h INDEXED BY jobs_served
             WHERE h.offered_at IS NOT NULL AND h.organization = ?1 AND h.owner = q.owner)
     FROM (SELECT tagset, engine, kind, priority, owner, template, COUNT(*) AS jobs,
             MIN(row) AS oldest, MAX(row) AS newest
         FROM jobs INDEXED BY jobs_ready WHERE state = 'pending' AND organization = ?1
         GROUP BY tagset, engine, kind, priority, owner, template) q
     JOIN tagsets s ON s.id = q.tagset JOIN jobs first ON first.row = q.oldest";

/// The newest runs of each template and kind, each found from the one after it.
const RAN: &str = "WITH RECURSIVE ran (template, kind, job, n) AS (
         SELECT t.id, k.kind, (SELECT MAX(r.row) FROM jobs r INDEXED BY jobs_ran
             WHERE r.state = 'succeeded' AND r.organization = ?1 AND r.template = t.id
                 AND r.kind = k.kind), 1
         FROM templates t, (SELECT CAST('template_import' AS TEXT) AS kind
             UNION ALL SELECT 'template_dry_run' UNION ALL SELECT 'workspace_build') k
         WHERE t.id IN (SELECT value FROM json_each(?2))
         UNION ALL
         SELECT ran.template, ran.kind, (SELECT MAX(r.row) FROM jobs r INDEXED BY jobs_ran
             WHERE r.state = 'succeeded' AND r.organization = ?1 AND r.template = ran.template
                 AND r.kind = ran.kind AND r.row < ran.job), ran.n + 1
         FROM ran WHERE ran.job IS NOT NULL AND ran.n < ?3)
     SELECT ran.template, ran.kind, b.transition, j.completed_at - j.offered_at
     FROM ran JOIN jobs j ON j.row = ran.job LEFT JOIN builds b ON b.job = j.row
     WHERE j.offered_at IS NOT NULL ORDER BY ran.n DESC";

/// Names daemons that offer the same, by tags and facts as they are stored.
type Crews = HashMap<(String, String), usize>;

impl Snapshot<'_> {
    /// See [`Outlook`].
    pub(in crate::store) fn outlook(self, organization: &str) -> Result<Outlook> {
        let (crews, by_offer) = self.crews(organization)?;
        let queued = self.queued(organization)?;
        let in_hand = self.in_hand_of(organization, &by_offer)?;
        let mut limits = self.all_limits(organization)?;
        for (limit, subject) in &mut limits {
            let counts = |job: &&InHand| limit.counts(subject, &job.owner, &job.work.template);
            let running = in_hand.iter().filter(counts).count();
            limit.running = u32::try_from(running).unwrap_or(u32::MAX);
        }
        let waiting = queued.iter().map(|it| &it.standing.template);
        let templates = waiting.chain(in_hand.iter().map(|it| &it.work.template));
        let runs = self.runs(organization, &templates.collect())?;
        Ok(Outlook {
            now_ms: self.now,
            crews,
            queued,
            in_hand,
            limits,
            runs,
        })
    }

    /// Daemons that live and take jobs.
    fn crews(self, organization: &str) -> Result<(Vec<Crew>, Crews)> {
        let statement = self.db.prepare(
            "SELECT d.tags, d.facts, COUNT(*), CAST(SUM(d.slots) AS BIGINT)
             FROM daemons d LEFT JOIN replicas r ON r.id = d.held_by
             WHERE d.organization = ?1 AND d.control_lost_at IS NULL AND d.draining = 0
                 AND (d.last_seen_at > ?2 OR r.seen_at > ?2)
             GROUP BY d.tags, d.facts ORDER BY d.tags, d.facts",
        );
        let mut found: Vec<((String, String), Crew)> =
            statement.all(values![organization, self.live_since()], |row| {
                let crew = Crew {
                    tags: tags(row, 0)?,
                    facts: tags(row, 1)?,
                    daemons: row.get(2)?,
                    slots: row.get(3)?,
                };
                Ok(((row.get(0)?, row.get(1)?), crew))
            })?;
        found.retain(|(_, crew)| DaemonContact::drain_of(&crew.facts) == Drain::Off);
        let (offers, crews): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let by_offer = offers.into_iter().zip(0..).collect();
        Ok((crews, by_offer))
    }

    fn queued(self, organization: &str) -> Result<Vec<Queued>> {
        let due_since = self.now - millis(AUTOMATIC_WAITS);
        let statement = self.db.prepare(QUEUED);
        let mut some_due = false;
        let mut queued = statement.all(values![organization], |row| {
            let standing = standing(row)?;
            some_due |= standing.priority == Priority::Automatic && row.get::<i64>(9)? <= due_since;
            let queued = Queued {
                standing,
                jobs: count(row.get(6)?),
                due: 0,
                rows: (row.get(7)?, row.get(8)?),
                served_ms: row.get(11)?,
            };
            Ok((row.get(10)?, queued))
        })?;
        if some_due {
            let due = self.due(organization, due_since)?;
            for (tagset, queued) in &mut queued {
                let of = (*tagset, queued.rows.0);
                queued.due = due.get(&of).copied().unwrap_or_default();
            }
        }
        Ok(queued.into_iter().map(|(_, queued)| queued).collect())
    }

    /// Automatic jobs that have waited long enough, by tags and the oldest of their lane.
    fn due(self, organization: &str, since: i64) -> Result<HashMap<(i64, i64), u64>> {
        let statement = self.db.prepare(
            "SELECT tagset, MIN(row), COUNT(*) FROM jobs INDEXED BY jobs_ready
             WHERE state = 'pending' AND organization = ?1 AND priority = 'automatic'
                 AND created_at <= ?2
             GROUP BY tagset, engine, kind, owner, template",
        );
        let due = statement.all(values![organization, since], |row| {
            Ok(((row.get(0)?, row.get(1)?), count(row.get(2)?)))
        })?;
        Ok(due.into_iter().collect())
    }

    fn in_hand_of(self, organization: &str, crews: &Crews) -> Result<Vec<InHand>> {
        let statement = self.db.prepare(
            "SELECT j.owner, j.template, j.kind, b.transition, COALESCE(j.offered_at, 0),
                 d.tags, d.facts
             FROM jobs j INDEXED BY jobs_in_hand LEFT JOIN builds b ON b.job = j.row
                 LEFT JOIN daemons d ON d.organization = j.organization AND d.name = j.daemon
             WHERE (j.state = 'offered' OR j.state = 'running' OR j.state = 'canceling')
                 AND j.organization = ?1",
        );
        statement.all(values![organization], |row| {
            let text = |index| {
                row.get::<Option<String>>(index)
                    .map(Option::unwrap_or_default)
            };
            Ok(InHand {
                crew: crews.get(&(text(5)?, text(6)?)).copied(),
                owner: row.get(0)?,
                work: work(row, 1)?,
                since_ms: row.get(4)?,
            })
        })
    }

    fn all_limits(self, organization: &str) -> Result<Vec<(Limit, String)>> {
        let statement = self.db.prepare(super::limits::ALL);
        statement.all(values![organization], limit)
    }

    fn runs(self, organization: &str, templates: &BTreeSet<&String>) -> Result<Vec<(Work, i64)>> {
        if templates.is_empty() {
            return Ok(Vec::new());
        }
        let templates =
            serde_json::to_string(templates).expect("invariant: a list of strings is JSON");
        let statement = self.db.prepare(RAN);
        statement.all(values![organization, templates, RUNS], |row| {
            Ok((work(row, 0)?, row.get(3)?))
        })
    }

    /// Where a job stands if it is pending, without what is ahead of it.
    pub(super) fn standing(self, organization: &str, job: JobId) -> Result<Option<Place>> {
        let statement = self.db.prepare(
            "SELECT s.tags, j.engine, j.kind, j.priority, j.owner, j.template, j.row,
                 j.created_at, j.state
             FROM jobs j JOIN tagsets s ON s.id = j.tagset
             WHERE j.id = ?1 AND j.organization || '' = ?2",
        );
        let found = statement.first(values![job.to_string(), organization], |row| {
            let place = Place {
                standing: standing(row)?,
                row: row.get(6)?,
                created_ms: row.get(7)?,
                ahead: None,
            };
            Ok((word(row, 8, State::from_text)?, place))
        })?;
        Ok(found.and_then(|(state, place)| (state == State::Pending).then_some(place)))
    }

    /// Where a job stands if it is pending.
    pub(in crate::store) fn place(self, organization: &str, job: JobId) -> Result<Option<Place>> {
        let Some(place) = self.standing(organization, job)? else {
            return Ok(None);
        };
        let statement = self.db.prepare(
            "SELECT COUNT(*) FROM jobs j JOIN jobs n INDEXED BY jobs_ready
                 ON n.state = 'pending' AND n.organization = j.organization
                     AND n.tagset = j.tagset AND n.engine = j.engine AND n.kind = j.kind
                     AND n.priority = j.priority AND n.owner = j.owner
                     AND n.template = j.template AND n.row < j.row
             WHERE j.row = ?1",
        );
        let ahead = statement.one(values![place.row], |row| Ok(count(row.get(0)?)))?;
        Ok(Some(Place {
            ahead: Some(ahead),
            ..place
        }))
    }
}

/// The first six columns.
fn standing(row: Row<'_>) -> Result<Standing> {
    Ok(Standing {
        tags: tags(row, 0)?,
        engine: row.get(1)?,
        kind: word(row, 2, Kind::from_text)?,
        priority: word(row, 3, Priority::from_text)?,
        owner: row.get(4)?,
        template: row.get(5)?,
    })
}

/// Template, kind and transition, from this column on.
fn work(row: Row<'_>, at: usize) -> Result<Work> {
    Ok(Work {
        template: row.get(at)?,
        kind: word(row, at + 1, Kind::from_text)?,
        transition: word_or_null(row, at + 2, Transition::from_text)?,
    })
}
