//! What happened to each job, as the daemons tell it; clients wait here for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::Notify;

/// No job takes this long to come into hands or to end.
const LONG: Duration = Duration::from_secs(120);

/// Problems that are kept; more say nothing more.
const PROBLEMS: usize = 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Hub {
    jobs: Mutex<HashMap<String, Told>>,
    finished: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// Of one job.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// When it first arrived at a daemon.
    pub arrived: Option<Instant>,
    /// How often one was told that it is theirs.
    pub confirmed: u32,
    /// When its finish was stored.
    pub ended: Option<Instant>,
    changed: Arc<Notify>,
}

impl Hub {
    fn locked(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, job: &str, change: impl FnOnce(&mut Told)) {
        let mut jobs = self.locked();
        let told = jobs.entry(job.to_owned()).or_default();
        change(told);
        told.changed.notify_waiters();
    }

    /// A daemon was offered it.
    pub fn arrived(&self, job: &str, at: Instant) {
        self.tell(job, |told| {
            told.arrived.get_or_insert(at);
        });
    }

    /// A daemon has it.
    pub fn confirmed(&self, job: &str) {
        self.tell(job, |told| told.confirmed += 1);
    }

    /// Its finish is stored.
    pub fn ended(&self, job: &str) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.tell(job, |told| told.ended = Some(Instant::now()));
    }

    /// Finishes stored so far.
    pub fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Notes what must not happen.
    pub fn went_wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() < PROBLEMS {
            wrong.push(what);
        }
    }

    /// What must not have happened.
    pub fn wrong(&self) -> Vec<String> {
        let wrong = self.wrong.lock();
        wrong.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a daemon was offered the job; when that was.
    pub async fn arrival(&self, job: &str) -> Result<Instant> {
        self.until(job, "came into no hands", |told| told.arrived)
            .await
    }

    /// Waits for the job's end and forgets it.
    pub async fn end(&self, job: &str) -> Result<Told> {
        let end = |told: &Told| told.ended.map(|_| told.clone());
        let told = self.until(job, "did not end", end).await?;
        self.locked().remove(job);
        Ok(told)
    }

    async fn until<T>(
        &self,
        job: &str,
        otherwise: &str,
        known: impl Fn(&Told) -> Option<T>,
    ) -> Result<T> {
        let look = || {
            let mut jobs = self.locked();
            let told = jobs.entry(job.to_owned()).or_default();
            (known(told), told.changed.clone())
        };
        let wait = async {
            loop {
                let (_, changed) = look();
                let notified = changed.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if let (Some(found), _) = look() {
                    return found;
                }
                notified.await;
            }
        };
        let waited = tokio::time::timeout(LONG, wait).await;
        waited.with_context(|| {
            let wrong = self.wrong();
            format!("job {job} {otherwise} within {LONG:?}; daemons say {wrong:?}")
        })
    }
}
