//! Room for transfers of blob files.
//!
//! An open transfer has a place as long as its peer takes or gives bytes: in all there are
//! as many as memory allows, and one caller has only some of them, so that slow peers wait
//! for each other and nobody waits for them. A thread and the disk are held for one chunk
//! at a time, never while a peer is waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use proto::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Error;
use crate::store::model::{DaemonRef, Holder};

/// Chunks that are read or written at once. Each holds one thread.
const DISK: usize = 32;

/// Callers that are kept after their last transfer before they are looked through.
const KEPT: usize = 1_024;

/// Whose transfers share their places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The queue's own.
    Queue,
    /// One daemon.
    Daemon(DaemonRef),
    /// All that acts for an owner.
    Owner {
        /// Where.
        organization: String,
        /// Who.
        owner: String,
    },
}

impl From<&Holder> for Caller {
    fn from(holder: &Holder) -> Self {
        match holder {
            Holder::Client {
                organization,
                owner,
            } => Self::Owner {
                organization: organization.clone(),
                owner: owner.clone(),
            },
            Holder::Lease { daemon, .. } => Self::Daemon(daemon.clone()),
        }
    }
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: Arc<Semaphore>,
    disk: Arc<Semaphore>,
    callers: Mutex<HashMap<Caller, Weak<Semaphore>>>,
}

/// One open transfer's.
#[derive(Debug)]
pub struct Place {
    _of_caller: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Inner {
            all: Arc::new(Semaphore::new(limits::TRANSFERS)),
            disk: Arc::new(Semaphore::new(DISK)),
            callers: Mutex::default(),
        }))
    }
}

impl Places {
    /// Waits for a place; first for one of the caller's, so that nobody waits with one of
    /// all in hand.
    pub async fn take(&self, caller: Caller) -> Place {
        Place {
            _of_caller: permit(self.of_caller(caller)).await,
            _of_all: permit(Arc::clone(&self.0.all)).await,
        }
    }

    /// Open transfers.
    pub fn taken(&self) -> u64 {
        (limits::TRANSFERS - self.0.all.available_permits()) as u64
    }

    /// Does one thing with the disk, on a thread that may block.
    ///
    /// # Errors
    /// What `work` says; a panic in it.
    pub async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = permit(Arc::clone(&self.0.disk)).await;
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        let broke = |join| Error::io("use")(std::io::Error::other(join));
        worked.await.map_err(broke)?
    }

    fn of_caller(&self, caller: Caller) -> Arc<Semaphore> {
        let callers = self.0.callers.lock();
        let mut callers = callers.unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= KEPT {
            // Every place and everyone who waits for one holds the semaphore.
            callers.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        if let Some(known) = callers.get(&caller).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Semaphore::new(limits::TRANSFERS_PER_CALLER));
        callers.insert(caller, Arc::downgrade(&new));
        new
    }
}

async fn permit(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore
        .acquire_owned()
        .await
        .expect("invariant: the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn owner(name: &str) -> Caller {
        Caller::Owner {
            organization: "default".to_owned(),
            owner: name.to_owned(),
        }
    }

    #[tokio::test]
    async fn one_caller_leaves_places_to_others() {
        let places = Places::default();
        let mut taken = Vec::new();
        for _ in 0..limits::TRANSFERS_PER_CALLER {
            taken.push(places.take(owner("slow")).await);
        }
        let one_more = places.take(owner("slow"));
        tokio::pin!(one_more);
        // It is not ready although it was polled.
        let waited = tokio::time::timeout(Duration::ZERO, &mut one_more).await;
        assert!(waited.is_err(), "more than its share");
        let _other = places.take(owner("other")).await;
        assert_eq!(places.taken(), limits::TRANSFERS_PER_CALLER as u64 + 1);
        taken.pop();
        one_more.await;
    }

    #[tokio::test]
    async fn over_the_limit_in_all_a_caller_waits_for_any_to_end() {
        let places = Places::default();
        let mut taken = Vec::new();
        for number in 0..limits::TRANSFERS {
            let caller = owner(&format!("owner {}", number / limits::TRANSFERS_PER_CALLER));
            taken.push(places.take(caller).await);
        }
        assert_eq!(places.taken(), limits::TRANSFERS as u64);
        let one_more = places.take(owner("another"));
        tokio::pin!(one_more);
        let waited = tokio::time::timeout(Duration::ZERO, &mut one_more).await;
        assert!(waited.is_err(), "one over the limit");
        taken.pop();
        one_more.await;
    }
}
