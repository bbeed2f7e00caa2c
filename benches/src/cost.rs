//! What a job costs besides its engine: CPU of worker and supervisor as their reaper is told
//! it (the daemon logs it), and of the daemon by its own CPU clock, less what it takes when
//! idle. The jail's start of an engine is in the engine's share: it is the same process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::fleet::{self, Fleet, path};
use crate::stats::{Series, millis};

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
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "one",
        template: "resource \"terraform_data\" \"one\" {}\n",
    },
    Kind {
        name: "many",
        template: "resource \"terraform_data\" \"many\" {\n  count = 200\n}\n",
    },
    // Input and output: two mebibytes each.
    Kind {
        name: "large",
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
}

/// Builds of each kind, one after the other, each of a workspace of its own.
pub fn run(args: &Args) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let options = fleet::Options {
        tags: &[],
        binary: &args.binary,
        engine: &args.engine,
        mirror: None,
        slots: 1,
    };
    let fleet = Fleet::start(&options, dir.path())?;
    let daemon = fleet.ids()[1];
    let mut report = json!({"bench": "cost", "builds": args.builds});
    let mut base = None;
    for kind in KINDS {
        if args.skip.iter().any(|name| name == kind.name) {
            continue;
        }
        push(&fleet, dir.path(), &kind)?;
        let idle = idle(daemon)?;
        let mut taken = Taken::default();
        for round in 0..args.builds {
            build(&fleet, &kind, round, idle, &mut taken)?;
        }
        let ours = taken.ours.quantile(0.5);
        let base = *base.get_or_insert(ours);
        let engine = taken.engine.quantile(0.5);
        let above = ours.saturating_sub(base);
        let percent = above.as_secs_f64() / engine.as_secs_f64() * 100.0;
        eprintln!(
            "cost: {}: ours {:.1} ms (worker and supervisor {:.1}, daemon {:.1}), engine {:.1} ms; \
             above the first {percent:.2} % of the engine",
            kind.name,
            millis(ours),
            millis(taken.job.quantile(0.5)),
            millis(taken.daemon.quantile(0.5)),
            millis(engine),
        );
        report[kind.name] = json!({
            "ours": taken.ours.summary(),
            "worker_and_supervisor": taken.job.summary(),
            "daemon": taken.daemon.summary(),
            "engine": taken.engine.summary(),
            "wall": taken.wall.summary(),
            "daemon_idle_ms_per_s": idle * 1e3,
            "above_first_percent_of_engine": percent,
        });
    }
    Ok(report)
}

fn push(fleet: &Fleet, dir: &Path, kind: &Kind) -> Result<()> {
    let template = dir.join(kind.name);
    std::fs::create_dir(&template)?;
    std::fs::write(template.join("main.tf"), kind.template)?;
    fleet.client(&["templates", "push", kind.name, "-d"], &[path(&template)?])?;
    Ok(())
}

fn build(fleet: &Fleet, kind: &Kind, round: usize, idle: f64, taken: &mut Taken) -> Result<()> {
    let daemon = fleet.ids()[1];
    let workspace = format!("{}-{round}", kind.name);
    let (cpu, start) = (cpu(daemon)?, Instant::now());
    let made = fleet.client(
        &["workspaces", "create", &workspace, "--template", kind.name],
        &[],
    )?;
    let wall = start.elapsed();
    let id = made["job"]["id"].as_str().context("no job")?;
    let told = told(fleet, id)?;
    // Its last words to the queue, and what a job leaves to be cleaned up.
    std::thread::sleep(Duration::from_millis(300));
    let idle = Duration::from_secs_f64(idle * start.elapsed().as_secs_f64());
    let of_daemon = self::cpu(daemon)?.saturating_sub(cpu).saturating_sub(idle);
    let micros = |field: &str| told[field].as_u64().map(Duration::from_micros);
    let job = micros("cpu.worker_and_supervisor_us").context("no figure")?;
    taken.job.push(job);
    taken.daemon.push(of_daemon);
    taken.ours.push(job + of_daemon);
    taken
        .engine
        .push(micros("cpu.engine_us").context("no figure")?);
    taken.wall.push(wall);
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
