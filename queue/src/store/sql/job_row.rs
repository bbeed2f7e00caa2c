//! A job as transitions see it, and the few statements that all of them share.

use proto::ids::{JobId, LeaseId};

use super::codec::{id, lease, word, word_or_null};
use super::rows::{Row, values};
use super::{Snapshot, Tx};
use crate::lease::Side;
use crate::lifecycle::{Asked, Attempts, Standing, State};
use crate::matching::{Affinity, Tags};
use crate::store::{Error, Event, Result};
use crate::words::{Cancel, Kind, Phase};

pub(super) struct JobRow {
    pub row: i64,
    pub id: JobId,
    pub organization: String,
    pub kind: Kind,
    pub state: State,
    pub attempt: u32,
    pub attempts: Attempts,
    pub cancel: Cancel,
    pub lease: Option<LeaseId>,
    pub daemon: Option<String>,
    pub expires_at: i64,
    pub update_counter: i64,
    pub phase: Option<Phase>,
    pub gate_open_at: Option<i64>,
    pub log_end: i64,
    pub version: String,
    pub workspace: Option<String>,
    pub tagset: i64,
    pub engine: String,
    pub asked: Asked,
}

pub(super) const COLUMNS: &str = "row, id, organization, kind, state, attempt, counted, \
     uncounted, cancel, lease, daemon, COALESCE(expires_at, 0), update_counter, phase, \
     gate_open_at, log_end, version, workspace, tagset, engine, overdue";

impl JobRow {
    pub(super) fn from_row(row: Row<'_>) -> Result<Self> {
        Ok(Self {
            row: row.get(0)?,
            id: id(row, 1)?,
            organization: row.get(2)?,
            kind: word(row, 3, Kind::from_text)?,
            state: word(row, 4, State::from_text)?,
            attempt: row.get(5)?,
            attempts: Attempts {
                counted: row.get(6)?,
                uncounted: row.get(7)?,
            },
            cancel: word(row, 8, Cancel::from_text)?,
            lease: lease(row, 9)?,
            daemon: row.get(10)?,
            expires_at: row.get(11)?,
            update_counter: row.get(12)?,
            phase: word_or_null(row, 13, Phase::from_text)?,
            gate_open_at: row.get(14)?,
            log_end: row.get(15)?,
            version: row.get(16)?,
            workspace: row.get(17)?,
            tagset: row.get(18)?,
            engine: row.get(19)?,
            asked: if row.get(20)? {
                Asked::Deadline
            } else {
                Asked::Person
            },
        })
    }

    pub(super) fn side(&self) -> Side {
        match self.gate_open_at {
            None => Side::BeforeGate,
            Some(_) => Side::AfterGate,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            side: self.side(),
            attempts: self.attempts,
            asked: self.asked,
        }
    }
}

impl Tx<'_> {
    /// The job of that id, held until the end of the transaction: what is decided about
    /// it stays true.
    pub(super) fn hold_job(&self, job: JobId) -> Result<Option<JobRow>> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1 FOR NO KEY UPDATE");
        let statement = self.db.prepare(&sql);
        statement.first(values![job.to_string()], JobRow::from_row)
    }

    /// The job of that id in that organization, held.
    pub(super) fn hold_job_of(&self, organization: &str, job: JobId) -> Result<JobRow> {
        of_organization(self.hold_job(job)?, organization, job)
    }
}

fn of_organization(found: Option<JobRow>, organization: &str, job: JobId) -> Result<JobRow> {
    found
        .filter(|row| row.organization == organization)
        .ok_or_else(|| Error::NotFound {
            what: "job",
            name: job.to_string(),
        })
}

impl Snapshot<'_> {
    /// The job of that id, wherever it belongs.
    pub(super) fn find_job(self, job: JobId) -> Result<Option<JobRow>> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
        let statement = self.db.prepare(&sql);
        let found = statement.first(values![job.to_string()], JobRow::from_row)?;
        Ok(found)
    }

    /// The job of that id in that organization.
    pub(super) fn job_of(self, organization: &str, job: JobId) -> Result<JobRow> {
        of_organization(self.find_job(job)?, organization, job)
    }

    pub(super) fn tags_of(self, tagset: i64) -> Result<Tags> {
        let statement = self.db.prepare("SELECT tags FROM tagsets WHERE id = ?1");
        statement.one(values![tagset], |row| super::codec::tags(row, 0))
    }
}

/// How an attempt ended.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    Withdrawn,
    Lost,
    Finished,
    Released,
    Canceled,
    Abandoned,
}

impl Ending {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Lost => "lost",
            Self::Finished => "finished",
            Self::Released => "released",
            Self::Canceled => "canceled",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Tx<'_> {
    /// Closes the attempt in hand, if there is one.
    pub(super) fn end_attempt(&self, job: &JobRow, ending: Ending) -> Result<()> {
        self.db
            .prepare(
                "UPDATE attempts SET ended_at = ?3, ending = ?4
                 WHERE job = ?1 AND attempt = ?2 AND ended_at IS NULL",
            )
            .execute(values![job.row, job.attempt, self.now, ending.as_str()])?;
        Ok(())
    }

    /// Puts the job back for its next attempt and tells waiters.
    pub(super) fn requeue(
        &mut self,
        job: &JobRow,
        attempts: Attempts,
        ending: Ending,
    ) -> Result<()> {
        self.end_attempt(job, ending)?;
        self.db
            .prepare(
                "UPDATE jobs SET state = 'pending', attempt = attempt + 1, counted = ?2,
                     uncounted = ?3, lease = NULL, daemon = NULL, expires_at = NULL,
                     update_counter = 0, last_update_at = NULL, phase = NULL, phases = NULL,
                     gate_open_at = NULL, run_deadline_at = NULL
                 WHERE row = ?1",
            )
            .execute(values![job.row, attempts.counted, attempts.uncounted])?;
        self.emit_ready(job)?;
        self.emit(Event::JobChanged(job.id));
        self.room_made(job)
    }

    pub(super) fn emit_ready(&mut self, job: &JobRow) -> Result<()> {
        let statement = self.db.prepare(
            "SELECT s.tags, v.providers FROM tagsets s, template_versions v
             WHERE s.id = ?1 AND v.id = ?2",
        );
        let (tags, providers) = statement.one(values![job.tagset, job.version], |row| {
            Ok((super::codec::tags(row, 0)?, row.get(1)?))
        })?;
        self.emit(Event::JobReady {
            job: job.id,
            organization: job.organization.clone(),
            tags,
            engine: job.engine.clone(),
            kind: job.kind,
            affinity: Affinity {
                version: job.version.clone(),
                providers,
            },
        });
        Ok(())
    }
}
