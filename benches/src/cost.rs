//! What a job costs besides its engine: CPU of worker and supervisor as their reaper is told
//! it (the daemon logs it), and of the daemon by its own CPU clock, less what it takes when
//! idle. The jail's start of an engine is in the engine's share: it is the same process.
//!
//! Beside it, what the economy must not cost: how late each completion that an engine prints
//! is durable at the queue ([`ledger`]), and how often a large state is shipped.

mod ledger;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::fleet::{self, Fleet, path};
use crate::sim::Client;
use crate::stats::{Series, millis};
use ledger::{Watch, Watched};

/// What a build of one quick resource may take of ours.
const QUICK: Duration = Duration::from_millis(60);
/// A completion is durable at the queue so soon after it was printed.
const LEDGER: Duration = Duration::from_secs(1);
/// Checkpoints are shipped at most this often, and a last one at the end.
const SHIPPED_EVERY: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// The product's binary, built with `--release`.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// Engine: a name on PATH or a path.
    #[arg(long, default_value = "terraform")]
    engine: String,
    /// Builds of each kind.
    #[arg(long, default_value_t = 15)]
    builds: usize,
    /// Kinds to leave out: one, many, large.
    #[arg(long)]
    skip: Vec<String>,
}

/// A kind of build.
struct Kind {
    name: &'static str,
    template: &'static str,
    /// What ours may take above a quick build, in percent of the engine.
    percent: Option<f64>,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "one",
        percent: None,
        template: "resource \"terraform_data\" \"one\" {}\n",
    },
    Kind {
        name: "many",
        percent: Some(5.0),
        template: "resource \"terraform_data\" \"many\" {\n  count = 200\n}\n",
    },
    // Input and output: two mebibytes each.
    Kind {
        name: "large",
        percent: Some(10.0),
        template: r#"
locals {
  mebibyte = join("", [for kib in range(1024) : format("%01024d", kib)])
}
resource "terraform_data" "large" {
  count = 25
  input = "${count.index}${local.mebibyte}"
}
"#,
    },
];

/// What builds of one kind took.
#[derive(Default)]
struct Taken {
    job: Series,
    daemon: Series,
    ours: Series,
    engine: Series,
    wall: Series,
    /// From an engine's print to the row at the queue.
    late: Series,
    /// Shipped states above what the pace of shipping allows, of the worst build.
    too_often: usize,
    /// Shipped states of each build.
    shipped: Vec<usize>,
}

/// Builds of each kind, one after the other, each of a workspace of its own; how many
/// promises were broken.
pub async fn run(args: &Args) -> Result<(Value, usize)> {
    let dir = tempfile::tempdir()?;
    let options = fleet::Options {
        tags: &[],
        binary: &args.binary,
        engine: &args.engine,
        mirror: None,
        slots: 1,
    };
    let fleet = tokio::task::block_in_place(|| Fleet::start(&options, dir.path()))?;
    let token = std::fs::read_to_string(fleet.data().join("admin.token"))?;
    let bench = Bench {
        client: Client::connect(fleet.url(), token.trim()).await?,
        fleet,
    };
    let mut report = json!({"bench": "cost", "builds": args.builds});
    let mut broken = Vec::new();
    let mut quick = None;
    for kind in KINDS {
        if args.skip.iter().any(|name| name == kind.name) {
            continue;
        }
        let (taken, idle) = bench.builds(&kind, args.builds, dir.path()).await?;
        if kind.percent.is_none() {
            quick = Some(taken.ours.quantile(0.5));
        }
        let above = quick.map(|quick| taken.percent_above(quick));
        broken.extend(taken.broken(&kind, above));
        taken.say(kind.name, above);
        report[kind.name] = taken.document(idle, above);
    }
    for broken in &broken {
        eprintln!("cost: BROKEN: {broken}");
    }
    report["broken"] = broken.len().into();
    Ok((report, broken.len()))
}

impl Taken {
    /// What ours took above a quick build, in percent of the engine.
    fn percent_above(&self, quick: Duration) -> f64 {
        let above = self.ours.quantile(0.5).saturating_sub(quick);
        above.as_secs_f64() / self.engine.quantile(0.5).as_secs_f64() * 100.0
    }

    fn broken(&self, kind: &Kind, above: Option<f64>) -> Vec<String> {
        let mut broken = Vec::new();
        let (name, ours) = (kind.name, self.ours.quantile(0.5));
        if kind.percent.is_none() && ours > QUICK {
            broken.push(format!("{name}: ours {} ms", millis(ours)));
        }
        if let (Some(promise), Some(percent)) = (kind.percent, above)
            && percent > promise
        {
            broken.push(format!("{name}: {percent:.2} % of the engine"));
        }
        let late = self.late.quantile(1.0);
        if late > LEDGER {
            broken.push(format!(
                "{name}: a completion came {} ms late",
                millis(late)
            ));
        }
        if self.too_often > 0 {
            broken.push(format!("{name}: {} states too many", self.too_often));
        }
        broken
    }

