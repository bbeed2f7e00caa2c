//! What a journal says about its job, folded into what a daemon needs to go on.

use proto::v1::journal_record::Record;
use proto::v1::{
    FinishJobReply, FinishJobRequest, IntendedChange, Job, JournalRecord, LedgerEntry,
    LocalCheckpoint, MarkSensitive,
};

/// The journal of an earlier daemon.
#[derive(Debug, Default)]
pub struct Past {
    /// The job; `None` when the journal was torn before its first record.
    pub job: Option<Job>,
    /// Whether the gate was asked for: from then on the world may have changed.
    pub gate_asked: bool,
    /// What the plan was going to change.
    pub intended: Vec<IntendedChange>,
    /// All good states, oldest first.
    pub checkpoints: Vec<LocalCheckpoint>,
    /// What happened to each resource.
    pub ledger: Vec<LedgerEntry>,
    /// Highest line sequence that the queue had acknowledged.
    pub stored_lines: u64,
    /// Where the updates of the last daemon that collected it count from; 0 when none did.
    pub counter: u64,
    /// What its worker found to be secret.
    pub sensitive: Vec<MarkSensitive>,
    /// The ending, once it is decided.
    pub finish: Option<FinishJobRequest>,
    /// The queue's answer to it: the directory may go.
    pub finished: Option<FinishJobReply>,
}

impl Past {
    pub(super) fn of(records: Vec<JournalRecord>) -> Self {
        let mut past = Self::default();
        for record in records.into_iter().filter_map(|record| record.record) {
            past.add(record);
        }
        past
    }

    fn add(&mut self, record: Record) {
        match record {
            Record::Job(job) => self.job = Some(job),
            Record::GateAsked(asked) => {
                self.gate_asked = true;
                self.intended = asked.intended;
            }
            Record::GateOpened(_) => self.gate_asked = true,
            Record::Checkpoint(checkpoint) => self.checkpoints.push(checkpoint),
            // Putting a blob again is idempotent and answered at once.
            Record::Shipped(_) => {}
            Record::Ledger(entries) => self.ledger.extend(entries.entries),
            Record::Finish(finish) => self.finish = Some(finish),
            Record::Finished(reply) => self.finished = Some(reply),
            Record::Cursor(credit) => self.stored_lines = credit.line_seq,
            Record::Sensitive(mark) => self.sensitive.push(mark),
            Record::Collecting(begun) => self.counter = self.counter.max(begun.counter),
        }
    }
}
