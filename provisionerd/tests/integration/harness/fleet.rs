//! A queue in a directory of its own, daemons that work for it, commands that ask it.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::cli::Ran;
use super::left::{descendants, wait_for_nothing};
use super::postgres::Port;
use super::process::{Process, command};
use super::tools::Tools;
use super::wait::{LONG, wait_for};

/// The queue and everything around it. Daemons end before it does.
pub struct Fleet {
    /// Engines and mirrors that daemons get.
    pub tools: Tools,
    /// gRPC address.
    pub url: String,
    /// None when replicas serve this fleet.
    queue: Option<Process>,
    /// Of the queue, also while it is away.
    _port: Option<Port>,
    dir: TempDir,
    waits: Waits,
}

/// How long the waits of queue and daemons are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// As promised.
    Whole,
    /// A quarter of that, for tests that wait for graces, leases and silences.
    Short,
}

impl Waits {
    pub(super) fn apply(self, command: &mut Command) {
        if self == Self::Short {
            command.env("PROVISIONERD_TEST_TIMINGS_DIVISOR", "4");
        }
    }
}

impl Fleet {
    /// A queue that answers, on free ports.
    pub fn start() -> Self {
        Self::with(Waits::Whole)
    }

    /// The same with other waits.
    pub fn with(waits: Waits) -> Self {
        Self::over(Self::directory(), waits)
    }

    /// The same in a directory of the test's.
    pub fn on(dir: TempDir) -> Self {
        Self::over(dir, Waits::Whole)
    }

    fn over(dir: TempDir, waits: Waits) -> Self {
        let port = Port::keep();
        let address = format!("127.0.0.1:{}", port.number());
        let mut queue = Self::serve(dir.path(), &address, waits, |_| {});
        let url = queue.announced("queue: ", LONG);
        Self {
            tools: Tools::find(),
            url,
            queue: Some(queue),
            _port: Some(port),
            dir,
            waits,
        }
    }

    /// The same around a queue that somebody else runs.
    pub fn around(dir: TempDir, url: &str, waits: Waits) -> Self {
        Self {
            tools: Tools::find(),
            url: url.to_owned(),
            queue: None,
            _port: None,
            dir,
            waits,
        }
    }

    /// A directory for a fleet: the way of a job's TMPDIR below a daemon's directory is
    /// short enough in it.
    pub fn directory() -> TempDir {
        let dir = tempfile::Builder::new().prefix("pd").tempdir();
        dir.expect("directory of the fleet")
    }

    fn queue(&self) -> &Process {
        self.queue.as_ref().expect("a queue of its own")
    }

    /// A signal to the queue.
    pub fn signal_queue(&self, signal: Signal) {
        self.queue().signal(signal);
    }

    /// SIGKILL to the queue, and a new one on the same data and address.
    pub fn restart_queue(&mut self) {
        self.kill_queue();
        self.start_queue();
    }

    /// SIGKILL to the queue.
    pub fn kill_queue(&mut self) {
        self.queue.as_mut().expect("a queue of its own").kill();
    }

    /// A new queue on the data and the address of one that is gone.
    pub fn start_queue(&mut self) {
        self.start_queue_with(|_| {});
    }

    /// The same, with more arguments or variables.
    pub fn start_queue_with(&mut self, more: impl FnOnce(&mut Command)) {
        let address = self.url.trim_start_matches("http://").to_owned();
        self.queue = Some(Self::serve(self.dir.path(), &address, self.waits, more));
        wait_for("the queue answers again", LONG, || {
            let ran = self.run(&["jobs", "list", "--output", "json"]);
            (ran.code == 0).then_some(())
        });
    }

    fn serve(dir: &Path, listen: &str, waits: Waits, more: impl FnOnce(&mut Command)) -> Process {
        let mut serve = command(dir);
        waits.apply(&mut serve);
        serve
            .args(["serve", "--listen", listen, "--http-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir.join("q"));
        more(&mut serve);
        Process::start("queue", dir, serve)
    }

    /// Memory of the queue, see [`Process::anonymous_kib`].
    pub fn queue_kib(&self) -> u64 {
        self.queue().anonymous_kib()
    }

    /// Arguments of all processes below the queue.
    pub fn below_queue(&self) -> Vec<Vec<String>> {
        let below = descendants(self.queue().pid().as_raw()).into_iter();
        below.map(|process| process.argv).collect()
    }

    /// Where everything of this fleet lies.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A client command, run to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut client = command(self.dir());
        client
            .args(arguments)
            .env("PROVISIONERD_URL", &self.url)
            .env("PROVISIONERD_DATA_DIR", self.dir().join("q"));
        let output = client.output().expect("the binary starts");
        Ran::new(arguments.join(" "), &output)
    }

    /// The document of a command that must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let line = [arguments, &["--output", "json"]].concat();
        self.run(&line).exits(0).json()
    }

