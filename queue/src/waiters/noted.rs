//! Jobs that a waiter was woken for, those that are alike together: however many they are,
//! they are compared and passed on as one.

use std::sync::Arc;

use proto::ids::JobId;

use super::Ready;

/// Jobs that differ in nothing that matters here.
#[derive(Debug)]
pub(super) struct Alike {
    /// Any one of them.
    pub like: Arc<Ready>,
    pub jobs: Vec<JobId>,
}

/// Jobs that a waiter was woken for.
#[derive(Debug, Default)]
pub(super) struct Noted(pub Vec<Alike>);

impl Noted {
    pub(super) fn add(&mut self, like: &Arc<Ready>, jobs: &[JobId]) {
        let known = self.0.iter_mut().find(|known| known.like.is_like(like));
        match known {
            Some(known) => known.jobs.extend_from_slice(jobs),
            None => self.0.push(Alike {
                like: Arc::clone(like),
                jobs: jobs.to_vec(),
            }),
        }
    }

    pub(super) fn append(&mut self, others: Self) {
        if self.0.is_empty() {
            *self = others;
            return;
        }
        for Alike { like, jobs } in &others.0 {
            self.add(like, jobs);
        }
    }

    pub(super) fn forget(&mut self, job: JobId) {
        for alike in &mut self.0 {
            alike.jobs.retain(|noted| *noted != job);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Ready {
    /// Whether the two differ in nothing but which job they are.
    fn is_like(&self, other: &Self) -> bool {
        self.organization == other.organization
            && self.tags == other.tags
            && self.engine == other.engine
            && self.kind == other.kind
            && self.affinity == other.affinity
    }
}
