//! The provisioner daemon: takes jobs from the queue and sees each one to its end.
//!
//! It holds the credentials of the fleet, the journals and the redaction; it starts
//! supervisors and nothing else, and it never parses what a template wrote.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::limits;
use proto::secret::Secret;
use proto::timings::Timings;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::connect::{self, Credentials, Target};
use context::Context;
use tasks::{OnPanic, Tasks};

mod acquire;
pub mod backoff;
mod binds;
mod blobs;
mod collect;
mod collector;
pub mod comeback;
mod context;
mod control;
mod data_dir;
mod deliver;
mod engines;
mod http;
mod job;
mod journal;
mod keep_lease;
mod last_lines;
mod lately;
mod lease;
mod leave;
mod links;
mod log;
mod memory;
mod outbox;
mod redact;
mod reserve;
mod retained;
#[cfg(test)]
mod scripted;
mod seen;
mod shutdown;
mod tasks;
mod verdict;
mod way;

pub use data_dir::Error as DataDirError;
pub use engines::Error as EngineError;
pub use memory::JobMemory;
pub use retained::{Kept, Waits, list as kept};
pub use shutdown::{Shutdown, Step, Trigger, channel as shutdown};

/// Which engine runs jobs that do not name one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineChoice {
    /// The first of `terraform` and `tofu` on `PATH`.
    Auto,
    /// By name, from `PATH`.
    Named(EngineName),
    /// This binary and no other.
    Path(PathBuf),
}

/// The engines we drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineName {
    /// HashiCorp Terraform.
    Terraform,
    /// OpenTofu.
    Tofu,
}

impl EngineName {
    /// As on the wire and on `PATH`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terraform => "terraform",
            Self::Tofu => "tofu",
        }
    }
}

/// How a job may use a host path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Shown read-only.
    Read,
    /// Shown for writing.
    Write,
}

/// A host path that every job sees (`--bind SRC[=DST][:rw]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the job: the same path, or `~/…` for a place in the job's HOME.
    pub destination: PathBuf,
    /// Reading or writing.
    pub access: Access,
}

/// Everything a daemon is told at its start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the queue is.
    pub target: Target,
    /// The provisioner key.
    pub key: Secret,
    /// Unique among the live daemons of the key.
    pub name: String,
    /// Tags that jobs are matched by.
    pub tags: BTreeMap<String, String>,
    /// Jobs at once, 1 to [`proto::limits::SLOTS`].
    pub slots: u32,
    /// This daemon's own directory; made if missing, locked while it runs.
    pub data_dir: PathBuf,
    /// The engine for jobs that do not name one.
    pub engine: EngineChoice,
    /// Directories of filesystem mirrors and https URLs of network mirrors.
    pub provider_mirrors: Vec<String>,
    /// Whether the registry may be asked for what no mirror has.
    pub direct: Registry,
    /// When the daemon ends by itself.
    pub lifetime: Lifetime,
    /// From a drain to the end of its last job, uploads included.
    pub drain_deadline: Duration,
    /// SIGINT to SIGKILL after a user's cancel.
    pub cancel_grace: Duration,
    /// Over which a job is interrupted.
    pub job_memory: JobMemory,
    /// Host paths that jobs see.
    pub binds: Vec<Bind>,
    /// Environment of engine and providers that the operator sets (credentials).
    pub engine_env: Vec<(String, Secret)>,
    /// Where health, readiness and metrics listen; none without an address.
    pub http_listen: Option<SocketAddr>,
    /// Every wait.
    pub timings: Timings,
    /// The binary that is started as `supervise`, `worker` and `jail`.
    pub exe: PathBuf,
}

/// Whether engines may fetch providers from their registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// For what no mirror has.
    Allowed,
    /// Mirrors only.
    Refused,
}

/// When a daemon ends without being told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Never.
    Unlimited,
    /// After one job (`--once`).
    Once,
    /// After this long without a job (`--exit-after-idle`).
    Idle(Duration),
}

/// What a daemon did, for its last words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Jobs whose finish the queue has stored.
    pub finished: u64,
    /// Finished journals that the queue has not taken yet; sent at the next start.
    pub unsent: u64,
}