    /// Pushes a template and waits for its import.
    #[track_caller]
    pub fn push(&self, name: &str, directory: &Path, more: &[&str]) -> Ran {
        let directory = directory.to_str().expect("invariant: test paths are text");
        let line = [
            "templates",
            "push",
            name,
            "-d",
            directory,
            "--output",
            "json",
        ];
        self.run(&[&line, more].concat())
    }

    /// A daemon with one slot, the tests' engine and mirrors, and no registry.
    pub fn daemon(&self, name: &str, more: &[&str]) -> Daemon {
        self.daemon_by(&self.url, name, more)
    }

    /// The same, with a way of its own to the queue.
    pub fn daemon_by(&self, url: &str, name: &str, more: &[&str]) -> Daemon {
        let key = self.key(name, more);
        self.begin(name, self.command(url, name, &key, more))
    }

    /// A daemon that is gone, again on its directory and with its key.
    pub fn again(&self, name: &str, more: &[&str]) -> Daemon {
        self.again_by(&self.url, name, more)
    }

    /// The same, with a way of its own to the queue.
    pub fn again_by(&self, url: &str, name: &str, more: &[&str]) -> Daemon {
        let key = self.dir().join(format!("{name}.key"));
        self.begin(name, self.command(url, name, &key, more))
    }

    fn command(&self, url: &str, name: &str, key: &Path, more: &[&str]) -> Command {
        let mut start = command(self.dir());
        self.waits.apply(&mut start);
        start
            .args(["start", "--url", url, "--name", name])
            .args(["--mirrors-only", "--key-file"])
            .arg(key)
            .arg("--data-dir")
            .arg(self.dir().join("d"));
        if !more.contains(&"--engine") {
            start.arg("--engine").arg(self.tools.engine());
        }
        for mirror in &self.tools.mirrors {
            start.arg("--provider-mirror").arg(mirror);
        }
        start.args(more);
        start
    }

    fn begin(&self, name: &str, start: Command) -> Daemon {
        let process = Process::start(name, self.dir(), start);
        wait_for("the daemon is seen by the queue", LONG, || {
            let daemons = self.run(&["daemons", "list", "--output", "json"]);
            let known = daemons.json();
            let known = known.as_array()?.clone();
            known.into_iter().find(|daemon| daemon["name"] == name)
        });
        let directory = self.dir().join(format!("d/daemon-{name}"));
        Daemon { process, directory }
    }

    /// Waits until neither file, process nor control group of any job of `daemon` is left.
    pub fn assert_nothing_left(&self, daemon: &mut Daemon) {
        let jobs = self.json(&["jobs", "list", "--limit", "1000"]);
        let ids = jobs.as_array().into_iter().flatten();
        let ids: Vec<String> = ids
            .filter_map(|job| Some(job["id"].as_str()?.to_owned()))
            .collect();
        let alive = (!daemon.process.is_gone()).then(|| daemon.process.pid().as_raw());
        wait_for_nothing(&daemon.directory, alive, &ids);
    }

    /// A key with the tags that stand in the daemon's arguments.
    fn key(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let tags = arguments
            .windows(2)
            .filter(|pair| pair[0] == "--tag")
            .flat_map(<[&str]>::to_vec);
        let line: Vec<&str> = ["keys", "create", name].into_iter().chain(tags).collect();
        let made = self.json(&line);
        let path = self.dir().join(format!("{name}.key"));
        let key = made["key"].as_str().expect("keys create prints the key");
        std::fs::write(&path, key).expect("key file");
        path
    }

    /// Starts the first build of a workspace and returns its job.
    #[track_caller]
    pub fn create(&self, workspace: &str, of: &str) -> String {
        let line = [
            "workspaces",
            "create",
            workspace,
            "--template",
            of,
            "--no-wait",
        ];
        let made = self.json(&line);
        made["job"]["id"].as_str().expect("id").to_owned()
    }

