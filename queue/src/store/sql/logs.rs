//! Log lines: stored in runs as they come, read by public sequence.
//!
//! A line is (job, attempt, seq) and is stored once, whatever is repeated; the public
//! sequence is given in order of arrival, over all attempts. A hole is not waited for: a
//! line that comes late gets its place at the end. A run is packed as one row, so that
//! the cost of a line is a few bytes and no row of its own.

use std::collections::BTreeMap;

use prost::Message;
use proto::v1;

use super::codec::{Lines, count, signed};
use super::job_row::JobRow;
use super::rows::{More, values};
use super::{Snapshot, Tx};
use crate::store::model::LogPage;
use crate::store::{Error, Event, Result};

/// Runs shorter than this are not worth packing.
const PACK_FROM: usize = 512;

/// zstd's fastest level: logs shrink tenfold with any.
const LEVEL: i32 = 1;

/// First sequence of the queue's own lines of an attempt.
const OWN_SEQ: u64 = 1 << 62;

/// Text of one page at which it ends early.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Most lines of one page.
const PAGE_LINES: u32 = 10_000;

/// Which lines of an attempt are stored.
pub(super) struct Stored {
    pub attempt: u32,
    pub stored_seq: u64,
    pub highest_seq: u64,
}

impl Tx<'_> {
    /// Stores the lines that are new; the highest sequence without holes.
    pub(super) fn append_lines(
        &mut self,
        job: &JobRow,
        stored: &Stored,
        lines: &[v1::LogLine],
    ) -> Result<u64> {
        let runs = self.new_runs(job, stored, lines)?;
        if runs.is_empty() {
            return Ok(stored.stored_seq);
        }
        self.insert_runs(job, stored.attempt, &runs)?;
        self.note_stored(job, stored, &runs)
    }

    /// Stores lines of the queue's own behind all others; once for a job. Their sequences
    /// lie where no attempt's ever come.
    pub(super) fn append_own(&mut self, job: &JobRow, lines: Vec<v1::LogLine>) -> Result<()> {
        let numbered: Vec<v1::LogLine> = (OWN_SEQ..)
            .zip(lines)
            .map(|(seq, line)| v1::LogLine { seq, ..line })
            .collect();
        self.insert_runs(job, job.attempt, &[numbered])
    }

    /// Puts runs behind all that is stored.
    fn insert_runs(&mut self, job: &JobRow, attempt: u32, runs: &[Vec<v1::LogLine>]) -> Result<()> {
        let mut end: i64 = self
            .db
            .prepare("SELECT log_end FROM jobs WHERE row = ?1")
            .one(values![job.row], |row| row.get(0))?;
        for run in runs {
            end = self.insert_run(job.row, attempt, end, run)?;
        }
        self.db
            .prepare("UPDATE jobs SET log_end = ?2 WHERE row = ?1")
            .execute(values![job.row, end])?;
        self.emit(Event::LogsAppended(job.id));
        Ok(())
    }

    /// Lines not stored yet, in order, cut where the sequence is.
    fn new_runs(
        &self,
        job: &JobRow,
        stored: &Stored,
        lines: &[v1::LogLine],
    ) -> Result<Vec<Vec<v1::LogLine>>> {
        let mut new: BTreeMap<u64, &v1::LogLine> = lines
            .iter()
            .filter(|line| line.seq > stored.stored_seq)
            .map(|line| (line.seq, line))
            .collect();
        if let Some((&first, _)) = new.first_key_value()
            && first <= stored.highest_seq
        {
            for (from, to) in self.runs_beyond(job.row, stored.attempt, stored.stored_seq)? {
                new.retain(|seq, _| *seq < from || *seq > to);
            }
        }
        let mut runs: Vec<Vec<v1::LogLine>> = Vec::new();
        for line in new.into_values() {
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(|last| last.seq + 1 == line.seq) => {
                    run.push(line.clone());
                }
                Some(_) | None => runs.push(vec![line.clone()]),
            }
        }
        Ok(runs)
    }

    fn note_stored(&self, job: &JobRow, stored: &Stored, runs: &[Vec<v1::LogLine>]) -> Result<u64> {
        let last = |run: &Vec<v1::LogLine>| run.last().map_or(0, |line| line.seq);
        let first = |run: &Vec<v1::LogLine>| run.first().map_or(0, |line| line.seq);
        let highest = runs.iter().map(last).fold(stored.highest_seq, u64::max);
        let continues = runs
            .first()
            .is_some_and(|run| first(run) == stored.stored_seq + 1);
        let unbroken = if runs.len() == 1 && continues && stored.highest_seq == stored.stored_seq {
            highest
        } else {
            let beyond = self.runs_beyond(job.row, stored.attempt, stored.stored_seq)?;
            beyond
                .into_iter()
                .fold(stored.stored_seq, |end, (from, to)| {
                    if from <= end + 1 { end.max(to) } else { end }
                })
        };
        self.db
            .prepare(
                "UPDATE attempts SET stored_seq = ?3, highest_seq = ?4
                 WHERE job = ?1 AND attempt = ?2",
            )
            .execute(values![
                job.row,
                stored.attempt,
                signed(unbroken, "line sequence")?,
                signed(highest, "line sequence")?
            ])?;
        Ok(unbroken)
    }

    /// Stored runs that end beyond `seq`, in order.
    fn runs_beyond(&self, job: i64, attempt: u32, seq: u64) -> Result<Vec<(u64, u64)>> {
        let statement = self.db.prepare(
            "SELECT first_seq, last_seq FROM log_chunks
             WHERE job = ?1 AND attempt = ?2 AND last_seq > ?3 ORDER BY first_seq",
        );
        let seq = signed(seq, "line sequence")?;
        statement.all(values![job, attempt, seq], |row| {
            Ok((count(row.get(0)?), count(row.get(1)?)))
        })
    }
}

