//! How long until a death is noticed: before the gate until the job is in a daemon's hands
//! again, after it until the queue shows it and until the verdict. Whole waits, real
//! processes; two hundred deaths at once are simulated daemons of [`crate::dead`].

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use benches::cut::case::What;
use benches::cut::fleet::{Fleet, LONG, ONE, wait_for};
use benches::cut::{self, scripted_engine};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::dead;

/// The store's settle time, after which leases may be held against their holders.
const SETTLED: Duration = Duration::from_secs(21);
/// After a daemon's death and before its new start: longer than a quick restart.
const RESTART: Duration = Duration::from_secs(5);
const TWO: &str = "two";

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// The product's binary, built with `--release`.
    #[arg(long, default_value = "target/release/provisionerd")]
    binary: PathBuf,
    /// The directory `testdata`.
    #[arg(long, default_value = "testdata")]
    testdata: PathBuf,
    /// Each death so many times.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Simulated daemons that die at once.
    #[arg(long, default_value_t = 200)]
    crowd: usize,
}

/// Who dies, and how.
#[derive(Debug, Clone, Copy)]
enum Death {
    Worker,
    Supervisor,
    Daemon,
    /// Daemon and everything below it stand still, as on a host that is gone.
    Host,
}

impl Death {
    fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Supervisor => "supervisor",
            Self::Daemon => "daemon",
            Self::Host => "silent host",
        }
    }

    /// What the specification promises before the gate.
    fn promise(self) -> Duration {
        match self {
            Self::Worker | Self::Supervisor | Self::Daemon => Duration::from_secs(5),
            Self::Host => Duration::from_secs(15),
        }
    }
}

/// Figures, and what broke a promise.
#[derive(Default)]
struct Figures {
    lines: Vec<Value>,
    broken: usize,
}

impl Figures {
    fn add(&mut self, what: &str, promise: Duration, mut took: Vec<Duration>) {
        took.sort();
        let last = took.last().copied().unwrap_or_default();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        let seconds = |duration: Duration| (duration.as_secs_f64() * 100.0).round() / 100.0;
        let kept = last <= promise;
        eprintln!(
            "notice: {what}: median {} s, longest {} s of {}; promised {} s{}",
            seconds(median),
            seconds(last),
            took.len(),
            promise.as_secs(),
            if kept { "" } else { ": BROKEN" }
        );
        self.broken += usize::from(!kept);
        self.lines.push(json!({
            "what": what, "n": took.len(), "median_s": seconds(median),
            "longest_s": seconds(last), "promised_s": promise.as_secs(), "kept": kept,
        }));
    }
}

/// Measures everything; how many promises were broken.
pub async fn run(args: &Args) -> Result<(Value, usize)> {
    let mut figures = Figures::default();
    let (crowd, promise) = (args.crowd, Duration::from_secs(20));
    for how in [dead::How::Killed, dead::How::Silent] {
        let took = dead::run(crowd, how).await?;
        figures.add(
            &format!("{crowd} daemons {how}, all jobs in hands again"),
            promise,
            vec![took],
        );
    }
    tokio::task::block_in_place(|| real(args, &mut figures))?;
    let document = json!({ "bench": "notice", "figures": figures.lines, "broken": figures.broken });
    Ok((document, figures.broken))
}

fn real(args: &Args, figures: &mut Figures) -> Result<()> {
    let tools = tempfile::tempdir()?;
    let engine = scripted_engine(&args.testdata.canonicalize()?, tools.path())?;
    let options = cut::Options {
        binary: args.binary.canonicalize().context("binary")?,
        testdata: args.testdata.canonicalize()?,
        engine: engine.clone(),
        divisor: 1,
        lease: None,
        lanes: 1,
    };
    for death in [Death::Worker, Death::Supervisor, Death::Daemon, Death::Host] {
        let bench = Bench::new(&options, &engine)?;
        let took = (0..args.rounds).map(|_| bench.before_gate(death));
        let took = took.collect::<Result<_>>()?;
        figures.add(
            &format!("{} before the gate, in hands again", death.name()),
            death.promise(),
            took,
        );
    }
    let bench = Bench::new(&options, &engine)?;
    let mut unreachable = Vec::new();
    let mut verdicts = Vec::new();
    for _ in 0..args.rounds {
        let noticed = bench.after_gate()?;
        unreachable.push(noticed.unreachable);
        verdicts.push(noticed.verdict);
    }
    let promise = Duration::from_secs(15);
    figures.add(
        "host silent after the gate, unreachable_since is shown",
        promise,
        unreachable,
    );
    let promise = Duration::from_secs(2);
    figures.add("daemon back and engine ended, verdict", promise, verdicts);
    let stubborn = bench.stubborn()?;
    let promise = Duration::from_secs(80);
    figures.add(
        "daemon's death to the verdict, engine ignores its interrupt",
        promise,
        vec![stubborn],
    );
    Ok(())
}

/// A queue that has settled, two daemons, a template per phase.
struct Bench<'a> {
    fleet: Fleet,
    engine: &'a Path,
    go: PathBuf,
    made: Cell<usize>,
}

struct Noticed {
    unreachable: Duration,
    verdict: Duration,
}

