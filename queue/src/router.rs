//! The one listener to the store's events: it brings each to those it concerns.
//!
//! Nobody else subscribes, so that a job's event costs the same however many daemons and
//! followers are connected. When events were lost, whoever relies on them looks at the
//! store, each kind once for the whole process ([`Looks`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::ids::JobId;
use tokio::sync::Notify;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::shared::Shared;
use crate::store::model::DaemonName;
use crate::store::{Event, Store};
use crate::waiters::Ready;

/// Asks the background tasks to look at the store now and not at their next tick.
#[derive(Debug, Default)]
pub struct Looks {
    /// At pending jobs.
    pub lanes: Notify,
    /// At the daemons that this replica holds.
    pub presence: Notify,
    /// At the credentials.
    pub credentials: Notify,
}

/// Carries events until the store is closed or the queue stops.
pub async fn run<S: Store>(shared: Shared<S>, mut events: broadcast::Receiver<Event>) {
    loop {
        // Both branches are cancel safe.
        let event = tokio::select! {
            event = events.recv() => event,
            () = shared.stopping.cancelled() => return,
        };
        match event {
            Ok(event) => route(&shared, event),
            Err(RecvError::Lagged(_)) => route(&shared, Event::Missed),
            Err(RecvError::Closed) => return,
        }
    }
}

fn route<S: Store>(shared: &Shared<S>, event: Event) {
    match event {
        Event::JobReady {
            job,
            organization,
            tags,
            engine,
            kind,
            affinity,
        } => {
            let ready = Ready {
                job,
                organization,
                tags,
                engine,
                kind,
                affinity,
            };
            // First, so that who comes to wait now sees it or is woken.
            shared.lanes.ready(&ready);
            shared.waiters.ready(&ready);
        }
        Event::JobChanged(job) => shared.followers.changed(job),
        Event::LogsAppended(job) => shared.followers.appended(job),
        Event::CancelRequested {
            job,
            organization,
            daemon: name,
            kind,
        } => {
            let name = DaemonName { organization, name };
            shared.controls.cancel(&name, job, kind);
        }
        Event::DrainRequested {
            organization,
            daemon: name,
        } => {
            let name = DaemonName { organization, name };
            shared.controls.drain(&name);
            shared.waiters.wake_daemon(&name.organization, &name.name);
        }
        Event::KeyRevoked { organization, key } => {
            shared.credentials.key_deleted(&organization, &key);
            shared.controls.end_revoked();
        }
        Event::TokenRevoked { token } => shared.credentials.token_deleted(&token),
        Event::Missed => {
            shared.lanes.forget();
            shared.followers.missed();
            shared.looks.lanes.notify_one();
            shared.looks.presence.notify_one();
            shared.looks.credentials.notify_one();
        }
    }
}

/// What of a job somebody follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Its view.
    View,
    /// Its log, and its end, which is that of its log too.
    Log,
}

/// Who follows which job in this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Followers(Arc<Mutex<Marks>>);

#[derive(Debug, Default)]
struct Marks {
    next: u64,
    jobs: HashMap<JobId, Vec<Mark>>,
}

#[derive(Debug)]
struct Mark {
    id: u64,
    of: Of,
    news: Arc<Notify>,
}

/// One who follows a job; dropping it ends that.
#[derive(Debug)]
pub struct Follows {
    followers: Followers,
    job: JobId,
    id: u64,
    news: Arc<Notify>,
}

impl Followers {
    /// Begins to follow: later news count.
    #[must_use]
    pub fn follow(&self, job: JobId, of: Of) -> Follows {
        let news = Arc::new(Notify::new());
        let mut marks = self.lock();
        let id = marks.next;
        marks.next += 1;
        let mark = Mark {
            id,
            of,
            news: Arc::clone(&news),
        };
        marks.jobs.entry(job).or_default().push(mark);
        drop(marks);
        Follows {
            followers: self.clone(),
            job,
            id,
            news,
        }
    }

    fn changed(&self, job: JobId) {
        self.tell(job, |_| true);
    }

    fn appended(&self, job: JobId) {
        self.tell(job, |of| of == Of::Log);
    }

    fn tell(&self, job: JobId, whom: impl Fn(Of) -> bool) {
        if let Some(marks) = self.lock().jobs.get(&job) {
            for mark in marks.iter().filter(|mark| whom(mark.of)) {
                mark.news.notify_one();
            }
        }
    }

    fn missed(&self) {
        for mark in self.lock().jobs.values().flatten() {
            mark.news.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        // Every change is complete before the guard goes, also in a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follows {
    /// Waits for news. Cancel safe; news that came before are not lost.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        let mut marks = self.followers.lock();
        if let Some(of_job) = marks.jobs.get_mut(&self.job) {
            of_job.retain(|mark| mark.id != self.id);
            if of_job.is_empty() {
                marks.jobs.remove(&self.job);
            }
        }
    }
}
