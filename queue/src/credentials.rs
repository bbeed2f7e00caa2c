//! Credentials that were shown lately, so that a call does not ask the store who calls.
//!
//! An entry is good for [`FRESH`] from when the store was last seen to have it; one look
//! at all credentials ([`Credentials::keep`]) renews all entries. A deletion at this
//! replica ends its entry at once, one elsewhere with the hint of it, and without any
//! hint with the next look. Whoever got in by an entry holds its [`Live`], which is over
//! from then on: that is how open streams end.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::guard::Unsent;
use crate::store::model::{KeyRow, SecretHash, TokenRow};
use crate::store::{Result, Store};

/// How long an entry is good for: a deletion that no hint told of ends within this time.
pub const FRESH: Duration = Duration::from_secs(5);

/// Between two looks at all credentials: two may fail before entries are asked for again
/// one by one.
pub const LOOK: Duration = Duration::from_millis(1_500);

/// An entry is read anew so often, which notes that its key is in use.
const NOTED: Duration = Duration::from_mins(10);

/// Entries of which nothing is open go after so long without a call.
const UNUSED: Duration = Duration::from_mins(1);

/// Whether a credential still exists, and what is open by it; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Open>);

#[derive(Debug)]
struct Open {
    over: CancellationToken,
    unsent: Unsent,
    followed: Arc<Semaphore>,
    calls: AtomicU32,
}

/// A call by a credential, which is open until this is dropped.
#[derive(Debug)]
pub struct Call(Live);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Open {
    fn default() -> Self {
        Self {
            over: CancellationToken::new(),
            unsent: Unsent::new(limits::UNREAD_PER_CREDENTIAL),
            followed: Arc::new(Semaphore::new(limits::FOLLOWED_PER_CREDENTIAL)),
            calls: AtomicU32::new(0),
        }
    }
}

impl Live {
    /// Whether it was deleted.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.over.is_cancelled()
    }

    /// Waits until it is deleted. Cancel safe.
    pub async fn over(&self) {
        self.0.over.cancelled().await;
    }

    /// Answers by it that are not read yet.
    #[must_use]
    pub fn unsent(&self) -> &Unsent {
        &self.0.unsent
    }

    /// One more call, unless `most` are open.
    #[must_use]
    pub fn call(&self, most: u32) -> Option<Call> {
        let call = Call(self.clone());
        let before = self.0.calls.fetch_add(1, Ordering::Relaxed);
        (before < most).then_some(call)
    }

    /// One more stream that follows a job, while this is held; none at the limit.
    #[must_use]
    pub fn follow(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.followed).try_acquire_owned().ok()
    }
}

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    keys: HashMap<SecretHash, Entry<KeyRow>>,
    tokens: HashMap<SecretHash, Entry<TokenRow>>,
    /// Organizations that exist; none is ever deleted.
    organizations: HashSet<String>,
    /// Grows with each deletion: who read before it reads again.
    deletions: u64,
}

#[derive(Debug)]
struct Entry<T> {
    row: Arc<T>,
    live: Live,
    /// When the store had it.
    checked: Instant,
    read: Instant,
    used: Instant,
}

impl Credentials {
    /// The key with this hash, if it was not deleted.
    ///
    /// # Errors
    /// The store's.
    pub async fn key<S: Store>(
        &self,
        store: &S,
        hash: SecretHash,
    ) -> Result<Option<(Arc<KeyRow>, Live)>> {
        loop {
            let (found, deletions) = self.look_up(|state| &mut state.keys, hash);
            if found.is_some() {
                return Ok(found);
            }
            let asked = Instant::now();
            let Some(row) = store.find_key(hash).await? else {
                return Ok(None);
            };
            let note = |state: &mut State| note(&mut state.keys, hash, row, asked);
            if let Some(found) = self.unless_deleted(deletions, note) {
                return Ok(Some(found));
            }
        }
    }

