//! The daemon's side of a supervisor: starting it, watching it, ending what it left.
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
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::job_dir::JobDir;
use crate::supervise::cgroup::{JobCgroup, Part};
use crate::supervise::identity::Identity;
use crate::supervise::spawn::{Spawn, c_strings, spawn};
use crate::supervise::{exits, tree};

/// Between two looks at something that ends without telling us.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a killed process may take to be gone.
const DYING: Duration = Duration::from_secs(10);

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
    };
    let mut supervisors = supervisors();
    let pid = match spawn(&spec) {
        Ok(pid) => pid,
        Err(error) => {
            if let Some(cgroup) = cgroup {
                cgroup.remove();
            }
            return Err(error);
        }
    };
    let pidfd = match open_pidfd(pid) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            forget(pid, cgroup);
            return Err(error);
        }
    };
    supervisors.get_or_insert_default().insert(pid);
    Ok(Launched {
        process: Supervisor { pidfd, pid, cgroup },
        supervisor,
        worker,
    })
}

/// Ends a child that cannot be watched. Nobody has waited for it, so the number is its own.
fn forget(pid: i32, cgroup: Option<JobCgroup>) {
    let pid = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    let _ = nix::sys::wait::waitpid(pid, None);
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
}

impl Supervisor {
    /// Its process id, for records.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
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
        let pidfd = watch(self.pidfd.try_clone()?)?;
        loop {
            let mut ready = pidfd.readable().await?;
            let mut supervisors = supervisors();
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            let ending = match waitid(Id::PIDFd(self.pidfd.as_fd()), flags)? {
                WaitStatus::Exited(_, code) => Ending::Exited(code),
                WaitStatus::Signaled(_, signal, _) => Ending::Killed(signal as i32),
                _ => {
                    ready.clear_ready();
                    continue;
                }
            };
            supervisors.get_or_insert_default().remove(&self.pid);
            if let Some(group) = self.cgroup.as_ref().filter(|group| !group.populated()) {
                group.remove();
            }
            return Ok(ending);
        }
    }
}

#[allow(unsafe_code)]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, always the same number, and moved in here, so nothing
    // else closes it before the `AsyncFd` does. Tested by every test that waits for an end.
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    Ok(watched?)
}

/// Whether a supervisor of this job lives, started by whichever daemon.
///
/// # Errors
/// The lock file cannot be opened.
pub fn supervisor_lives(dir: &JobDir) -> io::Result<bool> {
    let path = dir.supervisor_lock();
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// At the start of a daemon: waits until the supervisor an earlier daemon left in this
/// job is gone, and kills it after `patience`. Blocks; not for an async thread.
///
/// # Errors
/// The lock cannot be read, or the supervisor outlived its kill.
pub fn outlive_supervisor(dir: &JobDir, patience: Duration) -> io::Result<()> {
    if gone_within(dir, patience)? {
        return Ok(());
    }
    if let Some(process) = Identity::read(&dir.supervisor_lock()).and_then(|it| it.process()) {
        process.kill();
    }
    if gone_within(dir, DYING)? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the supervisor of {} does not end", dir.root().display()),
    ))
}

fn gone_within(dir: &JobDir, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        if !supervisor_lives(dir)? {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        pause();
    }
}

/// Ends everything that is left of a job whose supervisor is dead: its cgroup, and every
/// child of this process that is no launched supervisor, until none is left. Blocks for
/// milliseconds as a rule; not for an async thread.
///
/// # Errors
/// A process did not die within `patience`.
pub fn sweep(dir: &JobDir, patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    let cgroup = Identity::read(&dir.supervisor_lock())
        .and_then(|identity| identity.cgroup)
        .and_then(|path| JobCgroup::at(&path, dir))
        // A supervisor that died young has written nothing.
        .or_else(|| JobCgroup::below_this_process(dir));
    loop {
        let empty = cgroup.as_ref().is_none_or(|group| {
            group.kill();
            !group.populated()
        });
        let strays = kill_strays()?;
        if empty && strays == 0 {
            break;
        }
        if Instant::now() >= until {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("processes of {} do not end", dir.root().display()),
            ));
        }
        pause();
    }
    if let Some(group) = cgroup {
        group.remove();
    }
    Ok(())
}

/// Kills and waits for children that are no supervisors; returns how many there were.
fn kill_strays() -> io::Result<usize> {
    // Only a subreaper is given strays; elsewhere the children are somebody's.
    if !prctl::get_child_subreaper()? {
        return Ok(0);
    }
    let own = std::process::id().cast_signed();
    let supervisors = supervisors();
    let ours = |pid| supervisors.as_ref().is_some_and(|set| set.contains(&pid));
    let mut strays = 0;
    for child in tree::list()? {
        if child.parent != own || ours(child.pid) {
            continue;
        }
        strays += 1;
        child.kill();
        let pid = nix::unistd::Pid::from_raw(child.pid);
        let _ = nix::sys::wait::waitpid(pid, Some(WaitPidFlag::WNOHANG));
    }
    Ok(strays)
}

/// The kernel tells nobody when somebody else's lock or process is gone.
#[expect(
    clippy::disallowed_methods,
    reason = "a bounded wait for a condition, on a thread that may block"
)]
fn pause() {
    std::thread::sleep(LOOK_AGAIN);
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