    fn say(&self, name: &str, above: Option<f64>) {
        eprintln!(
            "cost: {name}: ours {:.1} ms (worker and supervisor {:.1}, daemon {:.1}), engine \
             {:.1} ms; above the first {} % of the engine; ledger late by p50 {:.0}, p99 {:.0}, \
             at most {:.0} ms; states shipped {:?}",
            millis(self.ours.quantile(0.5)),
            millis(self.job.quantile(0.5)),
            millis(self.daemon.quantile(0.5)),
            millis(self.engine.quantile(0.5)),
            above.map_or("?".to_owned(), |percent| format!("{percent:.2}")),
            millis(self.late.quantile(0.5)),
            millis(self.late.quantile(0.99)),
            millis(self.late.quantile(1.0)),
            self.shipped,
        );
    }

    fn document(&self, idle: f64, above: Option<f64>) -> Value {
        json!({
            "ours": self.ours.summary(),
            "worker_and_supervisor": self.job.summary(),
            "daemon": self.daemon.summary(),
            "engine": self.engine.summary(),
            "wall": self.wall.summary(),
            "daemon_idle_ms_per_s": idle * 1e3,
            "above_first_percent_of_engine": above,
            "ledger_late": self.late.summary(),
            "states_shipped": self.shipped,
        })
    }
}

struct Bench {
    fleet: Fleet,
    client: Client,
}

impl Bench {
    async fn builds(&self, kind: &Kind, count: usize, dir: &Path) -> Result<(Taken, f64)> {
        let daemon = self.fleet.ids()[1];
        let idle = tokio::task::block_in_place(|| {
            push(&self.fleet, dir, kind)?;
            idle(daemon)
        })?;
        let mut taken = Taken::default();
        for round in 0..count {
            self.build(kind, round, idle, &mut taken).await?;
        }
        Ok((taken, idle))
    }

    async fn build(&self, kind: &Kind, round: usize, idle: f64, taken: &mut Taken) -> Result<()> {
        let daemon = self.fleet.ids()[1];
        let workspace = format!("{}-{round}", kind.name);
        let (cpu, start) = (cpu(daemon)?, Instant::now());
        let line = ["workspaces", "create", &workspace, "--template", kind.name];
        let made = self
            .fleet
            .client(&[&line[..], &["--no-wait"]].concat(), &[])?;
        let id = made["job"]["id"].as_str().context("no job")?;
        let watch = Watch::start(&self.client, &self.fleet.data().join("queue/queue.db"), id)?;
        let told = tokio::task::block_in_place(|| {
            self.fleet.client(&["jobs", "wait", id], &[])?;
            taken.wall.push(start.elapsed());
            let told = told(&self.fleet, id);
            // Its last words to the queue, and what a job leaves to be cleaned up.
            std::thread::sleep(Duration::from_millis(300));
            told
        })?;
        let idle = Duration::from_secs_f64(idle * start.elapsed().as_secs_f64());
        let of_daemon = self::cpu(daemon)?.saturating_sub(cpu).saturating_sub(idle);
        let micros = |field: &str| told[field].as_u64().map(Duration::from_micros);
        let job = micros("cpu.worker_and_supervisor_us").context("no figure")?;
        taken.job.push(job);
        taken.daemon.push(of_daemon);
        taken.ours.push(job + of_daemon);
        let engine = micros("cpu.engine_us").context("no figure")?;
        taken.engine.push(engine);
        taken.add(watch.end().await?);
        Ok(())
    }
}

impl Taken {
    fn add(&mut self, watched: Watched) {
        let allowed = watched.lasted.as_secs_f64() / SHIPPED_EVERY.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        let allowed = allowed.ceil() as usize + 1;
        self.too_often = self.too_often.max(watched.states.saturating_sub(allowed));
        self.shipped.push(watched.states);
        self.late.extend(watched.late);
    }
}

fn push(fleet: &Fleet, dir: &Path, kind: &Kind) -> Result<()> {
    let template = dir.join(kind.name);
    std::fs::create_dir(&template)?;
    std::fs::write(template.join("main.tf"), kind.template)?;
    fleet.client(&["templates", "push", kind.name, "-d"], &[path(&template)?])?;
    Ok(())
}

/// The daemon's line on the processes of a job.
fn told(fleet: &Fleet, job: &str) -> Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let log = fleet.daemon_log()?;
        let of_job = |line: &&str| line.contains("cpu.engine_us") && line.contains(job);
        if let Some(line) = log.lines().find(of_job) {
            let line: Value = serde_json::from_str(line)?;
            return Ok(line["fields"].clone());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("the daemon says nothing of the processes of {job}")
}

/// CPU seconds the daemon takes per second without a job.
fn idle(daemon: u32) -> Result<f64> {
    std::thread::sleep(Duration::from_secs(1));
    let (before, start) = (cpu(daemon)?, Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let took = cpu(daemon)?.saturating_sub(before);
    Ok(took.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// User and system time of a process, ended threads included, to the nanosecond.
fn cpu(pid: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?;
    Ok(clock_gettime(clock)?.into())
}
