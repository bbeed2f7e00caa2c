//! The design in memory: what must be so after each command, told without a database.
//!
//! Written from the words of the design (lifecycle, lease table, losses, late finishes,
//! the swap of states, fair shares), with its numbers as literals, and not from the
//! store's code: where the two differ one of them is wrong. `Plain` holds what is true;
//! [`attempts`] has what daemons do, [`builds`] what people do.

pub(super) mod attempts;
pub(super) mod builds;
mod losses;
pub(super) mod settling;
mod states;

use std::collections::{BTreeMap, BTreeSet};

use proto::ids::{JobId, LeaseId};
use proto::v1::{LedgerAction, LedgerEntry, LedgerEvent};

use super::command::{SPECIAL, TOFU, Wish};
use crate::store::model::{Deadlines, Forget};
use crate::words::{Cancel, LimitOf, Phase, Priority, Transition};

/// Milliseconds of a second.
pub(super) const SECOND: i64 = 1_000;

/// A refusal by its code.
pub(super) type Refused = &'static str;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Pending,
    Offered,
    Running,
    Canceling,
    Succeeded,
    Canceled,
    Failed,
}

impl Stand {
    pub(super) fn has_ended(self) -> bool {
        match self {
            Self::Pending | Self::Offered | Self::Running | Self::Canceling => false,
            Self::Succeeded | Self::Canceled | Self::Failed => true,
        }
    }

    pub(super) fn is_in_hand(self) -> bool {
        match self {
            Self::Offered | Self::Running | Self::Canceling => true,
            Self::Pending | Self::Succeeded | Self::Canceled | Self::Failed => false,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub id: JobId,
    pub owner: usize,
    pub priority: Priority,
    pub wish: Wish,
    pub workspace: Option<usize>,
    pub transition: Transition,
    pub forget: Forget,
    /// The state its build started from.
    pub base: Option<usize>,
    pub created: i64,
    pub deadlines: Deadlines,
    /// Some daemon has begun it once.
    pub begun: bool,
    /// When the attempt in hand has run for too long.
    pub run_until: Option<i64>,
    /// That is why it is being canceled.
    pub overdue: bool,
    pub stand: Stand,
    pub attempt: u32,
    pub counted: u32,
    pub uncounted: u32,
    pub cancel: Cancel,
    /// The lease of the attempt in hand, or of the last one.
    pub held: Option<usize>,
    pub expires: i64,
    pub heard: i64,
    pub counter: u64,
    pub phase: Option<Phase>,
    pub gate: bool,
    pub code: Option<&'static str>,
    pub unconfirmed: BTreeSet<(usize, LedgerAction)>,
    /// The queue itself has said in the log what happened.
    pub explained: bool,
    /// (attempt, sequence) in the order of the public sequence.
    pub log: Vec<(u32, u64)>,
}

/// Who was given a job, and what came under that lease.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub id: LeaseId,
    pub job: usize,
    pub attempt: u32,
    pub daemon: Who,
    pub lines: BTreeSet<u64>,
    /// What its engine has reported so far, stored or not.
    pub told: Vec<LedgerEntry>,
    pub ledger: BTreeMap<u64, LedgerEntry>,
    /// What was told of its plan as the gate opened.
    pub plan: Vec<(usize, LedgerAction)>,
    pub checkpoint: Option<State>,
    /// Ended by its own finish.
    pub reported: bool,
    /// Its finish came too late and was kept.
    pub kept: bool,
    /// What that says of what it left.
    pub says: Option<Vec<(usize, LedgerAction)>>,
    /// Counter of its updates.
    pub counter: u64,
    pub acknowledged_gate: bool,
}

/// A daemon: its number and that of its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Who {
    pub name: usize,
    pub instance: u32,
}

/// What is known of the bearer of a daemon's name.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub instance: u32,
    pub last: i64,
    pub draining: bool,
    pub control_lost: Option<i64>,
}

