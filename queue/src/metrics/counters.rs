//! What this process has counted since it began.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use proto::ids::JobId;
use tonic::Code;

use super::histogram::Histogram;
use crate::store::model::Pruned;

/// How a job came to a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The daemon waited and the job came.
    Waiting,
    /// The job waited and the daemon came.
    Backlog,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Counters {
    /// From a job's submit to its first confirmed hand-out.
    pub(super) start: Histogram,
    pub(super) matched_waiting: AtomicU64,
    pub(super) matched_backlog: AtomicU64,
    pub(super) offers_withdrawn: AtomicU64,
    pub(super) leases_requeued: AtomicU64,
    pub(super) leases_ended: AtomicU64,
    pub(super) refused_wrong: AtomicU64,
    pub(super) refused_rate: AtomicU64,
    pub(super) refused_other: AtomicU64,
    /// In the order of [`Pruned::by_kind`].
    pub(super) pruned: [AtomicU64; 7],
    pub(super) control_polls: AtomicU64,
}

impl Counters {
    /// A job was confirmed by a daemon for the first time. Later attempts waited for other
    /// reasons.
    pub fn started(&self, job: JobId) {
        if let Some(submitted) = job.made_at() {
            let waited = SystemTime::now().duration_since(submitted);
            // Another replica's clock may be ahead.
            self.start.add(waited.unwrap_or(Duration::ZERO));
        }
    }

    /// A job was found for a daemon.
    pub fn matched(&self, how: Match) {
        add(
            match how {
                Match::Waiting => &self.matched_waiting,
                Match::Backlog => &self.matched_backlog,
            },
            1,
        );
    }

    /// What a look at the leases found.
    pub fn expired(&self, withdrawn: usize, requeued: usize, ended: usize) {
        add(&self.offers_withdrawn, withdrawn as u64);
        add(&self.leases_requeued, requeued as u64);
        add(&self.leases_ended, ended as u64);
    }

    /// What a pass over old rows has taken away.
    pub fn pruned(&self, pruned: &Pruned) {
        for (counter, (_, rows)) in self.pruned.iter().zip(pruned.by_kind()) {
            add(counter, rows);
        }
    }

    /// A daemon without streams has asked for its cancels.
    pub fn polled(&self) {
        add(&self.control_polls, 1);
    }

    /// A caller was refused before its request was read.
    pub fn refused(&self, code: Code) {
        // Foreign codes: only these are told apart.
        let counter = match code {
            Code::Unauthenticated => &self.refused_wrong,
            Code::ResourceExhausted => &self.refused_rate,
            _ => &self.refused_other,
        };
        add(counter, 1);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