impl Tx<'_> {
    /// Inserts one run behind public sequence `end`; the new end.
    fn insert_run(&self, job: i64, attempt: u32, end: i64, run: &[v1::LogLine]) -> Result<i64> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(end);
        };
        let new_end = end + signed(run.len() as u64, "line count")?;
        let plain = Lines { list: run.to_vec() }.encode_to_vec();
        let packed = plain.len() >= PACK_FROM;
        let bytes = if packed { pack(&plain)? } else { plain };
        self.db.prepare(
        "INSERT INTO log_chunks (job, attempt, first_seq, last_seq, first_public, last_public,
             packed, lines)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .execute(values![
        job,
        attempt,
        signed(first.seq, "line sequence")?,
        signed(last.seq, "line sequence")?,
        end + 1,
        new_end,
        packed,
        bytes
    ])?;
        Ok(new_end)
    }
}

fn pack(plain: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(plain, LEVEL).map_err(|source| Error::Backend {
        doing: "packed log lines",
        source: Box::new(source),
    })
}

/// One stored run.
struct Chunk {
    attempt: u32,
    first_public: u64,
    lines: Vec<v1::LogLine>,
}

impl Snapshot<'_> {
    pub(super) fn logs_after(self, job: &JobRow, after: u64, limit: u32) -> Result<LogPage> {
        let mut page = LogPage {
            lines: Vec::new(),
            end: count(job.log_end),
            ended: job.state.is_terminal(),
        };
        let limit = limit.clamp(1, PAGE_LINES) as usize;
        let mut bytes = 0;
        let statement = self.db.prepare(
            "SELECT attempt, first_public, packed, lines FROM log_chunks
             WHERE job = ?1 AND last_public > ?2 AND first_public <= ?3 ORDER BY last_public",
        );
        let (after_row, to_row) = (
            signed(after, "log position")?,
            signed(after.saturating_add(limit as u64), "log position")?,
        );
        statement.each(values![job.row, after_row, to_row], |row| {
            let chunk = Chunk {
                attempt: row.get(0)?,
                first_public: count(row.get(1)?),
                lines: unpack(row.get(2)?, row.bytes_or_null(3)?.unwrap_or_default())?,
            };
            for (seq, line) in (chunk.first_public..).zip(chunk.lines) {
                if seq <= after {
                    continue;
                }
                if page.lines.len() == limit || bytes >= PAGE_BYTES {
                    return Ok(More::No);
                }
                bytes += line.text.len();
                page.lines.push(v1::StoredLine {
                    seq,
                    attempt: chunk.attempt,
                    line: Some(line),
                });
            }
            Ok(More::Yes)
        })?;
        // Public sequences have no holes: lines that are not there were there.
        if page.lines.is_empty() && after < page.end {
            return Err(Error::Pruned {
                what: "log of job",
                name: job.id.to_string(),
            });
        }
        Ok(page)
    }
}

fn unpack(packed: bool, bytes: &[u8]) -> Result<Vec<v1::LogLine>> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Backend {
        doing: "unpacked log lines",
        source,
    };
    let lines = if packed {
        let plain = zstd::stream::decode_all(bytes).map_err(|e| failed(Box::new(e)))?;
        Lines::decode(plain.as_slice())
    } else {
        Lines::decode(bytes)
    };
    Ok(lines.map_err(|e| failed(Box::new(e)))?.list)
}
