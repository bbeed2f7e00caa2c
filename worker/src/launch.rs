//! The daemon's side of a supervisor: starting it and watching it; `sweep` ends what it
//! left.
//!
//! A daemon starts nothing but supervisors. Whatever else becomes its child was left behind
//! by a dead one and is killed by [`sweep`]; so a process that calls [`become_subreaper`]
//! must have no children of its own.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::prctl;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::job_dir::JobDir;
use crate::supervise::cgroup::{JobCgroup, Part};
use crate::supervise::namespace::{self, Numbering};
use crate::supervise::spawn::{Spawn, c_strings, spawn};
use crate::supervise::{exits, identity, reap};

mod sweep;

pub use sweep::{outlive_supervisor, supervisor_lives, sweep};

/// Supervisors that were launched and not waited for. Held locked while one is forked, so
/// that no sweep takes it for a stray before it is listed.
static SUPERVISORS: Mutex<Option<HashSet<i32>>> = Mutex::new(None);

/// What a supervisor is started with.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The binary that knows `supervise`, `worker` and `jail`: usually `/proc/self/exe`.
    pub exe: PathBuf,
    /// The job's directory; working directory of the supervisor.
    pub job_dir: JobDir,
    /// Last word of the command line of all processes of the job.
    pub job_id: String,
    /// How its processes are kept together.
    pub namespace: Namespace,
}

/// Whether the processes of a job have a pid namespace of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// Where this process may make one, see [`own_namespace`].
    Best,
    /// They share this process's, as where none can be made.
    Shared,
}

/// A supervisor that was started, and the daemon's ends of its sockets.
#[derive(Debug)]
pub struct Launched {
    /// The process; waits for and kills exactly it.
    pub process: Supervisor,
    /// Frames `ToSupervisor` out, `FromSupervisor` in; not blocking, ready for tokio.
    pub supervisor: UnixStream,
    /// Frames `ToWorker` out, `FromWorker` in; not blocking, ready for tokio.
    pub worker: UnixStream,
}

/// A running supervisor, a child of this process.
#[derive(Debug)]
pub struct Supervisor {
    pidfd: OwnedFd,
    pid: i32,
    cgroup: Option<JobCgroup>,
    cpu: OnceLock<Duration>,
}

/// How a supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited by itself with this code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

/// Makes this process the one that inherits what dead supervisors leave behind. Call once
/// at the start of a daemon, before the first launch. From then on [`sweep`] kills every
/// child of this process that is no launched supervisor.
///
/// # Errors
/// The kernel refuses.
pub fn become_subreaper() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Whether jobs get a pid namespace each, so that the kernel ends all processes of a job
/// with its supervisor; found out by trying, once per process.
///
/// # Errors
/// Why not, in words. Their processes then end by signals, cgroup and [`sweep()`].
pub fn own_namespace() -> Result<(), &'static str> {
    // A sweep must not take the child that tries it for a stray.
    own_namespace_while(&supervisors())
}

fn own_namespace_while(
    _no_sweep: &MutexGuard<'_, Option<HashSet<i32>>>,
) -> Result<(), &'static str> {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    let tried = TRIED.get_or_init(namespace::probe);
    tried.as_ref().copied().map_err(String::as_str)
}

