//! Whole job cycles with a real daemon, supervisor and jailed worker, and no engine: the
//! deletion of a workspace that has no state. What is left is the price of the processes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::fleet::{self, Fleet, path};
use crate::stats::{Series, millis};

/// What only the worker of such a job says.
const WORKER_SAYS: &str = "Nothing exists, so nothing has to be deleted.";

/// How much to measure.
#[derive(clap::Args)]
pub struct Args {
    /// The product's binary, built with `--release`.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// Template directory; only its import runs an engine.
    #[arg(long, default_value = "testdata/templates/quickstart")]
    template: PathBuf,
    /// Engine of that import: a name on PATH or a path.
    #[arg(long, default_value = "terraform")]
    engine: String,
    /// Jobs in all, one after another.
    #[arg(long, default_value_t = 200)]
    jobs: usize,
}

/// Runs the measurement.
pub fn run(args: &Args) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let options = fleet::Options {
        binary: &args.binary,
        engine: &args.engine,
        mirror: None,
        slots: 1,
        tags: &[],
    };
    let mut fleet = Fleet::start(&options, dir.path())?;
    let template = path(&args.template)?;
    fleet.client(&["templates", "push", "bench", "-d"], &[template])?;
    fleet.stop_daemon()?;
    for index in 0..args.jobs {
        never_built(&fleet, &name(index))?;
    }
    fleet.start_daemon()?;
    let (mut cycles, mut commands) = (Series::default(), Series::default());
    for index in 0..args.jobs {
        let start = Instant::now();
        let made = fleet.client(&["workspaces", "delete", &name(index)], &[])?;
        commands.push(start.elapsed());
        cycles.push(cycle(&made["job"])?);
        if index == 0 {
            a_worker_ran(&fleet, &made["job"])?;
        }
    }
    eprintln!(
        "cycle with supervisor and worker: hand-out to stored finish p50 {} ms, p99 {} ms",
        millis(cycles.quantile(0.5)),
        millis(cycles.quantile(0.99)),
    );
    Ok(json!({
        "jobs": args.jobs,
        "hand_out_to_stored_finish": cycles.summary(),
        "delete_command": commands.summary(),
        "engine_processes": 0,
    }))
}

fn name(index: usize) -> String {
    format!("w-{index}")
}

/// A workspace whose only build was canceled while it waited for the absent daemon.
fn never_built(fleet: &Fleet, name: &str) -> Result<()> {
    let more = ["--template", "bench", "--no-wait"].map(str::to_owned);
    let made = fleet.client(&["workspaces", "create", name], &more)?;
    let job = made["job"]["id"].as_str().context("no job")?;
    let canceled = fleet.client(&["jobs", "cancel", job], &[])?;
    ensure!(canceled["status"] == "canceled", "{canceled}");
    Ok(())
}

/// From hand-out to the stored finish, both by the queue's clock.
fn cycle(job: &Value) -> Result<Duration> {
    ensure!(job["status"] == "succeeded", "{job}");
    ensure!(job["engine_processes"] == 0, "an engine ran: {job}");
    let at = |field: &str| {
        let time = job[field].as_str().context("no time")?;
        milliseconds(time).context("no RFC 3339 time")
    };
    let took = at("completed_at")?.checked_sub(at("started_at")?);
    Ok(Duration::from_millis(
        took.context("it ended before it began")?,
    ))
}

/// Milliseconds of the day; a job across midnight UTC ends the run with an error.
fn milliseconds(time: &str) -> Option<u64> {
    let (_, clock) = time.trim_end_matches('Z').split_once('T')?;
    let mut parts = clock.split([':', '.']);
    let mut next = || parts.next()?.parse::<u64>().ok();
    Some(((next()? * 60 + next()?) * 60 + next()?) * 1_000 + next()?)
}

fn a_worker_ran(fleet: &Fleet, job: &Value) -> Result<()> {
    let id = job["id"].as_str().context("no id")?;
    let log = fleet.bytes(&["jobs", "logs", id], &[])?;
    ensure!(
        String::from_utf8_lossy(&log).contains(WORKER_SAYS),
        "the worker did not speak"
    );
    Ok(())
}