/// A stored state; its bytes are told by a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub content: u64,
    pub serial: u64,
    pub lineage: String,
    pub ledger_seq: u64,
    pub source: &'static str,
    pub lease: Option<usize>,
    pub waiting: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Workspace {
    pub name: usize,
    pub deleted: bool,
    pub builds: Vec<usize>,
    pub states: Vec<State>,
    pub current: Option<usize>,
    /// Ids, as far as they are known, of what is in doubt: by address, job and action.
    pub unconfirmed: BTreeMap<(usize, usize, LedgerAction), String>,
    pub hold: Option<(usize, i64)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Plain {
    pub now: i64,
    /// Since when the clock was looked at without a break, and the last look.
    pub looks: (Option<i64>, i64),
    pub key_deleted: bool,
    pub jobs: Vec<Job>,
    pub leases: Vec<Lease>,
    pub daemons: BTreeMap<usize, Seen>,
    /// When each owner last got a job handed out.
    pub served: BTreeMap<usize, i64>,
    /// How many jobs of an owner or a template may be in hand at once.
    pub limits: BTreeMap<(LimitOf, usize), u32>,
    pub workspaces: Vec<Workspace>,
}

impl Plain {
    /// The living workspace of that name, else the last deleted one.
    pub(super) fn named(&self, name: usize) -> Option<usize> {
        let of_name = |living: bool| {
            self.workspaces
                .iter()
                .rposition(|it| it.name == name && it.deleted != living)
        };
        of_name(true).or_else(|| of_name(false))
    }

    /// Which job a daemon gets, of those it may take: interactive before automatic; then
    /// the owner with the fewest jobs in hand; then the one who was served longest ago;
    /// then age. What is automatic and has waited ten minutes goes before all of them.
    fn choice(&self, daemon: usize) -> Option<usize> {
        let in_hand = |owner| {
            let of_owner = |job: &&Job| job.owner == owner && job.stand.is_in_hand();
            self.jobs.iter().filter(of_owner).count()
        };
        let key = |age: usize, job: &Job| match job.priority {
            Priority::Automatic if self.now - job.created >= 600 * SECOND => (0, 0, None, age),
            priority => {
                let class = if priority == Priority::Interactive {
                    1
                } else {
                    2
                };
                let served = self.served.get(&job.owner).copied();
                (class, in_hand(job.owner), served, age)
            }
        };
        self.jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| job.stand == Stand::Pending)
            // Untagged jobs go to untagged daemons only.
            .filter(|(_, job)| match job.wish {
                Wish::Nothing => daemon != SPECIAL,
                Wish::Special => daemon == SPECIAL,
                Wish::Tofu => daemon == TOFU,
            })
            .filter(|(_, job)| !self.is_held_up(job))
            .min_by_key(|(age, job)| key(*age, job))
            .map(|(index, _)| index)
    }

    /// Whether as many of its owner or of its template are in hand as may be.
    fn is_held_up(&self, job: &Job) -> bool {
        let template = |job: &Job| usize::from(job.wish == Wish::Tofu);
        self.limits.iter().any(|(&(of, which), &most)| {
            let counts = |it: &Job| match of {
                LimitOf::Owner => it.owner == which,
                LimitOf::Template => template(it) == which,
            };
            let in_hand = self.jobs.iter().filter(|it| it.stand.is_in_hand());
            counts(job) && in_hand.filter(|it| counts(it)).count() >= most as usize
        })
    }
}

/// Unconfirmed = started without an end ∪ ended beyond what the state proves ∪ a
/// provisioner started without its end. Reads change nothing. By address and action:
/// what is made in place of another is one thing, the removal of that one another.
pub(super) fn unconfirmed(
    ledger: &BTreeMap<u64, LedgerEntry>,
    proved: u64,
) -> BTreeMap<(usize, LedgerAction), String> {
    let (mut open, mut ids) = (BTreeMap::new(), BTreeMap::new());
    for (&seq, entry) in ledger {
        let key = (entry.address.parse().expect("a number"), entry.action());
        // An id that was told once is known from then on.
        let id = ids.entry(key).or_insert_with(String::new);
        if !entry.id_value.is_empty() {
            id.clone_from(&entry.id_value);
        }
        let id = id.clone();
        match entry.event() {
            LedgerEvent::Started | LedgerEvent::ProvisionStarted => open.insert(key, id),
            LedgerEvent::Complete | LedgerEvent::Errored if seq > proved => open.insert(key, id),
            LedgerEvent::Complete | LedgerEvent::Errored => open.remove(&key),
            // The resource itself has not ended by that.
            LedgerEvent::ProvisionComplete | LedgerEvent::ProvisionErrored => None,
            LedgerEvent::Unspecified => None,
        };
    }
    open.retain(|(_, action), _| *action != LedgerAction::Read);
    open
}

/// What a plan announced and the ledger does not name may have happened. A replacement is
/// two deeds, of which each may be the one that was not heard of.
pub(super) fn not_heard_of(
    plan: &[(usize, LedgerAction)],
    ledger: &BTreeMap<u64, LedgerEntry>,
) -> Vec<(usize, LedgerAction)> {
    use LedgerAction::{Create, Delete, Read, Replace};
    let mut found = Vec::new();
    for &(address, action) in plan {
        let of_address = ledger
            .values()
            .filter(|entry| entry.address == address.to_string());
        let told: BTreeSet<LedgerAction> = of_address.map(LedgerEntry::action).collect();
        let (made, removed) = (told.contains(&Create), told.contains(&Delete));
        let whole = told.contains(&Replace);
        let left = match action {
            Read => None,
            Replace if removed && !made && !whole => Some(Create),
            Replace if made && !removed && !whole => Some(Delete),
            action => told.is_empty().then_some(action),
        };
        found.extend(left.map(|action| (address, action)));
    }
    found
}
