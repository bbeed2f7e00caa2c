//! What daemons ask and tell.

use proto::ids::{JobId, LeaseId};
use proto::transport::Transport;
use proto::v1;

use super::{BlobId, Drain, NewBlob, SecretHash, WorkspaceName};
use crate::matching::{Affinity, Tags};
use crate::store::Result;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonContact {
    /// Who.
    pub daemon: DaemonRef,
    /// Hash of the key it showed: another key of the same name is another key.
    pub key_hash: SecretHash,
    /// Its release.
    pub version: String,
    /// Jobs it runs at once.
    pub slots: u32,
    /// Its tags, within those of its key.
    pub tags: Tags,
    /// Engine, sandbox level and the like.
    pub facts: Tags,
}

/// The fact of a daemon that drains by itself, as a signal makes it do. The queue notes it by
/// what the daemon says of its control; the next process on the same data directory says
/// something else.
const DRAINING: &str = "draining";

impl DaemonContact {
    /// Makes its facts say this.
    pub fn note_drain(&mut self, drain: Drain) {
        match drain {
            Drain::On => self.facts.insert(DRAINING.to_owned(), "yes".to_owned()),
            Drain::Off => self.facts.remove(DRAINING),
        };
    }

    /// What the facts of a daemon say.
    #[must_use]
    pub fn drain_of(facts: &Tags) -> Drain {
        if facts.contains_key(DRAINING) {
            Drain::On
        } else {
            Drain::Off
        }
    }

    /// By which calls it came.
    #[must_use]
    pub fn transport(&self) -> Transport {
        Transport::of(&self.facts)
    }
}

/// Asks for one job.
#[derive(Debug, Clone)]
pub struct Acquire {
    /// Who; this counts as contact.
    pub contact: DaemonContact,
    /// Kinds it takes; empty means all.
    pub kinds: Vec<Kind>,
}

/// What an acquire came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Acquired {
    /// A job, to be confirmed.
    Job(Box<v1::Job>),
    /// No job that this daemon may take is pending.
    Nothing,
    /// The daemon drains and gets none.
    Draining,
}

/// What came of each of several acquires. One without an answer was not looked at; it may
/// ask again at once.
pub type HandedOut = Vec<Option<Result<Acquired>>>;

impl Acquired {
    /// The job, if it is one.
    #[must_use]
    pub fn job(self) -> Option<v1::Job> {
        match self {
            Self::Job(job) => Some(*job),
            Self::Nothing | Self::Draining => None,
        }
    }
}

/// A process that serves this store; made anew at each start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaId(String);

impl ReplicaId {
    /// One that no other process has.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    /// As it stands in SQL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A job that its daemon has confirmed.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    /// Which runs from here.
    pub lease: v1::Lease,
    /// Whether the job had never begun before: this call, and no attempt earlier.
    pub first: bool,
}

/// A daemon whose control stream was opened, as the store knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Opened {
    /// Whether it drains.
    pub drain: Drain,
    /// Cancels that its jobs carry.
    pub cancels: Vec<v1::CancelJob>,
}

/// The name of a daemon, with its organization.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DaemonName {
    /// The organization.
    pub organization: String,
    /// The name, unique in it.
    pub name: String,
}

/// What a replica has to know of the daemons whose control streams it holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attendance {
    /// Those that drain, with their instance.
    pub draining: Vec<(DaemonName, String)>,
    /// Those with a job in hand, and the cancel it carries.
    pub busy: Vec<(DaemonName, Option<v1::CancelJob>)>,
    /// Daemons that no replica holds and whose control grace runs, with their instance:
    /// it ends if this replica does hold one.
    pub lost: Vec<(DaemonName, String)>,
}

/// Pending jobs that are alike for whom may take them; one of them stands for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The oldest.
    pub job: JobId,
    /// Their organization.
    pub organization: String,
    /// Their tags.
    pub tags: Tags,
    /// The engine they need; empty for any.
    pub engine: String,
    /// Their kind.
    pub kind: Kind,
    /// What daemons may have at hand of the oldest.
    pub affinity: Affinity,
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
    /// The state's bytes, which are its digest's, when it was not put before.
    pub brings: Option<NewBlob>,
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

/// What a finish came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What became of it.
    pub disposition: Disposition,
    /// The workspace of its job, when it brought a state and other jobs have left creations
    /// in doubt there.
    pub in_doubt: Option<WorkspaceName>,
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
