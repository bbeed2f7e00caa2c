//! Daemons that wait for a job, in memory, and whom a new job wakes.
//!
//! A wake-up only makes things quick: the woken waiter asks the store, which is the
//! truth, and a slow tick of the process wakes one waiter for each set of pending jobs
//! that are alike. A waiter is registered
//! *before* it asks, so a job that is submitted in between still wakes it.
//!
//! A job wakes exactly one waiter that can take it. When that waiter takes another job,
//! or goes away without having asked, the wake-up passes on to the next one; a job that
//! finds only woken waiters is noted with one of them, for the same reason. Jobs that are
//! alike pass on together, so that many that wait cost a waiter little more than one.
//!
//! Which one: of those that nobody has woken, one that may have the job's template version
//! at hand; else its providers; else any. Among equals the one with the fewest tags, so
//! that a daemon with special ones is kept for who asks for those, and of those the one
//! that has waited longest. No job waits for a daemon that is busy.

mod holders;
mod noted;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use proto::ids::JobId;
use tokio::sync::Notify;

use crate::matching::{Affinity, Needs, Offer, Tags};
use crate::store::model::Lane;
use crate::words::Kind;
pub use holders::Hold;
use holders::Holders;
use noted::{Alike, Noted};

/// What a waiter can take. Equal ones make one domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Domain {
    /// The organization.
    pub organization: String,
    /// Tags of the daemon.
    pub tags: Tags,
    /// Facts of the daemon.
    pub facts: Tags,
    /// Kinds it takes; empty means all.
    pub kinds: Vec<Kind>,
}

/// A job that may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The job.
    pub job: JobId,
    /// Its organization.
    pub organization: String,
    /// Its tags.
    pub tags: Tags,
    /// The engine it needs; empty for any.
    pub engine: String,
    /// Its kind.
    pub kind: Kind,
    /// What daemons may have at hand of it.
    pub affinity: Affinity,
}

impl From<Lane> for Ready {
    fn from(lane: Lane) -> Self {
        Self {
            job: lane.job,
            organization: lane.organization,
            tags: lane.tags,
            engine: lane.engine,
            kind: lane.kind,
            affinity: lane.affinity,
        }
    }
}

/// All waiters of this process.
#[derive(Debug, Clone, Default)]
pub struct Waiters(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Within a domain the oldest waiter is first.
    domains: BTreeMap<Arc<Domain>, BTreeMap<u64, Entry>>,
    holders: Holders,
}

#[derive(Debug)]
struct Entry {
    daemon: String,
    wake: Arc<Notify>,
    woken: bool,
    /// Jobs this waiter was woken for and has not asked about yet.
    noted: Noted,
    holds: Box<[Hold]>,
}

/// Whether a waiter was woken already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Idle,
    Woken,
}

/// A registered waiter; dropping it takes it out and passes its wake-ups on.
#[derive(Debug)]
pub struct Waiter {
    waiters: Waiters,
    /// Shared with all waiters that are alike.
    domain: Arc<Domain>,
    id: u64,
    wake: Arc<Notify>,
    /// Taken over when it began to ask.
    asking_for: Noted,
}

impl Ready {
    fn needs(&self) -> Needs<'_> {
        Needs {
            tags: &self.tags,
            engine: &self.engine,
        }
    }
}

impl Domain {
    fn offer(&self) -> Offer<'_> {
        Offer {
            tags: &self.tags,
            facts: &self.facts,
        }
    }

    /// Whether it can take this job.
    #[must_use]
    pub fn takes(&self, ready: &Ready) -> bool {
        self.organization == ready.organization
            && (self.kinds.is_empty() || self.kinds.contains(&ready.kind))
            && self.offer().may_take(ready.needs())
    }
}

impl Waiters {
    /// Registers a waiter of the daemon `daemon`, which has these at hand.
    #[must_use]
    pub fn register(&self, domain: Domain, daemon: &str, holds: &[Hold]) -> Waiter {
        let wake = Arc::new(Notify::new());
        let entry = Entry {
            daemon: daemon.to_owned(),
            wake: Arc::clone(&wake),
            woken: false,
            noted: Noted::default(),
            holds: holds.into(),
        };
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let known = state.domains.get_key_value(&domain);
        let domain = known.map_or_else(|| Arc::new(domain), |(domain, _)| Arc::clone(domain));
        let waiting = state.domains.entry(Arc::clone(&domain)).or_default();
        waiting.insert(id, entry);
        state.holders.add(&domain, id, holds);
        drop(state);
        Waiter {
            waiters: self.clone(),
            domain,
            id,
            wake,
            asking_for: Noted::default(),
        }
    }

    /// Wakes one waiter that can take the job.
    pub fn ready(&self, ready: &Ready) {
        let jobs = vec![ready.job];
        self.lock().ready(&Alike {
            like: Arc::new(ready.clone()),
            jobs,
        });
    }