    /// The token with this hash, if it was not deleted.
    ///
    /// # Errors
    /// The store's.
    pub async fn token<S: Store>(
        &self,
        store: &S,
        hash: SecretHash,
    ) -> Result<Option<(Arc<TokenRow>, Live)>> {
        loop {
            let (found, deletions) = self.look_up(|state| &mut state.tokens, hash);
            if found.is_some() {
                return Ok(found);
            }
            let asked = Instant::now();
            let Some(row) = store.find_token(hash).await? else {
                return Ok(None);
            };
            let note = |state: &mut State| note(&mut state.tokens, hash, row, asked);
            if let Some(found) = self.unless_deleted(deletions, note) {
                return Ok(Some(found));
            }
        }
    }

    /// Whether there is such an organization.
    ///
    /// # Errors
    /// The store's.
    pub async fn organization<S: Store>(&self, store: &S, name: &str) -> Result<bool> {
        if self.lock().organizations.contains(name) {
            return Ok(true);
        }
        let all = store.list_organizations().await?;
        let mut state = self.lock();
        state.organizations = all.into_iter().map(|one| one.name).collect();
        Ok(state.organizations.contains(name))
    }

    /// A key was deleted.
    pub fn key_deleted(&self, organization: &str, name: &str) {
        let is_it = |row: &KeyRow| row.organization == organization && row.name == name;
        let mut state = self.lock();
        state.deletions += 1;
        end(&mut state.keys, |_, entry| is_it(&entry.row));
    }

    /// A token was deleted.
    pub fn token_deleted(&self, name: &str) {
        let mut state = self.lock();
        state.deletions += 1;
        end(&mut state.tokens, |_, entry| entry.row.name == name);
    }

    /// Whether there is anything to look after.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.keys.is_empty() && state.tokens.is_empty()
    }

    /// What a look that began `then` has found: all hashes that exist. Whether one that was
    /// known does not any more.
    pub fn keep(&self, all: &HashSet<SecretHash>, then: Instant) -> bool {
        let mut state = self.lock();
        state.deletions += 1;
        let keys = keep(&mut state.keys, all, then);
        let tokens = keep(&mut state.tokens, all, then);
        keys || tokens
    }

    fn look_up<T>(
        &self,
        of: impl FnOnce(&mut State) -> &mut HashMap<SecretHash, Entry<T>>,
        hash: SecretHash,
    ) -> (Option<(Arc<T>, Live)>, u64) {
        let now = Instant::now();
        let mut state = self.lock();
        let deletions = state.deletions;
        let found = of(&mut state)
            .get_mut(&hash)
            .filter(|entry| now - entry.checked < FRESH && now - entry.read < NOTED)
            .map(|entry| {
                entry.used = now;
                (Arc::clone(&entry.row), entry.live.clone())
            });
        (found, deletions)
    }

    fn unless_deleted<T>(&self, deletions: u64, note: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.lock();
        (state.deletions == deletions).then(|| note(&mut state))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the guard goes, also in a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who holds the entry before keeps its `Live`.
fn note<T>(
    entries: &mut HashMap<SecretHash, Entry<T>>,
    hash: SecretHash,
    row: T,
    asked: Instant,
) -> (Arc<T>, Live) {
    let before = entries.remove(&hash);
    let entry = Entry {
        row: Arc::new(row),
        live: before.map(|entry| entry.live).unwrap_or_default(),
        checked: asked,
        read: asked,
        used: asked,
    };
    let found = (Arc::clone(&entry.row), entry.live.clone());
    entries.insert(hash, entry);
    found
}

fn keep<T>(
    entries: &mut HashMap<SecretHash, Entry<T>>,
    all: &HashSet<SecretHash>,
    then: Instant,
) -> bool {
    let before = entries.len();
    // One that was read since is younger than the look.
    end(entries, |hash, entry| {
        entry.read < then && !all.contains(hash)
    });
    let deleted = entries.len() < before;
    entries.retain(|_, entry| then - entry.used < UNUSED || Arc::strong_count(&entry.live.0) > 1);
    for entry in entries.values_mut() {
        entry.checked = entry.checked.max(then);
    }
    deleted
}

fn end<T>(
    entries: &mut HashMap<SecretHash, Entry<T>>,
    mut whom: impl FnMut(&SecretHash, &Entry<T>) -> bool,
) {
    entries.retain(|hash, entry| {
        let over = whom(hash, entry);
        if over {
            entry.live.0.over.cancel();
        }
        !over
    });
}

#[cfg(test)]
mod tests;
