//! What one job still has to tell the queue, and when it must be told.
//!
//! Lines leave when the *oldest* has waited [`Timings::flush`], or at 64 KiB, or at 200
//! lines; a ledger entry, a checkpoint and the gate leave at once; a heartbeat leaves
//! after [`Timings::update`]. Nothing leaves this box before the queue has stored it.

use std::collections::VecDeque;

use proto::limits;
use proto::timings::Timings;
use proto::v1::{Checkpoint, LedgerEntry, LogLine};
use tokio::time::Instant;

/// Unsent text at which a worker is no longer keeping to its credit: far more than an
/// honest one has in flight.
pub const OVERFLOW: usize = 64 * 1024 * 1024;

/// Pure: `now` is an argument everywhere.
#[derive(Debug)]
pub struct Outbox {
    lines: VecDeque<(Instant, LogLine)>,
    bytes: usize,
    ledger: VecDeque<LedgerEntry>,
    checkpoint: Option<Checkpoint>,
    urgent: bool,
    last_sent: Instant,
    flush: std::time::Duration,
    update: std::time::Duration,
}

/// One update's worth. It stays in the box until [`Outbox::stored`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// In order, without holes.
    pub lines: Vec<LogLine>,
    /// In order, without holes.
    pub ledger: Vec<LedgerEntry>,
    /// The newest shipped state.
    pub checkpoint: Option<Checkpoint>,
}

impl Outbox {
    /// An empty box, whose first heartbeat is due [`Timings::update`] from `now`.
    #[must_use]
    pub fn new(timings: &Timings, now: Instant) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            ledger: VecDeque::new(),
            checkpoint: None,
            urgent: false,
            last_sent: now,
            flush: timings.flush,
            update: timings.update,
        }
    }

    /// Adds a line that is safe to show.
    pub fn line(&mut self, line: LogLine, now: Instant) {
        self.bytes += line.text.len();
        self.lines.push_back((now, line));
    }

    /// Adds ledger entries; they leave at once.
    pub fn ledger(&mut self, entries: impl IntoIterator<Item = LedgerEntry>) {
        self.ledger.extend(entries);
    }

    /// Announces a state that the queue has as a blob; replaces an older one.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.checkpoint = Some(checkpoint);
    }

    /// The queue has lost the announced state: it is announced when it is there again.
    pub fn forget_checkpoint(&mut self) {
        self.checkpoint = None;
    }

    /// The next update leaves at once, whatever it holds: a new phase, the gate.
    pub fn hurry(&mut self) {
        self.urgent = true;
    }

    /// When the next update has to leave; in the past when it should have left.
    #[must_use]
    pub fn due(&self) -> Instant {
        let full = self.bytes >= limits::UPDATE_FLUSH_BYTES
            || self.lines.len() >= limits::UPDATE_FLUSH_LINES;
        if self.urgent || full || !self.ledger.is_empty() || self.checkpoint.is_some() {
            return self.last_sent;
        }
        let heartbeat = self.last_sent + self.update;
        match self.lines.front() {
            Some((arrived, _)) => heartbeat.min(*arrived + self.flush),
            None => heartbeat,
        }
    }

    /// What goes with the update that leaves at `now`, within the limits of one update.
    pub fn take(&mut self, now: Instant) -> Batch {
        self.last_sent = now;
        self.urgent = false;
        let mut batch = Batch {
            lines: Vec::new(),
            ledger: self
                .ledger
                .iter()
                .take(limits::UPDATE_LINES)
                .cloned()
                .collect(),
            checkpoint: self.checkpoint.clone(),
        };
        let mut bytes = 0;
        for (_, line) in self.lines.iter().take(limits::UPDATE_LINES) {
            bytes += line.text.len();
            if bytes > limits::UPDATE_BYTES && !batch.lines.is_empty() {
                break;
            }
            batch.lines.push(line.clone());
        }
        batch
    }

    /// The queue has `batch`: it leaves the box.
    pub fn stored(&mut self, batch: &Batch) {
        if let Some(last) = batch.lines.last() {
            self.stored_lines(last.seq);
        }
        if let Some(last) = batch.ledger.last() {
            while self
                .ledger
                .pop_front_if(|entry| entry.seq <= last.seq)
                .is_some()
            {}
        }
        if self.checkpoint == batch.checkpoint {
            self.checkpoint = None;
        }
    }

    /// The queue has all lines up to `seq`.
    pub fn stored_lines(&mut self, seq: u64) {
        while let Some((_, line)) = self.lines.pop_front_if(|(_, line)| line.seq <= seq) {
            self.bytes -= line.text.len();
        }
    }

    /// All that waits, for the finish.
    pub fn drain(&mut self) -> Batch {
        self.bytes = 0;
        Batch {
            lines: self.lines.drain(..).map(|(_, line)| line).collect(),
            ledger: self.ledger.drain(..).collect(),
            checkpoint: self.checkpoint.take(),
        }
    }

    /// What waits besides lines: the finish brings it.
    pub fn drain_ledger(&mut self) -> Vec<LedgerEntry> {
        self.checkpoint = None;
        self.ledger.drain(..).collect()
    }

    /// Lines that wait.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Bytes of text that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
