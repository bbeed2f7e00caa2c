//! What is known of pending jobs, so that who comes to wait does not ask in vain.
//!
//! A lane is all pending jobs of one organization with the same tags, engine and kind:
//! what decides who may take them. Whose turn it is divides them further, where they are
//! handed out. A lane
//! that is in here may have jobs; one that is not has none, as far as this process was
//! told. It enters with the event of a job, and with a look at all lanes
//! ([`Lanes::learn`]), which is the truth behind the events; it leaves when one who can
//! take from it asked the store and got nothing, and with such a look. Numbers order
//! what was told before a question from what was told during it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::matching::Tags;
use crate::waiters::{Domain, Ready};
use crate::words::Kind;

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Lanes(Arc<Mutex<State>>);

/// When something was asked, in the order of what was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked(u64);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Of the last look; none before the first and after events were lost.
    known: Option<Asked>,
    /// When events were lost last.
    lost: Option<Asked>,
    /// By organization: the lanes, and when each was told of last.
    lanes: HashMap<String, OfOne>,
}

/// The lanes of one organization, by tags, engine and kind.
type OfOne = HashMap<(Tags, String, Kind), (Ready, Asked)>;

impl Lanes {
    /// To be called before a question to the store.
    #[must_use]
    pub fn ask(&self) -> Asked {
        self.lock().ask()
    }

    /// A job may be taken.
    pub fn ready(&self, ready: &Ready) {
        let mut state = self.lock();
        let now = state.ask();
        state.put(ready.clone(), now);
    }

    /// Events were lost.
    pub fn forget(&self) {
        let mut state = self.lock();
        let now = state.ask();
        (state.known, state.lost) = (None, Some(now));
    }

    /// A look at all lanes that was begun at `asked` has found these.
    pub fn learn(&self, asked: Asked, lanes: impl IntoIterator<Item = Ready>) {
        let mut state = self.lock();
        for lanes in state.lanes.values_mut() {
            lanes.retain(|_, (_, told)| *told > asked);
        }
        for ready in lanes {
            state.put(ready, asked);
        }
        state.lanes.retain(|_, lanes| !lanes.is_empty());
        if state.lost.is_none_or(|lost| lost < asked) {
            state.known = Some(asked);
        }
    }

    /// A question for this domain that was begun at `asked` has found nothing.
    pub fn found_nothing(&self, asked: Asked, domain: &Domain) {
        let mut state = self.lock();
        if let Some(lanes) = state.lanes.get_mut(&domain.organization) {
            lanes.retain(|_, (ready, told)| *told > asked || !domain.takes(ready));
        }
    }

    /// Whether the store may have a job for this domain.
    #[must_use]
    pub fn may_have(&self, domain: &Domain) -> bool {
        let state = self.lock();
        state.known.is_none()
            || state
                .lanes
                .get(&domain.organization)
                .is_some_and(|lanes| lanes.values().any(|(ready, _)| domain.takes(ready)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the guard goes, also in a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ask(&mut self) -> Asked {
        self.next += 1;
        Asked(self.next)
    }

    fn put(&mut self, ready: Ready, told: Asked) {
        let lanes = self.lanes.entry(ready.organization.clone()).or_default();
        let lane = (ready.tags.clone(), ready.engine.clone(), ready.kind);
        // What was told later stays the later one.
        let told = lanes
            .get(&lane)
            .map_or(told, |(_, before)| told.max(*before));
        lanes.insert(lane, (ready, told));
    }
}

#[cfg(test)]
mod tests;
