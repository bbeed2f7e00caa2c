//! A job as transitions see it, and the few statements that all of them share.

use std::sync::LazyLock;

use prost::Message;
use proto::ids::{JobId, LeaseId};

use super::asked::{First, Read};
use super::codec::{Phases, count, id, lease, message, word, word_or_null};
use super::contact::UNHEARD;
use super::logs::Stored;
use super::rows::{Row, Value, values};
use super::{Snapshot, Tx};
use crate::lease::Side;
use crate::lifecycle::{Asked, Attempts, Standing, State};
use crate::matching::{Affinity, Tags};
use crate::store::model::DaemonRef;
use crate::store::{Error, Event, Result};
use crate::words::{Cancel, Kind, Phase};

#[derive(Clone)]
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
    pub last_update_at: Option<i64>,
    pub phase: Option<Phase>,
    pub phases: Phases,
    pub gate_open_at: Option<i64>,
    pub log_end: i64,
    pub version: String,
    pub workspace: Option<String>,
    pub tagset: i64,
    pub engine: String,
    pub asked: Asked,
    /// Whether an attempt of it was ever confirmed.
    pub has_run: bool,
}

pub(super) const COLUMNS: &str = "jobs.row, jobs.id, jobs.organization, jobs.kind, jobs.state, \
     jobs.attempt, jobs.counted, jobs.uncounted, jobs.cancel, jobs.lease, jobs.daemon, \
     COALESCE(jobs.expires_at, 0), jobs.update_counter, jobs.phase, jobs.gate_open_at, \
     jobs.log_end, jobs.version, jobs.workspace, jobs.tagset, jobs.engine, jobs.overdue, \
     jobs.last_update_at, jobs.phases, jobs.started_at IS NOT NULL";

/// How many columns those are.
const WIDTH: usize = 24;

/// An attempt with its job, both held, so that neither is seen as it was before a wait for
/// the other; and whether its daemon is still to be noted as heard.
static ATTEMPT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {COLUMNS}, attempts.attempt, attempts.stored_seq, attempts.highest_seq,
             (SELECT COUNT(*) FROM daemons WHERE {UNHEARD})
         FROM jobs JOIN attempts ON attempts.job = jobs.row
         WHERE jobs.id = ?5 AND jobs.organization || '' = ?1 AND attempts.lease = ?6 AND attempts.daemon = ?2
             AND attempts.instance = ?3 FOR NO KEY UPDATE"
    )
});

/// A job, and what is stored of the attempt that was asked for; `None` where the job does
/// not know it.
pub(super) type Attempt = Option<(JobRow, Option<Stored>)>;

/// An attempt as a daemon names it.
pub(super) struct Named<'a> {
    pub daemon: &'a DaemonRef,
    pub job: JobId,
    pub lease: LeaseId,
    id: String,
    vouches_since: i64,
}

/// An attempt with its job, held.
pub(super) struct Held {
    job: JobRow,
    stored: Stored,
    unheard: bool,
}

impl Named<'_> {
    /// Of its job.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The question for it.
    pub(super) fn asked(&self) -> First<'_, Held, Read<Held>> {
        let values = [
            Value::Text(Some(&self.daemon.organization)),
            Value::Text(Some(&self.daemon.name)),
            Value::Text(Some(&self.daemon.instance)),
            Value::Int(Some(self.vouches_since)),
            Value::Text(Some(&self.id)),
            Value::Blob(Some(self.lease.as_bytes())),
        ];
        First::of(&ATTEMPT, &values, Held::from_row)
    }
}

impl Held {
    fn from_row(row: Row<'_>) -> Result<Self> {
        Ok(Self {
            job: JobRow::from_row(row)?,
            stored: Stored {
                attempt: row.get(WIDTH)?,
                stored_seq: count(row.get(WIDTH + 1)?),
                highest_seq: count(row.get(WIDTH + 2)?),
            },
            unheard: row.get(WIDTH + 3)?,
        })
    }
}

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
            last_update_at: row.get(21)?,
            phases: message(row, 22)?,
            has_run: row.get(23)?,
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

    /// Notes that the daemon was heard. The job of that id in its organization, held, and
    /// what is stored of the attempt that this lease was given to this daemon for.
    pub(super) fn hold_attempt(&self, named: &Named<'_>) -> Result<Attempt> {
        let mut asked = named.asked();
        self.db.ask(&mut [&mut asked])?;
        self.held_attempt(named, asked.found())
    }

    /// The same, once it was asked for.
    pub(super) fn held_attempt(&self, named: &Named<'_>, held: Option<Held>) -> Result<Attempt> {
        if held.as_ref().is_none_or(|held| held.unheard) {
            self.heard(named.daemon)?;
        }
        let organization = named.daemon.organization.as_str();
        Ok(match held {
            Some(held) => Some((held.job, Some(held.stored))),
            None => {
                let job = self.hold_job_in(organization, named.job)?;
                job.map(|job| (job, None))
            }
        })
    }

    /// Writes what updates move.
    pub(super) fn write_progress(&self, job: &JobRow) -> Result<()> {
        self.db
            .prepare(
                "UPDATE jobs SET update_counter = ?2, last_update_at = ?3, expires_at = ?4,
                     phase = ?5, phases = ?6, gate_open_at = ?7, log_end = ?8
                 WHERE row = ?1",
            )
            .run(values![
                job.row,
                job.update_counter,
                job.last_update_at,
                job.expires_at,
                job.phase.map(Phase::as_str),
                job.phases.encode_to_vec(),
                job.gate_open_at,
                job.log_end
            ])
    }

    /// The job of that id in that organization, held; nobody holds another one's.
    fn hold_job_in(&self, organization: &str, job: JobId) -> Result<Option<JobRow>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE jobs.id = ?1 AND jobs.organization || '' = ?2
             FOR NO KEY UPDATE"
        );
        let statement = self.db.prepare(&sql);
        statement.first(values![job.to_string(), organization], JobRow::from_row)
    }

    /// The same, which there must be.
    pub(super) fn hold_job_of(&self, organization: &str, job: JobId) -> Result<JobRow> {
        of_organization(self.hold_job_in(organization, job)?, organization, job)
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
    /// An attempt as a daemon names it.
    pub(super) fn named(self, daemon: &DaemonRef, job: JobId, lease: LeaseId) -> Named<'_> {
        Named {
            daemon,
            job,
            lease,
            id: job.to_string(),
            vouches_since: self.vouches_since(),
        }
    }

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
            .run(values![job.row, job.attempt, self.now, ending.as_str()])
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
                     gate_open_at = NULL, run_deadline_at = NULL, log_end = ?4
                 WHERE row = ?1",
            )
            .run(values![
                job.row,
                attempts.counted,
                attempts.uncounted,
                job.log_end
            ])?;
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