    /// A job as `jobs show` prints it.
    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.json(&["jobs", "show", id])
    }

    /// The job once `reached` says so.
    pub fn job_when(&self, id: &str, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("job {what}"), LONG, || {
            let job = self.job(id);
            reached(&job).then_some(job)
        })
    }

    /// The job once it has ended.
    pub fn ended(&self, id: &str) -> Value {
        self.job_when(id, "ends", |job| {
            ["succeeded", "failed", "canceled"].contains(&job["status"].as_str().unwrap_or(""))
        })
    }

    /// Addresses of the managed instances in a workspace's state.
    #[track_caller]
    pub fn instances(&self, workspace: &str) -> Vec<String> {
        instances(&self.run(&["state", "pull", workspace]).exits(0).json())
    }

    /// Texts of all log lines of a job, in order.
    #[track_caller]
    pub fn log(&self, job: &str) -> Vec<String> {
        let lines = self.lines(job);
        let texts = lines.iter().map(|line| line["text"].as_str());
        texts
            .map(|text| text.unwrap_or_default().to_owned())
            .collect()
    }

    /// Waits for a line of a job's log that contains `text`.
    pub fn says(&self, job: &str, text: &str) {
        wait_for(&format!("the job says \"{text}\""), LONG, || {
            let log = self.log(job);
            log.iter().any(|line| line.contains(text)).then_some(())
        });
    }

    /// Waits until each of so many resources named `slow` ticks: one that does exists.
    pub fn all_under_way(&self, job: &str, resources: usize) {
        wait_for("all resources are under way", LONG, || {
            let log = self.log(job);
            let ticks = |index| {
                let name = format!("slow[{index}]");
                log.iter()
                    .any(|line| line.contains(&name) && line.contains("tick 2"))
            };
            (0..resources).all(ticks).then_some(())
        });
    }

    /// All log lines of a job as `jobs logs` prints them.
    #[track_caller]
    pub fn lines(&self, job: &str) -> Vec<Value> {
        let ran = self
            .run(&["jobs", "logs", job, "--output", "json"])
            .exits(0);
        let parse = |line| serde_json::from_str(line).expect("a log line is JSON");
        ran.stdout.lines().map(parse).collect()
    }
}

/// A daemon of the fleet.
pub struct Daemon {
    /// Its process.
    pub process: Process,
    /// Its own directory.
    pub directory: PathBuf,
}

impl Daemon {
    /// The directories of a job's attempts that are here.
    pub fn attempts(&self, job: &str) -> Vec<PathBuf> {
        let digits: String = job.chars().filter(char::is_ascii_hexdigit).collect();
        let name = &digits[digits.len() - 8..];
        let jobs = std::fs::read_dir(self.directory.join("jobs")).expect("jobs");
        let own = jobs.flatten().map(|entry| entry.path()).filter(|path| {
            let file_name = path.file_name().unwrap_or_default();
            file_name.to_string_lossy().starts_with(name)
        });
        own.collect()
    }

    /// The one process below it with this role: `supervise`, `worker`.
    pub fn role(&self, role: &str) -> i32 {
        let what = format!("a {role} below the daemon");
        wait_for(&what, LONG, || {
            let below = descendants(self.process.pid().as_raw());
            below.iter().find(|p| p.is(role)).map(|p| p.pid)
        })
    }
}

/// What the commands of a build printed, without white space: an engine that waits for the
/// rest of a line for 100 ms prints it in two pieces.
pub fn printed(log: &[String]) -> String {
    let said = log.iter().filter_map(|line| {
        let (_, said) = line.split_once("(local-exec): ")?;
        (!said.starts_with("Executing: ")).then_some(said)
    });
    said.flat_map(str::split_whitespace).collect()
}

fn instances(state: &Value) -> Vec<String> {
    let none = Vec::new();
    let resources = state["resources"].as_array().unwrap_or(&none);
    let managed = resources.iter().filter(|r| r["mode"] == "managed");
    let mut addresses: Vec<String> = managed
        .flat_map(|resource| {
            let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
            let module = resource["module"].as_str().map(|m| format!("{m}."));
            let base = format!(
                "{}{}.{}",
                module.unwrap_or_default(),
                text("type"),
                text("name")
            );
            let list = resource["instances"].as_array().unwrap_or(&none).clone();
            list.into_iter()
                .map(move |instance| match &instance["index_key"] {
                    Value::Null => base.clone(),
                    key => format!("{base}[{key}]"),
                })
        })
        .collect();
    addresses.sort();
    addresses
}
