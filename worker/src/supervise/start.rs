//! Starts workers and engines: descriptors, environment, orders to their jails. The
//! calls wait for the jail's answer, a few milliseconds, with a bound.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use proto::v1::{EnvPair, JailReport, JailSpec, StartRefused};

use super::cgroup::{JobCgroup, Part};
use super::namespace::{Numbering, Outside};
use super::order::Order;
use super::reap;
use super::settings::Settings;
use super::spawn::{Spawn, c_strings, spawn};
use crate::jail;
use crate::job_dir::JobDir;

/// This binary, also after an upgrade has replaced its file.
const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// argv\[0\] of our processes.
const NAME: &str = "provisionerd";

/// PATH where neither worker nor daemon gives one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why nothing was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub layer: String,
    pub errno: i32,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(layer: &str, message: impl Into<String>) -> Self {
        Self {
            layer: layer.to_owned(),
            errno: 0,
            message: message.into(),
        }
    }

    fn io(layer: &str, what: &str, error: &io::Error) -> Self {
        Self {
            layer: layer.to_owned(),
            errno: error.raw_os_error().unwrap_or(0),
            message: format!("{what}: {error}"),
        }
    }

    /// As it travels.
    pub(super) fn to_frame(&self, number: u32) -> StartRefused {
        StartRefused {
            number,
            layer: self.layer.clone(),
            errno: self.errno,
            message: self.message.clone(),
        }
    }
}

/// Starts the processes of one job.
#[derive(Debug)]
pub(super) struct Starter {
    dir: JobDir,
    job_id: String,
    cgroup: Option<JobCgroup>,
    outside: Option<Outside>,
    null: File,
    log: File,
}

/// A worker inside its jail.
#[derive(Debug)]
pub(super) struct StartedWorker {
    pub pid: i32,
    pub link: UnixStream,
    pub sandbox: String,
}

impl Starter {
    pub(super) fn new(
        dir: JobDir,
        job_id: &str,
        cgroup: Option<JobCgroup>,
        outside: Option<Outside>,
    ) -> io::Result<Self> {
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        let log = output(&dir.processes_log(), Existing::Kept)?;
        Ok(Self {
            dir,
            job_id: job_id.to_owned(),
            cgroup,
            outside,
            null,
            log,
        })
    }

    /// Starts the worker, which takes `daemon` over; returns once its jail holds.
    pub(super) fn worker(
        &self,
        settings: &Settings,
        daemon: OwnedFd,
    ) -> Result<StartedWorker, Refusal> {
        let failed = |error: io::Error| Refusal::io("spawn", "the worker", &error);
        let (link, workers_link) = UnixStream::pair().map_err(failed)?;
        let (status, workers_status) = UnixStream::pair().map_err(failed)?;
        let mut env = BTreeMap::new();
        self.base_env(&mut env);
        let env = env.iter().map(|(name, value)| format!("{name}={value}"));
        let pid = self.spawn(Child {
            argv: vec![NAME, "worker", &self.job_id],
            env: env.collect(),
            cwd: self.dir.root(),
            fds: vec![
                self.null.as_fd(),
                self.log.as_fd(),
                self.log.as_fd(),
                daemon.as_fd(),
                workers_link.as_fd(),
                workers_status.as_fd(),
            ],
            part: Part::Worker,
        })?;
        drop((daemon, workers_link, workers_status));
        let refusal = match jail::give(&status, &self.orders(settings)) {
            Ok(Some(JailReport { layer, sandbox, .. })) if layer.is_empty() => {
                let sandbox = self.level(sandbox);
                return Ok(StartedWorker { pid, link, sandbox });
            }
            Ok(Some(report)) => refused(report),
            Ok(None) => Refusal::new("spawn", "the worker died before its jail"),
            Err(error) => Refusal::io("spawn", "the worker's jail", &error),
        };
        reap::end(pid);
        Err(refusal)
    }

    /// The level in force: what the jail's rules give, and whether the kernel keeps the
    /// job's processes together.
    fn level(&self, rules: String) -> String {
        match self.outside {
            Some(_) => format!("{rules}+pidns"),
            None => rules,
        }
    }

