//! From the request of a cancel to the engine's SIGINT, as the engine tells it, while it
//! prints without a break; and a cancel by force of one that ignores its interrupt.
//!
//! The scripted engine stamps the arrival with the clock that the request is stamped with:
//! queue, daemon and engine share this host.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use benches::cut::case::What;
use benches::cut::fleet::{Fleet, LONG, wait_for};
use benches::cut::{self, scripted_engine};
use proto::v1::CancelJobRequest;
use serde_json::{Value, json};

use crate::probe;
use crate::sim::Client;
use crate::stats::{Series, millis};

/// What is promised at the 99th percentile.
const PROMISE: Duration = Duration::from_millis(100);
/// SIGINT to SIGKILL of a cancel by force.
const FORCE_GRACE: Duration = Duration::from_secs(5);
/// For everything that follows the kill: state, finish, verdict.
const ENDING: Duration = Duration::from_secs(3);

/// How much to measure.
#[derive(clap::Args)]
pub struct Args {
    /// The product's binary, built with `--release`.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// The directory `testdata`.
    #[arg(long, default_value = "testdata")]
    testdata: PathBuf,
    /// Cancels in an apply.
    #[arg(long, default_value_t = 200)]
    cancels: usize,
    /// Cancels by force.
    #[arg(long, default_value_t = 5)]
    forced: usize,
    /// Milliseconds between two lines of the engine.
    #[arg(long, default_value_t = 20)]
    pace: u32,
}

/// Runs the measurement; how many promises were broken.
pub async fn run(args: &Args) -> Result<(Value, usize)> {
    let tools = tempfile::tempdir()?;
    let testdata = args.testdata.canonicalize()?;
    let engine = scripted_engine(&testdata, tools.path())?;
    let options = cut::Options {
        binary: args.binary.canonicalize().context("binary")?,
        engine: engine.clone(),
        testdata,
        divisor: 1,
        lease: None,
        lanes: 1,
    };
    let fleet = tokio::task::block_in_place(|| Fleet::start(&options, What::Daemon, &engine))?;
    let token = std::fs::read_to_string(fleet.dir().join("q/admin.token"))?;
    let bench = Bench {
        client: Client::connect(&fleet.url(), token.trim()).await?,
        fleet,
        made: Cell::default(),
    };
    let pace = args.pace;
    let made = "made a.one 1\nstate 7\n";
    bench.push(
        "talks",
        &format!("[apply]\nstamp INT 1\n{made}stream {pace} steady\nwait NEVER\n"),
    )?;
    bench.push(
        "ignores",
        &format!("[apply]\nignore INT\n{made}stream {pace} steady\nwait NEVER\n"),
    )?;
    let mut interrupted = Series::default();
    for _ in 0..args.cancels {
        interrupted.push(bench.cancel().await?);
    }
    let mut forced = Series::default();
    for _ in 0..args.forced {
        forced.push(bench.force().await?);
    }
    let mut client = bench.client.clone();
    let echo = probe::echo(&mut client, 1_000).await?;
    let late = interrupted.quantile(0.99);
    let broken =
        usize::from(late > PROMISE) + usize::from(forced.quantile(1.0) > FORCE_GRACE + ENDING);
    eprintln!(
        "cancel: request to SIGINT p50 {} ms, p99 {} ms; echo p50 {} ms; by force, to the verdict, longest {} ms",
        millis(interrupted.quantile(0.5)),
        millis(late),
        millis(echo.quantile(0.5)),
        millis(forced.quantile(1.0)),
    );
    let document = json!({
        "bench": "cancel",
        "line_every_ms": args.pace,
        "request_to_sigint": interrupted.summary(),
        "promised_p99_ms": millis(PROMISE),
        "force_to_verdict": forced.summary(),
        "probe_grpc_echo": echo.summary(),
        "broken": broken,
    });
    Ok((document, broken))
}

struct Bench {
    client: Client,
    fleet: Fleet,
    made: Cell<usize>,
}

impl Bench {
    fn push(&self, name: &str, script: &str) -> Result<()> {
        let template = self.fleet.dir().join(name);
        std::fs::create_dir(&template)?;
        std::fs::write(template.join("main.tf"), "")?;
        std::fs::write(template.join("engine.script"), script)?;
        let template = template.to_str().context("path is not UTF-8")?;
        self.fleet
            .json(&["templates", "push", name, "-d", template])?;
        Ok(())
    }

    /// A build in its apply, printing; its workspace and its job.
    fn begin(&self, template: &str) -> Result<(String, String)> {
        let number = self.made.get() + 1;
        self.made.set(number);
        let name = format!("w{number}");
        let create = [
            "workspaces",
            "create",
            &name,
            "--template",
            template,
            "--no-wait",
        ];
        let made = self.fleet.json(&create)?;
        let job = made["job"]["id"].as_str().context("no job")?.to_owned();
        wait_for("the engine prints", LONG, || {
            let log = self.fleet.log(&job)?;
            Ok(log
                .iter()
                .any(|(_, text)| text == "steady 10")
                .then_some(()))
        })?;
        Ok((name, job))
    }

    async fn ask(&self, job: &str, force: bool) -> Result<SystemTime> {
        let mut client = self.client.clone();
        let request = CancelJobRequest {
            id: job.to_owned(),
            force,
        };
        let asked = SystemTime::now();
        client.management.cancel_job(request).await?;
        Ok(asked)
    }

    async fn cancel(&self) -> Result<Duration> {
        let (_, job) = tokio::task::block_in_place(|| self.begin("talks"))?;
        let asked = self.ask(&job, false).await?;
        tokio::task::block_in_place(|| self.ended(&job))?;
        let log = self.fleet.log(&job)?;
        let stamps: Vec<&str> = log
            .iter()
            .filter_map(|(_, text)| text.strip_prefix("signal INT at "))
            .collect();
        ensure!(stamps.len() == 1, "one interrupt was due: {stamps:?}");
        let arrived = Duration::from_secs_f64(stamps[0].parse()?);
        let asked = asked.duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(arrived.saturating_sub(asked))
    }

    /// To the verdict; what was saved is there.
    async fn force(&self) -> Result<Duration> {
        let (workspace, job) = tokio::task::block_in_place(|| self.begin("ignores"))?;
        let since = Instant::now();
        self.ask(&job, true).await?;
        tokio::task::block_in_place(|| self.ended(&job))?;
        let took = since.elapsed();
        let state = self.fleet.json(&["state", "pull", &workspace])?;
        ensure!(state["serial"] == 7, "the last checkpoint: {state}");
        self.fleet.nothing_left()?;
        Ok(took)
    }

    fn ended(&self, job: &str) -> Result<()> {
        let ended = wait_for("the job ends", LONG, || {
            let job = self.fleet.job(job)?;
            let status = job["status"].as_str().unwrap_or_default();
            Ok(["succeeded", "failed", "canceled"]
                .contains(&status)
                .then_some(job))
        })?;
        ensure!(ended["status"] == "canceled", "{ended:#}");
        Ok(())
    }
}
