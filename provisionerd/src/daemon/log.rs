//! The log of one attempt on its way from its worker to the queue: checked, redacted, in
//! order, and what has to be left out is counted.
//!
//! While the queue takes updates, lines wait in the outbox; the worker hands out no more
//! than its credit allows. A queue that will never take another update still gets what
//! fits into one finish, and one line that counts the rest.

use proto::limits;
use proto::v1::{LogLevel, LogLine, LogSource, Phase};
use tokio::time::Instant;

use super::journal::unix_ms;
use super::outbox::{self, Batch, Outbox};
use super::redact::Redactor;

/// The worker broke a rule about what it hands over in order.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Foul {
    /// A hole or a repetition.
    #[error("it sent {what} {got} where {expected} was due")]
    Sequence {
        /// Lines or ledger entries.
        what: &'static str,
        /// Its sequence.
        got: u64,
        /// The one that was due.
        expected: u64,
    },
    /// See [`limits::LOG_PIECE`].
    #[error("it sent a line of {size} bytes, over the limit of {limit}")]
    Line {
        /// Of the line.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// See [`outbox::OVERFLOW`].
    #[error("it sent more than {limit} bytes of lines ahead of its credit")]
    Credit {
        /// The limit.
        limit: usize,
    },
}

/// What did not fit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct LeftOut {
    lines: u64,
    bytes: usize,
}

impl LeftOut {
    fn add(&mut self, line: &LogLine) {
        self.lines += 1;
        self.bytes += line.text.len();
    }
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    /// Knows every secret of the job.
    pub redactor: Redactor,
    /// What waits for the queue.
    pub outbox: Outbox,
    /// Of the newest line.
    seq: u64,
    closed: bool,
    left_out: LeftOut,
}

impl Log {
    /// The lines behind `seq`.
    #[must_use]
    pub fn after(seq: u64, redactor: Redactor, outbox: Outbox) -> Self {
        Self {
            redactor,
            outbox,
            seq,
            closed: false,
            left_out: LeftOut::default(),
        }
    }

    /// Sequence of the newest line that was handed over.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The queue will take no more updates.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether updates make sense.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.closed
    }

    /// Checks lines, redacts them and lets them wait for the queue.
    ///
    /// # Errors
    /// See [`Foul`]; nothing of a foul line goes on.
    pub fn take(&mut self, lines: Vec<LogLine>) -> Result<(), Foul> {
        for line in lines {
            in_order("line", line.seq, self.seq)?;
            if line.text.len() > limits::LOG_PIECE {
                return Err(Foul::Line {
                    size: line.text.len(),
                    limit: limits::LOG_PIECE,
                });
            }
            self.seq = line.seq;
            for safe in self.redactor.line(line) {
                self.keep(safe);
            }
        }
        if self.outbox.bytes() > outbox::OVERFLOW {
            return Err(Foul::Credit {
                limit: outbox::OVERFLOW,
            });
        }
        Ok(())
    }

    /// All that waits, for the finish: no more lines will come.
    pub fn end(&mut self) -> Vec<LogLine> {
        for safe in self.redactor.rest() {
            self.keep(safe);
        }
        let mut lines = self.outbox.drain().lines;
        if self.closed {
            let fits = fitting(&lines);
            for line in lines.drain(fits..) {
                self.left_out.add(&line);
            }
        }
        lines.extend(self.gap());
        lines
    }

    /// Sequence up to which the log is stored in whole lines, given that `batch` is: from
    /// there it can be read again, since no secret reaches over the end of a line.
    #[must_use]
    pub fn whole_lines(batch: &Batch) -> Option<u64> {
        let whole = batch.lines.iter().rev().find(|line| !line.more)?;
        Some(whole.seq)
    }

    /// Once one line does not fit, the lines behind it do not go either: what is left out
    /// is the end.
    fn keep(&mut self, line: LogLine) {
        let full = self.outbox.bytes() >= limits::UPDATE_BYTES
            || self.outbox.lines() >= limits::UPDATE_LINES;
        if self.closed && (full || self.left_out.lines > 0) {
            self.left_out.add(&line);
        } else {
            self.outbox.line(line, Instant::now());
        }
    }

    /// Stands for what was left out, in the place of its last line.
    fn gap(&mut self) -> Option<LogLine> {
        let LeftOut { lines, bytes } = std::mem::take(&mut self.left_out);
        (lines > 0).then(|| LogLine {
            seq: self.seq,
            time_ms: unix_ms(),
            phase: Phase::Cleanup.into(),
            source: LogSource::Gap.into(),
            level: LogLevel::Warn.into(),
            text: format!(
                "{lines} lines ({bytes} bytes) were left out: the queue takes no more \
                 updates of this job, and a finish holds {} lines or {} bytes",
                limits::UPDATE_LINES,
                limits::UPDATE_BYTES
            ),
            more: false,
        })
    }
}

/// How many of `lines` go into one message together with a gap line.
fn fitting(lines: &[LogLine]) -> usize {
    // A gap line has far fewer.
    let room = limits::UPDATE_BYTES - 1024;
    let mut bytes = 0;
    let whole = lines
        .iter()
        .take(limits::UPDATE_LINES - 1)
        .take_while(|line| {
            bytes += line.text.len();
            bytes <= room
        });
    whole.count()
}

/// Whether `got` comes right behind `last`.
///
/// # Errors
/// [`Foul::Sequence`] when it does not.
pub fn in_order(what: &'static str, got: u64, last: u64) -> Result<(), Foul> {
    let expected = last + 1;
    if got == expected {
        return Ok(());
    }
    Err(Foul::Sequence {
        what,
        got,
        expected,
    })
}

#[cfg(test)]
mod tests;
