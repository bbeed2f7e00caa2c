//! A queue and a daemon as processes of their own that can be killed and started again on
//! their data, and the command line as their client.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Options;
use super::plan::{Case, Change, Engine, Kind, Size};
use super::processes::{self, Process};

/// Long enough for anything that is not broken, on a machine with other things to do.
pub const LONG: Duration = Duration::from_secs(180);
/// How long a role is waited for at the instant of its kill.
const ROLE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

/// The first `Some` of `probe` within `limit`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        ensure!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(POLL);
    }
}

/// Everything of a fleet lies in one directory.
pub struct Fleet {
    options: Options,
    dir: PathBuf,
    port: u16,
    queue: Option<Child>,
    daemon: Option<Child>,
    pushed: HashSet<(Engine, Size, u32)>,
    retained: HashSet<String>,
}

impl Fleet {
    /// A queue that answers and a daemon with one slot.
    pub fn start(options: &Options, dir: &Path) -> Result<Self> {
        for directory in ["home", "marks"] {
            std::fs::create_dir_all(dir.join(directory))?;
        }
        let mut fleet = Self {
            options: options.clone(),
            dir: dir.canonicalize()?,
            port: free_port()?,
            queue: None,
            daemon: None,
            pushed: HashSet::new(),
            retained: HashSet::new(),
        };
        fleet.start_queue()?;
        let key = fleet.json(&["keys", "create", "one"])?;
        let key = key["key"].as_str().context("no key was printed")?;
        std::fs::write(fleet.dir.join("key"), key)?;
        fleet.start_daemon()?;
        Ok(fleet)
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the daemon keeps its jobs.
    pub fn jobs(&self) -> PathBuf {
        self.dir.join("d/daemon-one/jobs")
    }

    /// The marks of a workspace.
    pub fn marks(&self, workspace: &str) -> PathBuf {
        self.dir.join("marks").join(workspace)
    }

    fn command(&self) -> Command {
        let engines = [Some(&self.options.terraform), self.options.tofu.as_ref()];
        let bins = engines
            .into_iter()
            .flatten()
            .filter_map(|path| path.parent());
        let mut path: Vec<PathBuf> = bins.map(Path::to_owned).collect();
        path.extend(["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from));
        let mut command = Command::new(&self.options.binary);
        command
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap_or_default())
            .env("HOME", self.dir.join("home"))
            .env("NO_COLOR", "1")
            .env(
                "PROVISIONERD_URL",
                format!("http://127.0.0.1:{}", self.port),
            )
            .env("PROVISIONERD_DATA_DIR", self.dir.join("q"))
            .env(
                "PROVISIONERD_TEST_TIMINGS_DIVISOR",
                self.options.divisor.to_string(),
            )
            .current_dir(self.dir.join("home"))
            .stdin(Stdio::null());
        command
    }

    fn start_queue(&mut self) -> Result<()> {
        let mut serve = self.command();
        serve
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--http-listen", "127.0.0.1:0"]);
        self.queue = Some(self.spawn("queue", serve)?);
        wait_for("the queue answers", LONG, || {
            let asked = self.run(&["organizations", "list"])?;
            Ok(asked.status.success().then_some(()))
        })
    }

    fn start_daemon(&mut self) -> Result<()> {
        let mut start = self.command();
        let marks = format!("{}:rw", self.dir.join("marks").display());
        start
            .args(["start", "--name", "one", "--mirrors-only", "--bind", &marks])
            .arg("--key-file")
            .arg(self.dir.join("key"))
            .arg("--provider-mirror")
            .arg(&self.options.mirror)
            .arg("--data-dir")
            .arg(self.dir.join("d"));
        self.daemon = Some(self.spawn("daemon", start)?);
        Ok(())
    }

    fn spawn(&self, name: &str, mut command: Command) -> Result<Child> {
        let log = self.dir.join(format!("{name}.log"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        child.with_context(|| format!("start {}", self.options.binary.display()))
    }

    /// Runs a client command to its end.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        let mut client = self.command();
        Ok(client
            .args(words)
            .args(["--output", "json", "-q"])
            .output()?)
    }

    /// The document of a client command, which may also tell of a job that failed.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let output = self.run(words)?;
        let read = serde_json::from_slice(&output.stdout);
        let read = read.ok().filter(|_| output.status.success());
        read.with_context(|| {
            let said = [&output.stdout[..], &output.stderr[..]].concat();
            format!("{words:?}: {}", String::from_utf8_lossy(&said))
        })
    }

    /// Where the store's rows are.
    pub fn database(&self) -> PathBuf {
        self.dir.join("q/queue/queue.db")
    }

    /// The name of the template for this kind of build. Its first generation is active; of
    /// the second there is one, too, when the case needs it.
    pub fn template(&mut self, case: &Case) -> Result<String> {
        let name = format!("{}-{}", case.engine.name(), case.size.kib());
        self.generation(&name, case, 1)?;
        if case.change == Change::Replace {
            self.generation(&name, case, 2)?;
        }
        self.promote(&name, 1)?;
        Ok(name)
    }

    /// Makes another generation the active one.
    pub fn promote(&self, template: &str, generation: u32) -> Result<()> {
        let version = generation.to_string();
        self.json(&["templates", "promote", template, &version])?;
        Ok(())
    }

    /// Pushed when it is needed first.
    fn generation(&mut self, name: &str, case: &Case, generation: u32) -> Result<()> {
        if self.pushed.insert((case.engine, case.size, generation)) {
            let template = self.options.template.display().to_string();
            let marks = format!("marks={}", self.dir.join("marks").display());
            let kib = format!("kib={}", case.size.kib());
            let generation = format!("generation={generation}");
            let push = ["templates", "push", name, "-d", &template, "--engine"];
            let engine = [case.engine.name()];
            let variables = [&marks, &kib, &generation];
            let variables = variables.into_iter().flat_map(|it| ["--variable", it]);
            let line: Vec<&str> = push.into_iter().chain(engine).chain(variables).collect();
            self.json(&line)?;
        }
        Ok(())
    }

    /// SIGKILL to what the case names, as soon as it is there. `None` when the job has
    /// ended before.
    pub fn kill(
        &mut self,
        kind: Kind,
        ended: impl Fn(&Self) -> Result<bool>,
    ) -> Result<Option<Instant>> {
        let daemon = self.daemon.as_ref().context("no daemon")?.id();
        match kind {
            Kind::Worker => self.kill_role(daemon, &ended, |it| it.is("worker")),
            Kind::Supervisor => self.kill_role(daemon, &ended, |it| it.is("supervise")),
            Kind::Engine => self.kill_role(daemon, &ended, Process::is_engine),
            Kind::Daemon | Kind::Queue | Kind::DaemonAndQueue | Kind::Tree => {
                let below = match kind {
                    Kind::Tree => processes::descendants(daemon),
                    _ => Vec::new(),
                };
                let at = Instant::now();
                if kind != Kind::Queue {
                    end(&mut self.daemon)?;
                }
                if matches!(kind, Kind::Queue | Kind::DaemonAndQueue) {
                    end(&mut self.queue)?;
                }
                below.iter().try_for_each(Process::kill)?;
                Ok(Some(at))
            }
        }
    }

    fn kill_role(
        &self,
        daemon: u32,
        ended: &impl Fn(&Self) -> Result<bool>,
        wanted: impl Fn(&Process) -> bool,
    ) -> Result<Option<Instant>> {
        let start = Instant::now();
        loop {
            // The first one: what a supervisor has just forked has its name for a moment.
            let below = processes::descendants(daemon);
            if let Some(found) = below.iter().find(|process| wanted(process)) {
                found.kill()?;
                return Ok(Some(Instant::now()));
            }
            if start.elapsed() > ROLE && ended(self)? {
                return Ok(None);
            }
            ensure!(start.elapsed() < LONG, "nobody plays the role to kill");
            std::thread::sleep(POLL / 4);
        }
    }

    /// Starts again what was killed.
    pub fn revive(&mut self) -> Result<()> {
        if self.queue.is_none() {
            self.start_queue()?;
        }
        if self.daemon.is_none() {
            self.start_daemon()?;
        }
        Ok(())
    }

    /// Processes, control groups and files that are there although no job is.
    pub fn left(&self, job: &str) -> Vec<String> {
        let roles = [&self.queue, &self.daemon];
        let known: Vec<u32> = roles.into_iter().flatten().map(Child::id).collect();
        let mut left = processes::left(&self.dir, &known);
        left.extend(processes::groups(job));
        let files = std::fs::read_dir(self.jobs())
            .into_iter()
            .flatten()
            .flatten();
        left.extend(files.map(|entry| format!("file {}", entry.path().display())));
        left
    }

    /// Directories that were kept for a person since the last time.
    pub fn newly_retained(&mut self) -> Vec<String> {
        let place = self.dir.join("d/daemon-one/retained");
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path().display().to_string());
        paths
            .filter(|path| self.retained.insert(path.clone()))
            .collect()
    }

    /// Whether queue and daemon still live.
    pub fn check_alive(&mut self) -> Result<()> {
        for (name, role) in [("queue", &mut self.queue), ("daemon", &mut self.daemon)] {
            let child = role.as_mut().with_context(|| format!("no {name}"))?;
            if let Some(status) = child.try_wait()? {
                bail!("the {name} ended by itself: {status}");
            }
        }
        Ok(())
    }

    /// Ends all and removes the directory.
    pub fn end_and_remove(self) {
        let dir = self.dir.clone();
        drop(self);
        // A directory that stays is no harm.
        let _ = std::fs::remove_dir_all(dir);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            let _ = end(&mut self.queue);
            return;
        };
        // An orderly end leaves no supervisor behind.
        let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap_or_default());
        let _ = kill(pid, Signal::SIGINT);
        let gone = wait_for("the daemon ends", Duration::from_secs(20), || {
            Ok(daemon.try_wait()?)
        });
        if gone.is_err() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = end(&mut self.queue);
    }
}

fn end(role: &mut Option<Child>) -> Result<()> {
    if let Some(mut child) = role.take() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}
