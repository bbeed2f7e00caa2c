//! Which waiters may have something at hand: a hint, kept small, since ten thousand wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::Domain;

/// Something that a daemon may have at hand, by its name; two names that look the same
/// here only wake another daemon first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold(u64);

impl Hold {
    /// The one of that name; none of no name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        (!name.is_empty()).then(|| Self(hasher.finish()))
    }
}

/// Waiters that hold something, by what and by domain.
#[derive(Debug, Default)]
pub(super) struct Holders(HashMap<Hold, ByDomain>);

type ByDomain = BTreeMap<Arc<Domain>, BTreeSet<u64>>;

impl Holders {
    /// A waiter has these.
    pub(super) fn add(&mut self, domain: &Arc<Domain>, id: u64, holds: &[Hold]) {
        for hold in holds {
            let holders = self.0.entry(*hold).or_default();
            holders.entry(Arc::clone(domain)).or_default().insert(id);
        }
    }

    /// It waits no longer.
    pub(super) fn remove(&mut self, domain: &Arc<Domain>, id: u64, holds: &[Hold]) {
        for hold in holds {
            let Some(holders) = self.0.get_mut(hold) else {
                continue;
            };
            if let Some(ids) = holders.get_mut(domain) {
                ids.remove(&id);
                if ids.is_empty() {
                    holders.remove(domain);
                }
            }
            if holders.is_empty() {
                self.0.remove(hold);
            }
        }
    }

    /// Those who have what goes by this name.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = (&Arc<Domain>, &BTreeSet<u64>)> {
        let holders = Hold::of(name).and_then(|hold| self.0.get(&hold));
        holders.into_iter().flatten()
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
