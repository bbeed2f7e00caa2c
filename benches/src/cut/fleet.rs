//! A queue and daemons as processes of their own, with a wire between them where the case
//! wants one, and the command line as their client.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Options;
use super::case::What;
use super::wire::{self, Wire};
use crate::postgres::{Durability, Server};

/// Long enough for anything that is not broken, on a machine with other things to do.
pub const LONG: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(100);

/// The first `Some` of `probe` within `limit`.
///
/// # Errors
/// The probe's, or that there was none.
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

/// Everything of a fleet lies in one directory, which goes with it.
pub struct Fleet {
    options: Options,
    dir: tempfile::TempDir,
    port: u16,
    wire: Option<Wire>,
    database: Option<Database>,
    queue: RefCell<Option<Child>>,
    daemons: RefCell<BTreeMap<String, Child>>,
}

/// A server of its own, so that it can be taken away.
struct Database {
    server: Server,
    is_away: Cell<bool>,
}

/// The daemon that every fleet has.
pub const ONE: &str = "one";

/// One process below the daemon.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its id.
    pub pid: i32,
    parent: i32,
    /// Its second argument: the role, of a process of the product.
    pub role: String,
}

impl Fleet {
    /// A queue that answers and a daemon that it has seen.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start(options: &Options, what: What, engine: &Path) -> Result<Self> {
        // The way of a job's TMPDIR below a daemon's directory is short enough then.
        let dir = tempfile::Builder::new().prefix("pc").tempdir()?;
        let wire = (what == What::Network).then(Wire::new).transpose()?;
        let database = (what == What::Database).then(Database::start).transpose()?;
        let fleet = Self {
            database,
            options: options.clone(),
            port: if wire.is_some() { 7080 } else { free_port()? },
            dir,
            wire,
            queue: RefCell::default(),
            daemons: RefCell::default(),
        };
        fleet.start_queue()?;
        let key = fleet.json(&["keys", "create", "fleet"])?;
        let key = key["key"].as_str().context("no key was printed")?;
        std::fs::write(fleet.dir().join("key"), key)?;
        fleet.start_daemon(ONE, engine)?;
        Ok(fleet)
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The product's binary, at its end of the wire.
    fn command(&self, inside: Option<&str>) -> Command {
        let mut command = match inside {
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.args([&format!("--net=/run/netns/{namespace}"), "--"]);
                command.arg(&self.options.binary);
                command
            }
            None => Command::new(&self.options.binary),
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir())
            .env("NO_COLOR", "1")
            .env("PROVISIONERD_DATA_DIR", self.dir().join("q"))
            .env(
                "PROVISIONERD_TEST_TIMINGS_DIVISOR",
                self.options.divisor.to_string(),
            )
            .current_dir(self.dir())
            .stdin(Stdio::null());
        command
    }

    fn at_queue(&self) -> Command {
        let mut command = self.command(self.wire.as_ref().map(|wire| wire.queue.as_str()));
        command.env(
            "PROVISIONERD_URL",
            format!("http://127.0.0.1:{}", self.port),
        );
        command
    }

    /// Starts the queue, on its data if it was there before.
    ///
    /// # Errors
    /// It does not answer.
    pub fn start_queue(&self) -> Result<()> {
        let mut serve = self.at_queue();
        // Of the namespace, which nobody else is in, or of this host's loopback.
        let host = self.wire.as_ref().map_or("127.0.0.1", |_| "0.0.0.0");
        serve.args(["serve", "--listen", &format!("{host}:{}", self.port)]);
        if self.wire.is_some() {
            serve.arg("--insecure");
        }
        if let Some(database) = &self.database {
            serve.args([
                "--blob-url",
                &format!("file://{}/blobs", self.dir().display()),
            ]);
            serve.env("PROVISIONERD_DATABASE_URL", database.url());
        }
        if let Some(lease) = self.options.lease {
            serve.args(["--lease", &lease.as_secs().to_string()]);
        }
        *self.queue.borrow_mut() = Some(self.spawn("queue", serve)?);
        self.queue_answers()
    }

    fn queue_answers(&self) -> Result<()> {
        wait_for("the queue answers", LONG, || {
            let asked = self.run(&["organizations", "list"])?;
            Ok(asked.status.success().then_some(()))
        })
    }

    /// SIGKILL to the queue.
    ///
    /// # Errors
    /// It was not there.
    pub fn kill_queue(&self) -> Result<()> {
        let mut queue = self.queue.take().context("no queue")?;
        queue.kill()?;
        queue.wait()?;
        Ok(())
    }

    /// SIGKILL to a daemon; what is below it lives on.
    ///
    /// # Errors
    /// It was not there.
    pub fn kill_daemon(&self, name: &str) -> Result<()> {
        let daemon = self.daemons.borrow_mut().remove(name);
        let mut daemon = daemon.context("no such daemon")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// SIGINT to a daemon without jobs, and its end.
    ///
    /// # Errors
    /// It does not end.
    pub fn end_daemon(&self, name: &str) -> Result<()> {
        let daemon = self.daemons.borrow_mut().remove(name);
        let mut daemon = daemon.context("no such daemon")?;
        kill(Pid::from_raw(i32::try_from(daemon.id())?), Signal::SIGINT)?;
        wait_for("the daemon ends", LONG, || {
            Ok(daemon.try_wait()?.map(|_| ()))
        })
    }

    /// The queue's address, for whoever is in its namespace.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts a daemon, on its directory if it was there before, and waits until the queue
    /// knows it.
    ///
    /// # Errors
    /// It is not seen.
    pub fn start_daemon(&self, name: &str, engine: &Path) -> Result<()> {
        let mut start = self.command(self.wire.as_ref().map(|wire| wire.daemon.as_str()));
        let host = self.wire.as_ref().map_or("127.0.0.1", |_| wire::QUEUE);
        start
            .args(["start", "--name", name, "--mirrors-only"])
            .args(["--url", &format!("http://{host}:{}", self.port)])
            .arg("--engine")
            .arg(engine)
            .arg("--key-file")
            .arg(self.dir().join("key"))
            .arg("--data-dir")
            .arg(self.dir().join("d"));
        let daemon = self.spawn(&format!("daemon-{name}"), start)?;
        self.daemons.borrow_mut().insert(name.to_owned(), daemon);
        wait_for("the daemon is seen", LONG, || {
            let seen = self.json(&["daemons", "list"])?;
            let seen = seen.as_array().into_iter().flatten();
            Ok(seen.into_iter().any(|it| it["name"] == name).then_some(()))
        })
    }

    fn spawn(&self, name: &str, mut command: Command) -> Result<Child> {
        let log = self.dir().join(format!("{name}.log"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        child.with_context(|| format!("start {}", self.options.binary.display()))
    }

    /// Runs a client command to its end, beside the queue.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        let mut client = self.at_queue();
        Ok(client
            .args(words)
            .args(["--output", "json", "-q"])
            .output()?)
    }

    /// What a client command prints.
    ///
    /// # Errors
    /// It failed.
    pub fn text(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words)?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        bail!("{words:?}: {}", String::from_utf8_lossy(&said))
    }

    /// The document of a client command.
    ///
    /// # Errors
    /// It failed.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.text(words)?)?)
    }

    /// A job as `jobs show` prints it.
    ///
    /// # Errors
    /// The queue does not answer.
    pub fn job(&self, id: &str) -> Result<Value> {
        self.json(&["jobs", "show", id])
    }

    /// Lines of a job's log: attempt and text.
    ///
    /// # Errors
    /// The queue does not answer.
    pub fn log(&self, job: &str) -> Result<Vec<(u64, String)>> {
        let text = self.text(&["jobs", "logs", job])?;
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line)?;
            let text = line["text"].as_str().unwrap_or_default().to_owned();
            Ok((line["attempt"].as_u64().unwrap_or_default(), text))
        };
        text.lines().map(line).collect()
    }

    /// Takes `what` away; what it is that was stopped.
    ///
    /// # Errors
    /// It is not there.
    pub fn take(&self, what: What) -> Result<Taken> {
        let role = match what {
            What::Network => {
                self.wire.as_ref().context("no wire")?.cut()?;
                return Ok(Taken::Wire);
            }
            What::Queue => {
                self.kill_queue()?;
                return Ok(Taken::Queue);
            }
            What::Database => {
                self.database.as_ref().context("no database")?.crash();
                return Ok(Taken::Database);
            }
            What::Daemon => return stopped(self.pid(ONE)?),
            What::Supervisor => "supervise",
            What::Worker => "worker",
        };
        stopped(self.role(ONE, role)?)
    }

    /// The one process below a daemon with this role: `supervise`, `worker`.
    ///
    /// # Errors
    /// There is none.
    pub fn role(&self, daemon: &str, role: &str) -> Result<i32> {
        wait_for(role, LONG, || {
            let below = self.below(daemon)?;
            // The deepest one: a supervisor that begins may still have its own parent.
            let found = below.into_iter().rev().find(|process| process.role == role);
            Ok(found.map(|process| process.pid))
        })
    }

    /// Gives it back.
    ///
    /// # Errors
    /// The namespaces are gone.
    pub fn give(&self, taken: &Taken) -> Result<()> {
        match taken {
            Taken::Wire => self.wire.as_ref().context("no wire")?.mend(),
            Taken::Queue => self.start_queue(),
            Taken::Database => {
                self.database.as_ref().context("no database")?.start_again();
                self.queue_answers()
            }
            Taken::Process(pid) => match kill(Pid::from_raw(*pid), Signal::SIGCONT) {
                // Killed for its silence, as it should be.
                Ok(()) | Err(Errno::ESRCH) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Of a daemon.
    ///
    /// # Errors
    /// There is no such daemon.
    pub fn pid(&self, daemon: &str) -> Result<i32> {
        let daemons = self.daemons.borrow();
        Ok(i32::try_from(
            daemons.get(daemon).context("no such daemon")?.id(),
        )?)
    }

    /// Everything below a daemon, parents before their children.
    ///
    /// # Errors
    /// There is no such daemon.
    pub fn below(&self, daemon: &str) -> Result<Vec<Seen>> {
        let mut found: Vec<Seen> = Vec::new();
        let mut next = vec![self.pid(daemon)?];
        let all = processes();
        while let Some(parent) = next.pop() {
            for child in all.iter().filter(|process| process.parent == parent) {
                next.push(child.pid);
                found.push(child.clone());
            }
        }
        Ok(found)
    }

    /// Whether an engine, or anything it started, lives.
    ///
    /// # Errors
    /// There is no daemon.
    pub fn engine_lives(&self) -> Result<bool> {
        let own = |process: &Seen| ["supervise", "worker"].contains(&process.role.as_str());
        Ok(!self.below(ONE)?.iter().all(own))
    }

    /// Waits until no process and no file of a job is left.
    ///
    /// # Errors
    /// Something stays.
    pub fn nothing_left(&self) -> Result<()> {
        let jobs: PathBuf = self.dir().join("d/daemon-one/jobs");
        wait_for("nothing is left of the job", LONG, || {
            let files = std::fs::read_dir(&jobs)?.count();
            Ok((files == 0 && self.below(ONE)?.is_empty()).then_some(()))
        })
    }

    /// What queue and daemon have logged, for whoever looks at a case that broke.
    #[must_use]
    pub fn logs(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir().join(name)).unwrap_or_default();
        format!(
            "--- daemon\n{}--- queue\n{}",
            read("daemon-one.log"),
            read("queue.log")
        )
    }
}

/// What was taken away, to be given back.
#[derive(Debug)]
pub enum Taken {
    /// See [`Wire::cut`].
    Wire,
    /// It has got SIGKILL.
    Queue,
    /// All of its processes have got SIGKILL.
    Database,
    /// It has got SIGSTOP.
    Process(i32),
}

impl Database {
    fn start() -> Result<Self> {
        let server = Server::start(Durability::Full).map_err(anyhow::Error::msg)?;
        Ok(Self {
            server,
            is_away: Cell::new(false),
        })
    }

    /// The one that each server has.
    fn url(&self) -> String {
        let port = self.server.port();
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    fn crash(&self) {
        self.is_away.set(true);
        self.server.crash();
    }

    fn start_again(&self) {
        self.server.start_again();
        self.is_away.set(false);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server's own end wants it there.
        if self.is_away.get() {
            self.server.start_again();
        }
    }
}

fn stopped(pid: i32) -> Result<Taken> {
    kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
    Ok(Taken::Process(pid))
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for (_, mut daemon) in self.daemons.take() {
            // An orderly end leaves no supervisor behind.
            let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap_or_default());
            let _ = kill(pid, Signal::SIGCONT);
            let _ = kill(pid, Signal::SIGINT);
            let gone = wait_for("the daemon ends", Duration::from_secs(20), || {
                Ok(daemon.try_wait()?)
            });
            if gone.is_err() {
                let _ = daemon.kill();
                let _ = daemon.wait();
            }
        }
        let _ = self.kill_queue();
    }
}

fn processes() -> Vec<Seen> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| seen(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn seen(pid: i32) -> Option<Seen> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let argv = std::fs::read(dir.join("cmdline")).unwrap_or_default();
    let role = argv.split(|byte| *byte == 0).nth(1).unwrap_or_default();
    Some(Seen {
        pid,
        parent,
        role: String::from_utf8_lossy(role).into_owned(),
    })
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}
