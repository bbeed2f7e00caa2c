//! What all services of one queue share, and the one way to start its tasks.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::limits;
use proto::timings::Timings;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::analysis::Analyzer;
use crate::audit::Refusals;
use crate::blobs::Blobs;
use crate::credentials::Credentials;
use crate::fleet::Controls;
use crate::forecasts::Forecasts;
use crate::guard::{Failures, Held, Unsent};
use crate::handing::HandOuts;
use crate::lanes::Lanes;
use crate::listen::places::Places;
use crate::metrics::{Census, Counters};
use crate::options::Edge;
use crate::pulse::Pulse;
use crate::router::{Followers, Looks};
use crate::store::Store;
use crate::store::model::{ReplicaId, Retention};
use crate::waiters::Waiters;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared<S>(Arc<Inner<S>>);

/// The parts; `Shared` derefs to it.
#[derive(Debug)]
pub struct Inner<S> {
    /// The truth.
    pub store: S,
    /// Large bytes.
    pub blobs: Blobs<S>,
    /// This process among those that share the store.
    pub replica: ReplicaId,
    /// Credentials that were shown lately.
    pub credentials: Credentials,
    /// What is known of pending jobs.
    pub lanes: Lanes,
    /// Hands jobs out.
    pub handing: HandOuts,
    /// Who waits for a job.
    pub waiters: Waiters,
    /// What is foreseen of pending jobs.
    pub forecasts: Forecasts,
    /// Who follows a job.
    pub followers: Followers,
    /// Wakes the background tasks.
    pub looks: Looks,
    /// Open control streams.
    pub controls: Controls,
    /// Connections of the gRPC port.
    pub places: Places,
    /// Who has tried wrong credentials.
    pub failures: Failures,
    /// What callers were refused, until it is noted.
    pub refusals: Refusals,
    /// Requests that are coming in.
    pub held: Held,
    /// Answers to daemons that are not written yet.
    pub unsent_to_daemons: Unsent,
    /// Those to clients.
    pub unsent_to_clients: Unsent,
    /// Calls of one credential at once.
    pub calls_per_credential: u32,
    /// How many jobs have not ended.
    pub census: Census,
    /// What was counted.
    pub counters: Counters,
    /// Whether the queue's own work goes on.
    pub pulse: Pulse,
    /// Reads templates.
    pub analyzer: Option<Arc<dyn Analyzer>>,
    /// All waits.
    pub timings: Timings,
    /// How long what has come to its end is kept.
    pub retention: Retention,
    /// What workspaces call the deployment.
    pub access_url: String,
    /// Ends every stream of this process.
    pub stopping: CancellationToken,
    tasks: TaskTracker,
}

/// What a queue is told about itself.
#[derive(Debug)]
pub struct Told {
    /// Reads templates.
    pub analyzer: Option<Arc<dyn Analyzer>>,
    /// All waits.
    pub timings: Timings,
    /// How long what has come to its end is kept.
    pub retention: Retention,
    /// What workspaces call the deployment.
    pub access_url: String,
    /// Limits towards strangers.
    pub edge: Edge,
    /// Connections of the gRPC port.
    pub places: Places,
    /// Ends every stream of this process.
    pub stopping: CancellationToken,
}

impl<S: Store> Shared<S> {
    /// Puts the parts together.
    pub fn new(store: S, blobs: Blobs<S>, told: Told) -> Self {
        Self(Arc::new(Inner {
            store,
            blobs,
            replica: ReplicaId::generate(),
            credentials: Credentials::default(),
            lanes: Lanes::default(),
            handing: HandOuts::default(),
            waiters: Waiters::default(),
            forecasts: Forecasts::default(),
            followers: Followers::default(),
            looks: Looks::default(),
            controls: Controls::default(),
            failures: Failures::new(told.edge.wrong_credentials),
            places: told.places,
            refusals: Refusals::default(),
            held: Held::default(),
            unsent_to_daemons: Unsent::new(limits::UNREAD),
            unsent_to_clients: Unsent::new(limits::UNREAD),
            calls_per_credential: told.edge.calls_per_credential,
            census: Census::default(),
            counters: Counters::default(),
            pulse: Pulse::default(),
            analyzer: told.analyzer,
            timings: told.timings,
            retention: told.retention,
            access_url: told.access_url,
            stopping: told.stopping,
            tasks: TaskTracker::new(),
        }))
    }

    /// Starts a task that ends by itself soon after [`Inner::stopping`]; it is never
    /// aborted, so what it has to give back it gives back.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let span = tracing::debug_span!("task", task.name = name);
        self.0.tasks.spawn(task.instrument(span));
    }

    /// The same for a task without which the queue is not healthy.
    pub fn spawn_vital(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let ending = Ending {
            shared: self.clone(),
            name,
        };
        self.spawn(name, async move {
            let _ending = ending;
            task.await;
        });
    }

    /// Waits until all tasks have ended, or for `limit`.
    pub async fn finished(&self, limit: Duration) {
        self.0.tasks.close();
        if tokio::time::timeout(limit, self.0.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(left = self.0.tasks.len(), "tasks did not end in time");
        }
    }
}

/// Tells of a vital task that ended before the queue, by a panic too.
struct Ending<S: Store> {
    shared: Shared<S>,
    name: &'static str,
}

impl<S: Store> Drop for Ending<S> {
    fn drop(&mut self) {
        if !self.shared.stopping.is_cancelled() {
            tracing::error!(task.name = self.name, "a task of the queue has ended");
            self.shared.pulse.ended(self.name);
        }
    }
}

impl<S> std::ops::Deref for Shared<S> {
    type Target = Inner<S>;

    fn deref(&self) -> &Inner<S> {
        &self.0
    }
}

/// `base` ± 20 %: many waits that began together must not end together.
pub fn jittered(base: Duration) -> Duration {
    base.mul_f64(rand::random_range(0.8..1.2))
}
