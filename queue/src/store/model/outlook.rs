//! What a forecast is made of: an organization's fleet, what it has in hand and what waits.

use crate::limit::Limit;
use crate::matching::{Needs, Offer, Tags};
use crate::words::{Kind, Priority, Transition};

/// One snapshot of an organization.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// When it was taken, in Unix milliseconds.
    pub now_ms: i64,
    /// Its daemons that live and take jobs.
    pub crews: Vec<Crew>,
    /// Pending jobs.
    pub queued: Vec<Queued>,
    /// Jobs in daemons' hands.
    pub in_hand: Vec<InHand>,
    /// Limits, each with the owner's name or the template's id.
    pub limits: Vec<(Limit, String)>,
    /// How long jobs have run that succeeded, the oldest first of each kind of work: few,
    /// and of those templates alone that are queued or in hand.
    pub runs: Vec<(Work, i64)>,
}

/// Daemons that offer the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crew {
    /// Their tags.
    pub tags: Tags,
    /// Their facts.
    pub facts: Tags,
    /// How many they are.
    pub daemons: u32,
    /// Jobs that they run at once, together.
    pub slots: u32,
}

impl Crew {
    /// What they have for jobs to ask for.
    #[must_use]
    pub fn offer(&self) -> Offer<'_> {
        Offer {
            tags: &self.tags,
            facts: &self.facts,
        }
    }
}

/// What a run time depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Work {
    /// The template's id.
    pub template: String,
    /// The kind of job.
    pub kind: Kind,
    /// What a build does.
    pub transition: Option<Transition>,
}

/// What decides whose turn a pending job's is, but for its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its tags.
    pub tags: Tags,
    /// The engine it needs; empty for any.
    pub engine: String,
    /// Its kind.
    pub kind: Kind,
    /// Who waits for it.
    pub priority: Priority,
    /// Whose it is.
    pub owner: String,
    /// Its template's id.
    pub template: String,
}

impl Standing {
    /// What it asks of a daemon.
    #[must_use]
    pub fn needs(&self) -> Needs<'_> {
        Needs {
            tags: &self.tags,
            engine: &self.engine,
        }
    }
}

/// Pending jobs of one standing.
#[derive(Debug, Clone)]
pub struct Queued {
    /// What they have in common.
    pub standing: Standing,
    /// How many they are.
    pub jobs: u64,
    /// How many of them are automatic and have waited as long as those must at most.
    pub due: u64,
    /// Row of the oldest and of the newest.
    pub rows: (i64, i64),
    /// When their owner last got a job handed out.
    pub served_ms: Option<i64>,
}

/// A job in a daemon's hands.
#[derive(Debug, Clone)]
pub struct InHand {
    /// The place of its daemon's crew in the list; none when that takes no more jobs.
    pub crew: Option<usize>,
    /// Whose it is.
    pub owner: String,
    /// What it does.
    pub work: Work,
    /// When it was handed out, in Unix milliseconds.
    pub since_ms: i64,
}

/// Where a pending job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its standing.
    pub standing: Standing,
    /// The lower the older.
    pub row: i64,
    /// When it was submitted, in Unix milliseconds.
    pub created_ms: i64,
    /// Older pending jobs of the same standing; `None` for all that are known: it was
    /// submitted just now.
    pub ahead: Option<u64>,
}