/// Starts `exe supervise JOB-ID`: own session, empty environment, nothing inherited but
/// what `PROCESSES.md` names, and no signal when this process dies.
///
/// # Errors
/// The directory has a living supervisor (`WouldBlock`), or a system call failed.
pub fn launch(launch: &Launch) -> io::Result<Launched> {
    let dir = &launch.job_dir;
    let lock = lock(dir)?;
    let null = File::open("/dev/null")?;
    let log = append(&dir.processes_log())?;
    let (supervisor, supervisors_end) = UnixStream::pair()?;
    let (worker, workers_end) = UnixStream::pair()?;
    for socket in [&supervisor, &worker] {
        socket.set_nonblocking(true)?;
    }
    let cgroup = JobCgroup::create(dir);
    let entrance = cgroup
        .as_ref()
        .and_then(|group| group.entrance(Part::Supervisor));
    let mut supervisors = supervisors();
    let spec = Spawn {
        program: c_string(launch.exe.as_os_str().as_bytes())?,
        argv: c_strings(["provisionerd", "supervise", &launch.job_id])?,
        env: Vec::new(),
        cwd: c_string(dir.root().as_os_str().as_bytes())?,
        fds: vec![
            null.as_fd(),
            log.as_fd(),
            log.as_fd(),
            supervisors_end.as_fd(),
            workers_end.as_fd(),
            lock.as_fd(),
        ],
        cgroup: entrance.as_ref().map(std::os::fd::AsFd::as_fd),
        numbering: match launch.namespace {
            Namespace::Best if own_namespace_while(&supervisors).is_ok() => Numbering::Own,
            Namespace::Best | Namespace::Shared => Numbering::Shared,
        },
    };
    let (pid, pidfd) = match watched(&spec) {
        Ok(child) => child,
        Err(error) => {
            if let Some(cgroup) = cgroup {
                cgroup.remove();
            }
            return Err(error);
        }
    };
    supervisors.get_or_insert_default().insert(pid);
    Ok(Launched {
        process: Supervisor {
            pidfd,
            pid,
            cgroup,
            cpu: OnceLock::new(),
        },
        supervisor,
        worker,
    })
}

/// Starts a child. One that cannot be watched is ended: nobody has waited for it, so the
/// number is its own.
fn watched(spec: &Spawn<'_>) -> io::Result<(i32, OwnedFd)> {
    let pid = spawn(spec)?;
    open_pidfd(pid).map(|pidfd| (pid, pidfd)).inspect_err(|_| {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(pid, None);
    })
}

impl Supervisor {
    /// Its process id, for records.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// CPU time of it and of all processes of the job that it has waited for, once
    /// [`Supervisor::ended`] has returned.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        self.cpu.get().copied()
    }

    /// SIGKILL, for one that hangs. The kernel ends worker and engine with it; follow
    /// with [`Supervisor::ended`] and [`sweep`].
    pub fn kill(&self) {
        // It may have ended: then there is nothing to do.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for its end, takes it off the list of supervisors and removes the job's cgroup
    /// if that is empty; what is not is for [`sweep`]. Cancel safe. Whoever
    /// drops a `Supervisor` without this leaves a zombie that no sweep touches.
    ///
    /// # Errors
    /// It was waited for already.
    pub async fn ended(&self) -> io::Result<Ending> {
        let pidfd = readable(self.pidfd.try_clone()?)?;
        loop {
            let mut ready = pidfd.readable().await?;
            let mut supervisors = supervisors();
            let Some(dead) = reap::of(self.pidfd.as_fd())? else {
                ready.clear_ready();
                continue;
            };
            let _ = self.cpu.set(dead.cpu);
            let ending = match dead.status {
                reap::Status::Exited(code) => Ending::Exited(code),
                reap::Status::Killed(signal) => Ending::Killed(signal),
            };
            supervisors.get_or_insert_default().remove(&self.pid);
            if let Some(group) = self.cgroup.as_ref().filter(|group| !group.populated()) {
                group.remove();
            }
            return Ok(ending);
        }
    }
}

/// Tells when a descriptor of the kernel's own can be read.
#[allow(unsafe_code)]
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, always the same number, and moved in here, so nothing
    // else closes it before the `AsyncFd` does. Tested by every test that waits for an end.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(watched?)
}

/// Reads `exits` of a job; a torn tail is left out, a file that is not there is empty.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read_exits(path: &Path) -> io::Result<Vec<proto::v1::ExitRecord>> {
    exits::read(path)
}

/// The locked file goes to the supervisor, whose copy keeps the lock: there is no moment
/// in which a launched supervisor does not live. Closing our copy unlocks nothing, as an
/// explicit unlock would.
fn lock(dir: &JobDir) -> io::Result<File> {
    let file = append(&dir.supervisor_lock())?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    identity::announce(&file)?;
    Ok(file)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    Ok(CString::new(bytes)?)
}

fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn supervisors() -> MutexGuard<'static, Option<HashSet<i32>>> {
    // The set is whole between any two statements: a panic elsewhere spoils nothing.
    SUPERVISORS.lock().unwrap_or_else(PoisonError::into_inner)
}
