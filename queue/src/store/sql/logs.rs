//! Log lines: stored in runs as they come, read by public sequence.
//!
//! A line is (job, attempt, seq) and is stored once, whatever is repeated; the public
//! sequence is given in order of arrival, over all attempts. A hole is not waited for: a
//! line that comes late gets its place at the end. A run is packed as one row, so that
//! the cost of a line is a few bytes and no row of its own.

use std::collections::BTreeMap;

use prost::Message;
use proto::{limits, v1};

use super::codec::{Lines, count, signed};
use super::job_row::JobRow;
use super::rows::{More, values};
use super::{Snapshot, Tx, pack};
use crate::store::model::LogPage;
use crate::store::{Error, Event, Result};

/// Runs shorter than this are not worth packing.
const PACK_FROM: usize = 512;

/// First sequence of the queue's own lines of an attempt.
const OWN_SEQ: u64 = 1 << 62;

/// Most lines of one page.
const PAGE_LINES: u32 = 10_000;

/// Which lines of an attempt are stored.
pub(super) struct Stored {
    pub attempt: u32,
    pub stored_seq: u64,
    pub highest_seq: u64,
}

/// Lines without a hole, as they are stored.
pub(in crate::store) struct Run {
    first: u64,
    last: u64,
    packed: bool,
    bytes: Vec<u8>,
}

impl Run {
    /// What a whole batch is stored as when nothing of it is stored yet: made before a
    /// transaction begins, in which others would wait for it. `None` when it has holes.
    pub(super) fn of_batch(lines: &[v1::LogLine]) -> Result<Option<Self>> {
        let unbroken = lines.is_sorted_by(|a, b| a.seq.checked_add(1) == Some(b.seq));
        if lines.is_empty() || !unbroken {
            return Ok(None);
        }
        Self::of(lines.iter()).map(Some)
    }

    fn of<'l>(lines: impl Iterator<Item = &'l v1::LogLine> + Clone) -> Result<Self> {
        let numbers = lines.clone().map(|line| line.seq);
        let plain = Lines::encoded(lines);
        let packed = plain.len() >= PACK_FROM;
        Ok(Self {
            first: numbers.clone().next().unwrap_or(0),
            last: numbers.last().unwrap_or(0),
            packed,
            bytes: if packed { pack::packed(&plain)? } else { plain },
        })
    }

    fn lines(&self) -> u64 {
        self.last - self.first + 1
    }
}

impl Tx<'_> {
    /// Stores the lines that are new. What that moves of the job and of the attempt is the
    /// caller's to write. `whole` is [`Run::of_batch`] of the lines.
    pub(super) fn append_lines(
        &mut self,
        job: &mut JobRow,
        stored: &mut Stored,
        lines: &[v1::LogLine],
        whole: Option<&Run>,
    ) -> Result<Came> {
        let unbroken = stored.highest_seq == stored.stored_seq;
        match whole {
            Some(run) if unbroken && run.first == stored.stored_seq + 1 => {
                self.insert_run(job, stored.attempt, run)?;
                (stored.stored_seq, stored.highest_seq) = (run.last, run.last);
            }
            Some(_) | None => {
                let runs = self.new_runs(job, stored, lines)?;
                if runs.is_empty() {
                    return Ok(Came::Nothing);
                }
                for run in &runs {
                    self.insert_run(job, stored.attempt, run)?;
                }
                self.note_stored(job, stored, &runs)?;
            }
        }
        self.emit(Event::LogsAppended(job.id));
        Ok(Came::Lines)
    }

    /// Stores lines of the queue's own behind all others; once for a job. Their sequences
    /// lie where no attempt's ever come.
    pub(super) fn append_own(
        &mut self,
        job: &mut JobRow,
        lines: impl Iterator<Item = v1::LogLine>,
    ) -> Result<()> {
        let numbered = (OWN_SEQ..).zip(lines);
        let numbered: Vec<v1::LogLine> = numbered
            .map(|(seq, line)| v1::LogLine { seq, ..line })
            .collect();
        if let Some(run) = Run::of_batch(&numbered)? {
            self.insert_run(job, job.attempt, &run)?;
            self.emit(Event::LogsAppended(job.id));
        }
        Ok(())
    }

    /// Writes how far the log of a job goes whose leases it moves no more.
    pub(super) fn write_log_end(&self, job: &JobRow) -> Result<()> {
        self.db
            .prepare("UPDATE jobs SET log_end = ?2 WHERE row = ?1")
            .run(values![job.row, job.log_end])
    }

    /// Writes which lines of an attempt are stored, and when its gate opened, if it has.
    pub(super) fn write_stored(
        &self,
        job: &JobRow,
        stored: &Stored,
        gate_open_at: Option<i64>,
    ) -> Result<()> {
        self.db
            .prepare(
                "UPDATE attempts SET stored_seq = ?3, highest_seq = ?4,
                     gate_open_at = COALESCE(gate_open_at, ?5)
                 WHERE job = ?1 AND attempt = ?2",
            )
            .run(values![
                job.row,
                stored.attempt,
                signed(stored.stored_seq, "line sequence")?,
                signed(stored.highest_seq, "line sequence")?,
                gate_open_at
            ])
    }

    /// Lines not stored yet, in order, cut where the sequence is.
    fn new_runs(&self, job: &JobRow, stored: &Stored, lines: &[v1::LogLine]) -> Result<Vec<Run>> {
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
        let new: Vec<&v1::LogLine> = new.into_values().collect();
        new.chunk_by(|a, b| a.seq + 1 == b.seq)
            .map(|run| Run::of(run.iter().copied()))
            .collect()
    }

    fn note_stored(&self, job: &JobRow, stored: &mut Stored, runs: &[Run]) -> Result<()> {
        let highest = runs.iter().map(|run| run.last);
        let highest = highest.fold(stored.highest_seq, u64::max);
        let beyond = self.runs_beyond(job.row, stored.attempt, stored.stored_seq)?;
        stored.stored_seq = beyond
            .into_iter()
            .fold(stored.stored_seq, |end, (from, to)| {
                if from <= end + 1 { end.max(to) } else { end }
            });
        stored.highest_seq = highest;
        Ok(())
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

    /// Inserts one run behind all that is stored, and moves the end of the log.
    fn insert_run(&self, job: &mut JobRow, attempt: u32, run: &Run) -> Result<()> {
        let end = job.log_end;
        job.log_end += signed(run.lines(), "line count")?;
        self.db
            .prepare(
                "INSERT INTO log_chunks (job, attempt, first_seq, last_seq, first_public,
                     last_public, packed, lines)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )
            .run(values![
                job.row,
                attempt,
                signed(run.first, "line sequence")?,
                signed(run.last, "line sequence")?,
                end + 1,
                job.log_end,
                run.packed,
                run.bytes
            ])
    }
}

/// Whether a batch brought anything new.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    Lines,
    Nothing,
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
                if page.lines.len() == limit || bytes >= limits::LOG_BATCH {
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
    let lines = if packed {
        Lines::decode(pack::unpacked(bytes)?.as_slice())
    } else {
        Lines::decode(bytes)
    };
    let lines = lines.map_err(|source| Error::Backend {
        doing: "read log lines",
        source: Box::new(source),
    })?;
    Ok(lines.list)
}