    /// Wakes the waiters of one daemon: it drains.
    pub fn wake_daemon(&self, organization: &str, daemon: &str) {
        self.lock()
            .wake(|domain, entry| domain.organization == organization && entry.daemon == daemon);
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().domains.values().map(BTreeMap::len).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change below is complete before the guard goes, also in a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Wakes an idle waiter for each; those that find none are noted with one that is woken.
    fn ready(&mut self, ready: &Alike) {
        let Alike { like, jobs } = ready;
        for (at, job) in jobs.iter().enumerate() {
            let Some((whom, domain, id)) = self.chosen(like) else {
                return;
            };
            let Some(entry) = self.entry(&domain, id) else {
                return;
            };
            match whom {
                Whom::Idle => entry.wake_for(like, std::slice::from_ref(job)),
                Whom::Woken => return entry.wake_for(like, &jobs[at..]),
            }
        }
    }

    fn chosen(&self, ready: &Ready) -> Option<(Whom, Arc<Domain>, u64)> {
        let Affinity { version, providers } = &ready.affinity;
        let holder = self
            .idle_holder(ready, version)
            .or_else(|| self.idle_holder(ready, providers));
        match holder {
            Some((domain, id)) => Some((Whom::Idle, domain, id)),
            None => self.anybody(ready),
        }
    }

    fn idle_holder(&self, ready: &Ready, name: &str) -> Option<(Arc<Domain>, u64)> {
        let idle = self.holders.of(name).filter_map(|(domain, ids)| {
            let waiting = self.domains.get(domain).filter(|_| domain.takes(ready))?;
            let idle = |id: &&u64| waiting.get(*id).is_some_and(|entry| !entry.woken);
            ids.iter().find(idle).map(|id| (domain, *id))
        });
        let best = idle.min_by_key(|(domain, _)| domain.tags.len());
        best.map(|(domain, id)| (Arc::clone(domain), id))
    }

    /// An idle one, else one that is woken already.
    fn anybody(&self, ready: &Ready) -> Option<(Whom, Arc<Domain>, u64)> {
        let able = self.domains.iter();
        let able = able.filter(|(domain, _)| domain.takes(ready));
        let of_each = able.filter_map(|(domain, waiting)| {
            let idle = waiting.iter().find(|(_, entry)| !entry.woken);
            let whom = idle.map_or(Whom::Woken, |_| Whom::Idle);
            let (id, _) = idle.or_else(|| waiting.first_key_value())?;
            Some(((whom, domain.tags.len()), domain, *id))
        });
        let best = of_each.min_by_key(|(rank, ..)| *rank);
        best.map(|((whom, _), domain, id)| (whom, Arc::clone(domain), id))
    }

    fn wake(&mut self, whom: impl Fn(&Domain, &Entry) -> bool) {
        for (domain, waiting) in &mut self.domains {
            for entry in waiting.values_mut() {
                if whom(domain, entry) {
                    entry.woken = true;
                    entry.wake.notify_one();
                }
            }
        }
    }
}

impl Entry {
    fn wake_for(&mut self, like: &Arc<Ready>, jobs: &[JobId]) {
        self.woken = true;
        self.noted.add(like, jobs);
        self.wake.notify_one();
    }
}

impl Waiter {
    /// What it can take.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// To be called before each question to the store: later wake-ups count anew.
    pub fn begin_to_ask(&mut self) {
        let mut state = self.waiters.lock();
        if let Some(entry) = state.entry(&self.domain, self.id) {
            entry.woken = false;
            self.asking_for.append(std::mem::take(&mut entry.noted));
        }
    }

    /// The store had nothing for this waiter: others have taken what woke it.
    pub fn found_nothing(&mut self) {
        self.asking_for.clear();
    }

    /// The store gave this job; what else woke this waiter wakes another.
    pub fn took(mut self, job: JobId) {
        self.asking_for.forget(job);
    }

    /// Waits for the next wake-up. Cancel safe; one that came before is not lost.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl State {
    fn entry(&mut self, domain: &Domain, id: u64) -> Option<&mut Entry> {
        self.domains.get_mut(domain)?.get_mut(&id)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.waiters.lock();
        let mut pass_on = std::mem::take(&mut self.asking_for);
        if let Some(waiting) = state.domains.get_mut(&self.domain) {
            let gone = waiting.remove(&self.id);
            if waiting.is_empty() {
                state.domains.remove(&self.domain);
            }
            if let Some(mut entry) = gone {
                pass_on.append(std::mem::take(&mut entry.noted));
                state.holders.remove(&self.domain, self.id, &entry.holds);
            }
        }
        for ready in &pass_on.0 {
            state.ready(ready);
        }
    }
}

#[cfg(test)]
mod tests;