/// Why a daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue's address or our credentials are unusable.
    #[error("cannot use the connection settings")]
    Connect(#[from] connect::Error),
    /// Its directory.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// Its engine.
    #[error(transparent)]
    Engine(#[from] engines::Error),
    /// A host path for its jobs.
    #[error(transparent)]
    Bind(#[from] binds::Error),
    /// More slots than one daemon may have, or none.
    #[error("{slots} slots: a daemon has 1 to {limit}")]
    Slots {
        /// As given.
        slots: u32,
        /// [`limits::SLOTS`].
        limit: u32,
    },
    /// The kernel does not let it look after orphans.
    #[error("cannot become the parent of orphaned processes")]
    Subreaper(#[source] std::io::Error),
    /// The queue will not have this daemon; a retry would be refused again.
    #[error("the queue refuses this daemon: {0}")]
    Refused(String),
    /// Too many directories of jobs wait for a person.
    #[error(transparent)]
    Retained(#[from] retained::Full),
    /// The HTTP port.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key was revoked while the daemon ran.
    #[error("the provisioner key was revoked")]
    KeyRevoked,
}

/// Runs a daemon until it is told to stop, its lifetime is over or the queue refuses
/// it for good. Every job it holds has ended, with its finish in its journal, when
/// this returns.
///
/// # Errors
/// See [`Error`]; nothing that a job made is lost by any of them.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<Summary, Error> {
    let (trigger, inner) = shutdown::channel();
    let (orders, heard) = watch::channel(leave::Order::Work);
    let http = listen(options.http_listen).await?;
    let context = Arc::new(prepare(options, trigger, heard).await?);
    let tasks = context.tasks.clone();
    tracing::info!(
        daemon.name = context.options.name,
        daemon.slots = context.options.slots,
        daemon.engines = context.engines.names().join(","),
        daemon.sandbox = context.sandbox,
        queue.url = context.options.target.url,
        "daemon started"
    );
    collect::start(&context);
    tasks.spawn("control", OnPanic::Drain, control::run(context.clone()));
    if let Some(http) = http {
        tasks.spawn("http", OnPanic::Drain, http::serve(context.clone(), http));
    }
    tasks.spawn(
        "signals",
        OnPanic::Drain,
        control::forward(context.clone(), shutdown),
    );
    let (deadline, timings) = (
        context.options.drain_deadline,
        context.options.timings.clone(),
    );
    let leaving = leave::lead(inner.clone(), deadline, timings, orders);
    let taken = tokio::select! {
        taken = serve(&context, inner) => taken,
        () = leaving => {
            tracing::warn!("the drain deadline is over");
            Ok(())
        }
    };
    context.closing.cancel();
    context.work.ended().await;
    tasks.ended().await;
    if context.is_revoked() {
        return Err(Error::KeyRevoked);
    }
    taken?;
    Ok(Summary {
        finished: context.counts.finished.load(Ordering::Relaxed),
        unsent: context.counts.unsent.load(Ordering::Relaxed),
    })
}

async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Error> {
    let Some(address) = address else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|source| Error::Listen { address, source })?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(http.address = %address, "health and metrics");
    Ok(Some(listener))
}

/// Takes work, then waits for the jobs that are left and for their deliveries.
async fn serve(context: &Arc<Context>, inner: Shutdown) -> Result<(), Error> {
    let taken = acquire::run(context.clone(), inner).await;
    if taken.is_err() {
        // What is left has until the drain deadline.
        context.trigger.at_least(Step::Drain);
    }
    context.work.ended().await;
    taken
}

async fn prepare(
    options: Options,
    trigger: Trigger,
    orders: watch::Receiver<leave::Order>,
) -> Result<Context, Error> {
    if options.slots == 0 || options.slots > limits::SLOTS {
        return Err(Error::Slots {
            slots: options.slots,
            limit: limits::SLOTS,
        });
    }
    let binds = binds::Binds::check(&options.binds)?;
    let data = data_dir::DataDir::open(&options.data_dir)?;
    retained::survey(data.root())?;
    worker::launch::become_subreaper().map_err(Error::Subreaper)?;
    let credentials = Credentials::daemon(&options.key, &options.name, data.instance())?;
    let prober = engines::Prober {
        exe: options.exe.clone(),
        jobs: data.jobs(),
        timings: options.timings.clone(),
    };
    let engines = engines::Engines::find(&options.engine, prober).await?;
    let slots = usize::try_from(options.slots).unwrap_or(usize::MAX);
    Ok(Context {
        client: credentials.fleet(options.target.channel()?),
        bulk: credentials.fleet(options.target.channel()?),
        sandbox: sandbox(),
        job_memory: options.job_memory.bytes(options.slots),
        slots: Arc::new(Semaphore::new(slots)),
        collectors: Semaphore::new(limits::COLLECTORS),
        tasks: Tasks::new(trigger.clone()),
        work: Tasks::new(trigger.clone()),
        seen: seen::Seen::default(),
        comeback: comeback::Comeback::default(),
        counts: context::Counts::default(),
        closing: CancellationToken::new(),
        revoked: AtomicBool::new(false),
        unpacks: AtomicBool::new(false),
        takes_states: AtomicBool::new(false),
        way: way::Way::new(&options.timings),
        jobs: context::Jobs::default(),
        lately: lately::Lately::default(),
        data,
        engines,
        binds,
        orders,
        trigger,
        options,
    })
}

/// The level of jobs on this host, found out by trying; says what is missing and why.
fn sandbox() -> String {
    let rules = worker::jail::probe();
    if !rules.reason.is_empty() {
        tracing::warn!(reason = rules.reason, "jobs run without Landlock");
    }
    match worker::launch::own_namespace() {
        Ok(()) => format!("{}+pidns", rules.level()),
        Err(reason) => {
            tracing::info!(
                reason,
                "no pid namespace per job: processes of a job are ended by signals and, \
                 where one can be made, by its cgroup"
            );
            rules.level().to_owned()
        }
    }
}
