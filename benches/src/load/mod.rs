//! `bench load`: what a fleet asks of a queue, one scenario for each promise.
//!
//! ```text
//! this process: clients, simulated daemons ──mTLS gRPC──▶ provisionerd serve ──▶ SQLite
//!       └── baselines: bare loop, pgbench ────────────────────────┴──▶ PostgreSQL
//! ```
//!
//! Queue and database are processes of their own, so that their CPU and memory can be told
//! from the load's. Everything is on loopback, in directories of this run, bounded in count
//! and time. A figure is void, neither kept nor broken, when the machine had something else
//! to do meanwhile: see [`probes`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

mod backlog;
mod baseline;
mod crew;
mod cycles;
mod daemon;
mod dispatch;
mod fairness;
mod hostile;
mod hub;
mod idle;
mod job;
mod logs;
mod pgbench;
mod probes;
mod report;
mod serve;
mod store;
mod storm;
mod tls;
mod usage;
mod work;
mod world;

pub use report::Ending;
use report::{Report, Row};
use store::Backend;

/// The longest that one scenario may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Scenarios, in this order.
    #[arg(value_enum, required = true)]
    scenario: Vec<Scenario>,
    /// Which store the queue is on.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Stores,
    /// The product's binary, built with `--release`.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// The directory `testdata`.
    #[arg(long, default_value = "testdata")]
    testdata: PathBuf,
    /// Where data of the run lies while it runs.
    #[arg(long, default_value = "/tmp")]
    dir: PathBuf,
    /// Simulated daemons, instead of the promise's number.
    #[arg(long)]
    daemons: Option<usize>,
    /// Jobs that are measured or wait, instead of the promise's number.
    #[arg(long)]
    jobs: Option<usize>,
    /// Seconds of the measured window, instead of the scenario's own.
    #[arg(long)]
    seconds: Option<u64>,
    /// Divides all numbers: a trial that shows nothing but that it runs.
    #[arg(long, default_value_t = 1)]
    divide: usize,
    /// One more argument for `serve`, say `--serve-arg=--database-connections=32`.
    #[arg(long)]
    serve_arg: Vec<String>,
    /// Log filter of `serve`.
    #[arg(long, default_value = "warn")]
    serve_log: String,
    /// Count PostgreSQL's statements in every scenario and print those that cost most.
    #[arg(long)]
    statements: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Every one.
    All,
    /// A submit's answer until the job is in hands, 1,000 idle daemons.
    Dispatch,
    /// The same while 200 whole cycles a second run.
    Busy,
    /// Whole cycles a second with 64 daemons, and what one costs; on PostgreSQL next to a
    /// bare loop of the same row changes and pgbench.
    Cycles,
    /// What 10,000 idle daemons cost.
    Idle,
    /// 10,000 daemons come back after a killed queue or replica.
    Storm,
    /// Dispatch before 100,000 pending jobs that match nobody.
    Backlog,
    /// An owner's job behind another's thousand is the next hand-out.
    Fairness,
    /// Log lines a second, while 100 readers follow 100 other jobs.
    Logs,
    /// Dispatch and memory while strangers and known peers do their worst.
    Hostile,
    /// Memory and CPU of a real daemon, idle and with 16 jobs.
    Daemon,
}

/// One or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stores {
    Sqlite,
    Postgres,
    Both,
}

impl Stores {
    fn list(self) -> &'static [Backend] {
        match self {
            Self::Sqlite => &[Backend::Sqlite],
            Self::Postgres => &[Backend::Postgres],
            Self::Both => &[Backend::Sqlite, Backend::Postgres],
        }
    }
}

impl Scenario {
    const EACH: [Self; 10] = [
        Self::Dispatch,
        Self::Busy,
        Self::Cycles,
        Self::Idle,
        Self::Storm,
        Self::Backlog,
        Self::Fairness,
        Self::Logs,
        Self::Hostile,
        Self::Daemon,
    ];

    async fn run(self, args: &Args, store: Backend, probes: &probes::Probes) -> Result<Vec<Row>> {
        let run = world::Run {
            args,
            store,
            probes,
        };
        match self {
            Self::All => Ok(Vec::new()),
            Self::Dispatch => dispatch::idle(&run).await,
            Self::Busy => dispatch::busy(&run).await,
            Self::Cycles => cycles::run(&run).await,
            Self::Idle => idle::run(&run).await,
            Self::Storm => storm::run(&run).await,
            Self::Backlog => backlog::run(&run).await,
            Self::Fairness => Box::pin(fairness::run(&run)).await,
            Self::Logs => logs::run(&run).await,
            Self::Hostile => Box::pin(hostile::run(&run)).await,
            Self::Daemon => daemon::run(&run).await,
        }
    }
}

impl Args {
    fn scenarios(&self) -> Vec<Scenario> {
        if self.scenario.contains(&Scenario::All) {
            return Scenario::EACH.to_vec();
        }
        self.scenario.clone()
    }

    /// How many, where the promise says `promised`.
    fn scaled(&self, given: Option<usize>, promised: usize) -> usize {
        given.unwrap_or(promised.div_ceil(self.divide)).max(1)
    }

    fn daemons(&self, promised: usize) -> usize {
        self.scaled(self.daemons, promised)
    }

    fn jobs(&self, promised: usize) -> usize {
        self.scaled(self.jobs, promised)
    }

    fn window(&self, own: u64) -> Duration {
        let divide = u64::try_from(self.divide).unwrap_or(1);
        Duration::from_secs(self.seconds.unwrap_or(own.div_ceil(divide)))
    }
}

/// Runs them; the document, and whether all promises were kept. Interrupted, it ends what
/// it started and fails.
pub async fn run(args: &Args) -> Result<(Value, Ending)> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = all(args) => ended,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

async fn all(args: &Args) -> Result<(Value, Ending)> {
    more_files()?;
    let probes = probes::Probes::start(&args.dir).await?;
    let mut report = Report::new(args.divide, &probes);
    for store in args.store.list() {
        for scenario in args.scenarios() {
            // It has no store below it but the queue's.
            if scenario == Scenario::Daemon && *store != args.store.list()[0] {
                continue;
            }
            eprintln!("load: {scenario:?} on {store}");
            let run = Box::pin(scenario.run(args, *store, &probes));
            match tokio::time::timeout(LIMIT, run).await {
                Ok(Ok(rows)) => report.add(rows),
                Ok(Err(error)) => report.failed(scenario, *store, &format!("{error:#}")),
                Err(_) => report.failed(scenario, *store, "it did not end"),
            }
        }
    }
    eprintln!("{}", report.table());
    Ok((report.json(), report.ending()))
}

/// As many open files as the host allows, for this process and those that it starts.
fn more_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("RLIMIT_NOFILE")
}
