//! What every task of a daemon shares: who we are, the way to the queue, the engines,
//! the jobs at hand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::v1::fleet_client::FleetClient;
use proto::v1::{CancelKind, Job, Phase, RunningJob};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;

use super::blobs::{Encoding, How};
use super::comeback::Comeback;
use super::data_dir::DataDir;
use super::engines::Engines;
use super::lately::Lately;
use super::leave::Order;
use super::seen::Seen;
use super::shutdown::Trigger;
use super::tasks::Tasks;
use super::way::Way;
use super::{Options, binds};
use crate::connect::Authenticated;

/// Metadata of replies to updates: which encodings of blobs the queue takes.
const BLOB_ENCODINGS: &str = "x-blob-encodings";
/// The same: what a finish may bring itself.
const FINISH_BRINGS: &str = "x-finish-brings";

/// A client of the queue that says who we are.
pub type Client = FleetClient<Authenticated>;

/// Under which every write of a job is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job_id: String,
    /// Fences the attempt.
    pub lease_id: Vec<u8>,
    /// Counts from 1.
    pub attempt: u32,
}

impl Lease {
    /// The right that `job` was handed out with.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        Self {
            job_id: job.id.clone(),
            lease_id: job
                .lease
                .as_ref()
                .map_or(Vec::new(), |lease| lease.id.clone()),
            attempt: job.lease.as_ref().map_or(0, |lease| lease.attempt),
        }
    }
}

/// See the module.
pub struct Context {
    /// As the operator chose.
    pub options: Options,
    /// Short calls.
    pub client: Client,
    /// Blobs, on a connection of their own: a large state must not delay a heartbeat.
    pub bulk: Client,
    /// Ours while it lives.
    pub data: DataDir,
    /// What can run.
    pub engines: Engines,
    /// The sandbox level of jobs here, e.g. `landlock+pidns`.
    pub sandbox: String,
    /// Host paths that jobs see.
    pub binds: binds::Binds,
    /// Memory of one job over which it is interrupted, in bytes.
    pub job_memory: Option<u64>,
    /// Jobs that run now.
    pub jobs: Jobs,
    /// What jobs here had to do with.
    pub lately: Lately,
    /// One permit per job that may run.
    pub slots: Arc<Semaphore>,
    /// One permit per collector that may run.
    pub collectors: Semaphore,
    /// From the daemon to its jobs.
    pub orders: watch::Receiver<Order>,
    /// Stops the daemon from inside.
    pub trigger: Trigger,
    /// Tasks that live as long as the daemon.
    pub tasks: Tasks,
    /// Jobs and deliveries: the daemon ends when all of them have.
    pub work: Tasks,
    /// For those who watch it.
    pub seen: Seen,
    /// When a lost queue may be dialled again.
    pub comeback: Comeback,
    /// For the summary.
    pub counts: Counts,
    /// Cancelled when the daemon waits no longer, delivered or not.
    pub closing: CancellationToken,
    /// Set when the queue has revoked our key.
    pub revoked: AtomicBool,
    /// Set while the queue says that it unpacks blobs.
    pub unpacks: AtomicBool,
    /// Set while the queue says that a finish may bring its state.
    pub takes_states: AtomicBool,
    /// By which calls the queue is reached.
    pub way: Way,
}

/// Counted for the daemon's last words.
#[derive(Debug, Default)]
pub struct Counts {
    /// Finishes the queue has stored.
    pub finished: AtomicU64,
    /// Finishes that wait in a journal.
    pub unsent: AtomicU64,
}

/// The jobs that run now, and how to tell one that it is cancelled.
#[derive(Debug, Default)]
pub struct Jobs(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    lease_id: Vec<u8>,
    cancel: watch::Sender<CancelKind>,
    phase: Phase,
}

/// Takes the job off the list when dropped.
#[derive(Debug)]
pub struct Registered {
    context: Arc<Context>,
    lease: Lease,
    /// Says how the job is cancelled; only ever gets stronger.
    pub cancel: watch::Receiver<CancelKind>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("name", &self.options.name)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Puts a job on the list. A newer attempt of the same job takes the older's place.
    pub fn register(self: &Arc<Self>, lease: &Lease) -> Registered {
        let (sender, cancel) = watch::channel(CancelKind::None);
        let entry = Entry {
            lease_id: lease.lease_id.clone(),
            cancel: sender,
            phase: Phase::Setup,
        };
        self.jobs.entries().insert(lease.job_id.clone(), entry);
        Registered {
            context: self.clone(),
            lease: lease.clone(),
            cancel,
        }
    }

    /// The queue has revoked our key: the daemon says so when it ends.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
    }

    /// See [`Context::revoke`].
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    /// Learns from the reply to an update how blobs may travel.
    pub fn hear(&self, metadata: &MetadataMap) {
        let says = |of: &str, word: &str| {
            metadata.get(of).is_some_and(|known| {
                let known = known.to_str().unwrap_or_default();
                known.split(',').any(|known| known.trim() == word)
            })
        };
        let relaxed = Ordering::Relaxed;
        self.unpacks.store(says(BLOB_ENCODINGS, "zstd"), relaxed);
        let states = says(FINISH_BRINGS, "state");
        self.takes_states.store(states, relaxed);
    }

    /// How blobs travel to the queue as it was last heard.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        match self.unpacks.load(Ordering::Relaxed) {
            true => Encoding::Zstd,
            false => Encoding::Plain,
        }
    }

    /// By which calls blobs travel now, and how.
    #[must_use]
    pub fn how(&self) -> How {
        How {
            encoding: self.encoding(),
            transport: self.way.now(),
        }
    }

    /// How long a call may take before it is tried again: shorter than the shortest
    /// lease, so that one lost reply does not cost a job.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        self.options.timings.update * 3
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut entries = self.context.jobs.entries();
        let ours = entries
            .get(&self.lease.job_id)
            .is_some_and(|entry| entry.lease_id == self.lease.lease_id);
        if ours {
            entries.remove(&self.lease.job_id);
        }
    }
}

impl Jobs {
    /// Passes a cancel on; one for a job that is gone is dropped, as the update's reply
    /// stays the truth.
    pub fn cancel(&self, job_id: &str, kind: CancelKind) {
        if let Some(entry) = self.entries().get(job_id) {
            entry.cancel.send_if_modified(|now| {
                let stronger = kind as i32 > *now as i32;
                if stronger {
                    *now = kind;
                }
                stronger
            });
        }
    }

    /// A job has come to a phase.
    pub fn reached(&self, job_id: &str, phase: Phase) {
        if let Some(entry) = self.entries().get_mut(job_id) {
            entry.phase = phase;
        }
    }

    /// Where the jobs are.
    #[must_use]
    pub fn phases(&self) -> Vec<Phase> {
        self.entries().values().map(|entry| entry.phase).collect()
    }

    /// As the control stream tells it to the queue.
    #[must_use]
    pub fn running(&self) -> Vec<RunningJob> {
        self.entries()
            .iter()
            .map(|(job_id, entry)| RunningJob {
                job_id: job_id.clone(),
                lease_id: entry.lease_id.clone(),
            })
            .collect()
    }

    /// Whether no job runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