impl<'a> Bench<'a> {
    fn new(options: &cut::Options, engine: &'a Path) -> Result<Self> {
        let fleet = Fleet::start(options, What::Daemon, engine)?;
        let up = Instant::now();
        let go = fleet.dir().join("go");
        let bench = Self {
            fleet,
            engine,
            go,
            made: Cell::default(),
        };
        std::fs::write(&bench.go, "")?;
        let wait = bench.go.display();
        bench.push("plan", &format!("[plan]\nlines 1 there\nwait {wait}\n"))?;
        let made = "made a.one 1\nstate 1\nlines 1 there\n";
        bench.push(
            "apply",
            &format!("[apply]\n{made}until {wait} 500 steady\n"),
        )?;
        let ignores = format!("[apply]\nignore INT\n{made}until {wait} 500 steady\n");
        bench.push("stubborn", &ignores)?;
        std::fs::remove_file(&bench.go)?;
        wait_for("the store settles", LONG, || {
            Ok((up.elapsed() > SETTLED).then_some(()))
        })?;
        Ok(bench)
    }

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

    /// A build of a template, once its engine talks.
    fn begin(&self, template: &str) -> Result<String> {
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
        wait_for("the engine talks", LONG, || {
            let log = self.fleet.log(&job)?;
            Ok(log.iter().any(|(_, text)| text == "there 1").then_some(()))
        })?;
        Ok(job)
    }

    fn before_gate(&self, death: Death) -> Result<Duration> {
        let job = self.begin("plan")?;
        self.fleet.start_daemon(TWO, self.engine)?;
        let since = Instant::now();
        let stopped = self.kill(death)?;
        let again = wait_for("the job runs again", LONG, || {
            let job = self.fleet.job(&job)?;
            let runs = job["attempt"] == 2 && job["status"] == "running";
            Ok(runs.then(|| since.elapsed()))
        })?;
        std::fs::write(&self.go, "")?;
        each(&stopped, Signal::SIGCONT);
        if matches!(death, Death::Daemon) {
            self.fleet.start_daemon(ONE, self.engine)?;
        }
        let ended = self.ended(&job)?;
        ensure!(ended["status"] == "succeeded", "{ended:#}");
        self.fleet.nothing_left()?;
        self.fleet.end_daemon(TWO)?;
        std::fs::remove_file(&self.go)?;
        Ok(again)
    }

    fn kill(&self, death: Death) -> Result<Vec<i32>> {
        let role = match death {
            Death::Worker => self.fleet.role(ONE, "worker")?,
            Death::Supervisor => self.fleet.role(ONE, "supervise")?,
            Death::Daemon => {
                self.fleet.kill_daemon(ONE)?;
                return Ok(Vec::new());
            }
            Death::Host => {
                let below = self.fleet.below(ONE)?.into_iter().map(|it| it.pid);
                let host: Vec<i32> = [self.fleet.pid(ONE)?].into_iter().chain(below).collect();
                each(&host, Signal::SIGSTOP);
                return Ok(host);
            }
        };
        each(&[role], Signal::SIGKILL);
        Ok(Vec::new())
    }

    /// A host that stands still in an apply; then its daemon dies, comes back, and gives
    /// the verdict.
    fn after_gate(&self) -> Result<Noticed> {
        let job = self.begin("apply")?;
        let since = Instant::now();
        let stopped = self.kill(Death::Host)?;
        let unreachable = wait_for("it is unreachable", LONG, || {
            let job = self.fleet.job(&job)?;
            Ok((!job["unreachable_since"].is_null()).then(|| since.elapsed()))
        })?;
        each(&stopped, Signal::SIGCONT);
        wait_for("it is reachable", LONG, || {
            let job = self.fleet.job(&job)?;
            Ok(job["unreachable_since"].is_null().then_some(()))
        })?;
        let below: Vec<i32> = self.fleet.below(ONE)?.iter().map(|it| it.pid).collect();
        self.fleet.kill_daemon(ONE)?;
        let ended = gone(&below)?;
        let dead = Instant::now();
        wait_for("a while", LONG, || {
            Ok((dead.elapsed() > RESTART).then_some(()))
        })?;
        let started = Instant::now();
        self.fleet.start_daemon(ONE, self.engine)?;
        let job = self.ended(&job)?;
        ensure!(job["error"]["code"] == "DAEMON_RESTARTED", "{job:#}");
        // Its start counts to the two seconds: they run from when it can do something.
        let verdict = ended.max(started).elapsed();
        self.fleet.nothing_left()?;
        Ok(Noticed {
            unreachable,
            verdict,
        })
    }

    /// From the death of a daemon, at once started again, whose engine has to be killed.
    fn stubborn(&self) -> Result<Duration> {
        let job = self.begin("stubborn")?;
        let since = Instant::now();
        self.fleet.kill_daemon(ONE)?;
        self.fleet.start_daemon(ONE, self.engine)?;
        let job = self.ended(&job)?;
        ensure!(job["status"] == "failed", "{job:#}");
        Ok(since.elapsed())
    }

    fn ended(&self, job: &str) -> Result<Value> {
        wait_for("the job ends", LONG, || {
            let job = self.fleet.job(job)?;
            let status = job["status"].as_str().unwrap_or_default();
            Ok(["succeeded", "failed", "canceled"]
                .contains(&status)
                .then_some(job))
        })
    }
}

fn each(processes: &[i32], signal: Signal) {
    for process in processes {
        // One that ended meanwhile needs none.
        let _ = kill(Pid::from_raw(*process), signal);
    }
}

/// When the last of them was gone.
fn gone(processes: &[i32]) -> Result<Instant> {
    wait_for("the job's processes end", LONG, || {
        let lives = |pid: &i32| Path::new(&format!("/proc/{pid}")).exists();
        Ok((!processes.iter().any(lives)).then(Instant::now))
    })
}
