//! A real daemon over mTLS: idle, then with 16 builds whose engine goes on and on. Its
//! supervisors and workers are told apart: they are not the daemon's memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use benches::cut::scripted_engine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::v1::{GetJobRequest, JobStatus};
use serde_json::json;

use super::report::{Row, Verdict};
use super::store::Statements;
use super::usage::{self, children};
use super::work::archive;
use super::world::{self, Run, World};
use crate::fleet::anonymous_kib;
use crate::peaks::role;
use crate::sim::Client;

/// Promised of an idle one, and of it for each running job, in KiB.
const IDLE_KIB: u64 = 15 * 1024;
const JOB_KIB: f64 = 2.0 * 1024.0;
/// What "no CPU" means: a thousandth of a core.
const IDLE_CORE: f64 = 0.001;
const JOBS: usize = 16;
/// After its start, and after the last job began.
const SETTLED: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(120);
/// A line a second of each engine until it is interrupted.
const SCRIPT: &str = "[apply]\nmade a.one 1\nstate 7\nuntil NEVER 1000 steady\n";

/// Measures both.
pub async fn run(run: &Run<'_>) -> Result<Vec<Row>> {
    let world = World::empty(run, 1, Statements::Uncounted).await?;
    let tools = tempfile::tempdir()?;
    let engine = scripted_engine(&run.args.testdata.canonicalize()?, tools.path())?;
    let daemon = Daemon::start(run, &world, &engine)?;
    let mut client = world.client()?;
    let template = archive(&[("main.tf", ""), ("engine.script", SCRIPT)])?;
    let blob = client.upload(&template).await?;
    let import = client.push("slow", &blob, &world::pool()).await?;
    until(&mut client, &import, JobStatus::Succeeded).await?;
    tokio::time::sleep(SETTLED).await;

    let window = run.args.window(60);
    let (start, cpu) = (Instant::now(), usage::cpu(daemon.pid()));
    tokio::time::sleep(window).await;
    let cpu = usage::cpu(daemon.pid()).saturating_sub(cpu);
    let core = cpu.as_secs_f64() / start.elapsed().as_secs_f64();
    let idle = anonymous_kib(daemon.pid());

    for number in 0..JOBS {
        let job = client
            .create(&format!("slow-{number}"), "owner", "slow")
            .await?;
        until(&mut client, &job, JobStatus::Running).await?;
    }
    daemon.until_engines(JOBS).await?;
    tokio::time::sleep(SETTLED).await;
    let (start, cpu) = (Instant::now(), usage::cpu(daemon.pid()));
    tokio::time::sleep(window / 2).await;
    let busy_cpu = usage::cpu(daemon.pid()).saturating_sub(cpu);
    let busy_core = busy_cpu.as_secs_f64() / start.elapsed().as_secs_f64();
    let busy = anonymous_kib(daemon.pid());
    let others = daemon.below();
    #[allow(clippy::cast_precision_loss)]
    let each = busy.saturating_sub(idle) as f64 / JOBS as f64;
    let data = json!({
        "idle_kib": idle, "idle_core": core, "busy_kib": busy, "busy_core": busy_core,
        "below_kib_by_role": others, "window_s": window.as_secs(),
    });
    let others: Vec<String> = others
        .iter()
        .map(|(role, kib)| format!("{role} {} KiB", kib.iter().sum::<u64>() / kib.len() as u64))
        .collect();
    Ok(vec![
        Row {
            store: run.store,
            what: "an idle daemon".to_owned(),
            figure: format!("{idle} KiB anonymous, {:.3} % of a core", core * 100.0),
            target: format!("<= {IDLE_KIB} KiB, <= {} % of a core", IDLE_CORE * 100.0),
            verdict: Verdict::sure(idle <= IDLE_KIB && core <= IDLE_CORE),
            data,
        },
        Row {
            store: run.store,
            what: format!("the daemon with {JOBS} running jobs, for each"),
            figure: format!(
                "{each:.0} KiB more, {:.2} % of a core in all; beside it for each process: {}",
                busy_core * 100.0,
                others.join(", ")
            ),
            target: format!("<= {JOB_KIB} KiB"),
            verdict: Verdict::sure(each <= JOB_KIB),
            data: json!({ "kib_per_job": each }),
        },
    ])
}

async fn until(client: &mut Client, job: &str, wanted: JobStatus) -> Result<()> {
    let start = Instant::now();
    loop {
        let request = GetJobRequest { id: job.to_owned() };
        let view = client.management.get_job(request).await?.into_inner();
        if view.status() == wanted {
            return Ok(());
        }
        let ended = view.completed_at_ms.is_some();
        if ended || start.elapsed() > LONG {
            bail!("job {job} is {:?}: {:?}", view.status(), view.error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Its process; interrupted, and its jobs with it, at the end.
struct Daemon(Child);

impl Daemon {
    fn start(run: &Run<'_>, world: &World, engine: &Path) -> Result<Self> {
        let dir = world.dir.path();
        std::fs::write(dir.join("key"), world.key())?;
        let log = std::fs::File::create(dir.join("daemon.log"))?;
        let (key, value) = &world::pool()[0];
        let child = Command::new(run.args.binary.canonicalize()?)
            .args(["--log", "warn", "start", "--name", "real"])
            .args(["--tag", &format!("{key}={value}")])
            .args(["--slots", &JOBS.to_string()])
            .args(world.dial_flags())
            .arg("--key-file")
            .arg(dir.join("key"))
            .arg("--data-dir")
            .arg(dir.join("d"))
            .arg("--engine")
            .arg(engine)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self(child))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Anonymous memory in KiB of everything below it, by role.
    fn below(&self) -> BTreeMap<String, Vec<u64>> {
        let mut roles: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut parents = vec![self.pid()];
        while let Some(parent) = parents.pop() {
            for child in children(parent) {
                roles
                    .entry(role(child))
                    .or_default()
                    .push(anonymous_kib(child));
                parents.push(child);
            }
        }
        roles
    }

    async fn until_engines(&self, count: usize) -> Result<()> {
        let start = Instant::now();
        while self.below().get("engine").map_or(0, Vec::len) < count {
            ensure!(start.elapsed() < LONG, "only {:?}", self.below());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.pid()).map(Pid::from_raw);
        let asked = pid
            .ok()
            .context("a pid")
            .map(|pid| kill(pid, Signal::SIGINT));
        let start = Instant::now();
        while asked.is_ok() && start.elapsed() < LONG / 2 {
            if let Ok(Some(_)) = self.0.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
