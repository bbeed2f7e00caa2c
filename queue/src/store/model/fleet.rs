//! What daemons ask and tell.

use proto::ids::{JobId, LeaseId};
use proto::v1;

use super::BlobId;
use crate::matching::Tags;
use crate::words::{Kind, Outcome, Phase, ReleaseReason, Status};

/// A daemon as every request names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DaemonRef {
    /// The organization of its key.
    pub organization: String,
    /// The name of its key.
    pub key: String,
    /// Its name, unique among the organization's living daemons.
    pub name: String,
    /// The random id in its data directory.
    pub instance: String,
}

/// What a daemon says of itself when it connects.
#[derive(Debug, Clone)]
pub struct DaemonContact {
    /// Who.
    pub daemon: DaemonRef,
    /// Its release.
    pub version: String,
    /// Jobs it runs at once.
    pub slots: u32,
    /// Its tags, within those of its key.
    pub tags: Tags,
    /// Engine, sandbox level and the like.
    pub facts: Tags,
}

/// Asks for one job.
#[derive(Debug, Clone)]
pub struct Acquire {
    /// Who; this counts as contact.
    pub contact: DaemonContact,
    /// Kinds it takes; empty means all.
    pub kinds: Vec<Kind>,
}

/// Whether an update announces the first world-changing step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It does not.
    NotAsked,
    /// It does; the reply opens the gate or carries a cancel.
    Asked,
}

/// A good copy of the state, already put as a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The bytes.
    pub blob: BlobId,
    /// The state's serial.
    pub serial: u64,
    /// The state's lineage.
    pub lineage: String,
    /// All ledger entries up to this one are reflected in it.
    pub ledger_seq: u64,
}

/// Logs, phase, ledger, checkpoint and heartbeat of one attempt.
#[derive(Debug, Clone)]
pub struct Update {
    /// Who; this counts as contact.
    pub daemon: DaemonRef,
    /// The job.
    pub job: JobId,
    /// The right to it.
    pub lease: LeaseId,
    /// A lower or equal one than stored brings lines only.
    pub counter: u64,
    /// `None` leaves it as it is.
    pub phase: Option<Phase>,
    /// In any order; those stored already are skipped.
    pub lines: Vec<v1::LogLine>,
    /// In any order; those stored already are skipped.
    pub ledger: Vec<v1::LedgerEntry>,
    /// The newest one, if new.
    pub checkpoint: Option<Checkpoint>,
    /// Whether it asks for the gate.
    pub gate: Gate,
    /// What is going to be changed behind the gate it asks for.
    pub plan: Plan,
}

/// What a plan is going to change.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// By address and action.
    pub changes: Vec<v1::IntendedChange>,
    /// Further changes that have no name here.
    pub left_out: u64,
}

/// The ending of one attempt.
#[derive(Debug, Clone)]
pub struct Finish {
    /// Who; this counts as contact.
    pub daemon: DaemonRef,
    /// The job.
    pub job: JobId,
    /// The right to it.
    pub lease: LeaseId,
    /// The attempt.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Set for `Outcome::Released`.
    pub release: Option<ReleaseReason>,
    /// The state after the job; `None` when nothing changed it.
    pub state: Option<Checkpoint>,
    /// The rest, as it travelled: lines, ledger, facts, extraction, timings, error.
    pub report: Box<v1::FinishJobRequest>,
}

/// What became of a finish; all three mean that it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is the job's verdict (or already was, when repeated).
    Applied,
    /// Another verdict stands; state and lines are kept.
    Late,
    /// Unknown job or lease; kept for the operator.
    Unclaimed,
}

/// How an operator abandons a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandon {
    /// Start builds are refused until the old lease has ended.
    Careful,
    /// They are not.
    Force,
}

/// Which jobs a list shows, newest first.
#[derive(Debug, Clone)]
pub struct JobFilter {
    /// The organization.
    pub organization: String,
    /// Only this status.
    pub status: Option<Status>,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only jobs of this owner.
    pub owner: Option<String>,
    /// Only jobs of workspaces of this name.
    pub workspace: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// A piece of a job's log.
#[derive(Debug, Clone, Default)]
pub struct LogPage {
    /// In order of the public sequence.
    pub lines: Vec<v1::StoredLine>,
    /// Highest public sequence given so far: the end of the log as it stands.
    pub end: u64,
    /// Whether the job has ended; lines of fenced attempts may still come.
    pub ended: bool,
}

/// What one look at the clock changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Offers that were not confirmed in time.
    pub withdrawn: Vec<JobId>,
    /// Jobs lost before the gate that wait again.
    pub requeued: Vec<JobId>,
    /// Jobs that got their verdict: lost after the gate, or attempts used up.
    pub ended: Vec<JobId>,
}