    /// Starts an engine; returns its process id once it was executed.
    pub(super) fn engine(&self, settings: &Settings, order: &Order) -> Result<i32, Refusal> {
        let failed = |error: io::Error| Refusal::io("spawn", "the jail", &error);
        let open = |path: &Path| {
            output(path, Existing::Refused)
                .map_err(|error| Refusal::io("output", &path.display().to_string(), &error))
        };
        let stdout = open(&self.dir.stdout(order.number, order.process))?;
        let stderr = open(&self.dir.stderr(order.number, order.process))?;
        let (status, jails_status) = UnixStream::pair().map_err(failed)?;
        let pid = self.spawn(Child {
            argv: vec![NAME, "jail", "engine", &self.job_id],
            env: Vec::new(),
            cwd: &self.dir.work(),
            fds: vec![
                self.null.as_fd(),
                stdout.as_fd(),
                stderr.as_fd(),
                jails_status.as_fd(),
            ],
            part: Part::Run,
        })?;
        drop(jails_status);
        let mut argv = vec![settings.engine_path.clone()];
        argv.extend(order.command.arguments());
        let spec = JailSpec {
            program: settings.engine_path.clone(),
            argv,
            env: self.engine_env(settings, &order.env),
            write_paths: settings.write_paths.clone(),
            ..self.orders(settings)
        };
        let refusal = match jail::give(&status, &spec) {
            Ok(None) => return Ok(pid),
            Ok(Some(report)) => refused(report),
            Err(error) => Refusal::io("spawn", "the engine's jail", &error),
        };
        reap::end(pid);
        Err(refusal)
    }

    /// What the host calls a child that was not waited for: for records, not for signals.
    pub(super) fn hosts_pid(&self, child: i32) -> i32 {
        let outside = self.outside.as_ref();
        outside.and_then(|it| it.pid_of(child)).unwrap_or(child)
    }

    /// The space held back for the end of the job is needed now.
    pub(super) fn give_back_reserve(&self) {
        // Without one there is nothing to give back.
        let _ = std::fs::remove_file(self.dir.reserve());
    }

    /// Kills engines and what they started, as far as the kernel can do that at once.
    pub(super) fn kill_run(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill_part(Part::Run);
        }
    }

    fn spawn(&self, child: Child<'_>) -> Result<i32, Refusal> {
        let nul = |_| Refusal::new("spawn", "a NUL byte in the job's id or path");
        let entrance = self
            .cgroup
            .as_ref()
            .and_then(|group| group.entrance(child.part));
        spawn(&Spawn {
            program: SELF.to_owned(),
            argv: c_strings(child.argv).map_err(nul)?,
            env: c_strings(child.env).map_err(nul)?,
            cwd: CString::new(child.cwd.as_os_str().as_bytes()).map_err(nul)?,
            fds: child.fds,
            cgroup: entrance.as_ref().map(std::os::fd::AsFd::as_fd),
            // One namespace per job, the supervisor's.
            numbering: Numbering::Shared,
        })
        .map_err(|error| Refusal::io("spawn", "fork and execve", &error))
    }

    fn orders(&self, settings: &Settings) -> JailSpec {
        JailSpec {
            supervisor_pid: std::process::id().cast_signed(),
            sandbox: settings.sandbox.clone(),
            read_paths: settings.read_paths.clone(),
            nofile: settings.nofile,
            job_dir: self.dir.root().display().to_string(),
            ..JailSpec::default()
        }
    }

    /// The worker's variables over ours, the daemon's over both: credentials and
    /// settings of the operator are not a worker's to change.
    fn engine_env(&self, settings: &Settings, of_worker: &[EnvPair]) -> Vec<EnvPair> {
        let mut env = BTreeMap::new();
        self.base_env(&mut env);
        for EnvPair { name, value } in of_worker.iter().chain(&settings.engine_env) {
            env.insert(name.clone(), value.clone());
        }
        let pairs = env.into_iter();
        pairs.map(|(name, value)| EnvPair { name, value }).collect()
    }

    fn base_env(&self, env: &mut BTreeMap<String, String>) {
        for (name, value) in [
            ("HOME", self.dir.home().display().to_string()),
            ("TMPDIR", self.dir.tmp().display().to_string()),
            ("PATH", DEFAULT_PATH.to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
        ] {
            env.insert(name.to_owned(), value);
        }
    }
}

struct Child<'a> {
    argv: Vec<&'a str>,
    env: Vec<String>,
    cwd: &'a Path,
    fds: Vec<BorrowedFd<'a>>,
    part: Part,
}

/// What to do with a file that is there already.
#[derive(Clone, Copy)]
enum Existing {
    /// Append to it.
    Kept,
    /// Nothing of ours makes it twice.
    Refused,
}

/// A 0600 file that is only appended to, opened without following a link.
fn output(path: &Path, existing: Existing) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    match existing {
        Existing::Kept => options.create(true),
        Existing::Refused => options.create_new(true),
    };
    options.open(path)
}

fn refused(report: JailReport) -> Refusal {
    Refusal {
        layer: report.layer,
        errno: report.errno,
        message: report.message,
    }
}
