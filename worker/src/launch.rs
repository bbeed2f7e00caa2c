//! The daemon's side of a supervisor: starting it, watching it, ending what it left.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::job_dir::JobDir;

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
    unimplemented!()
}

/// Starts `exe supervise JOB-ID`.
///
/// # Errors
/// The directory has a living supervisor (`WouldBlock`), or a system call failed.
pub fn launch(launch: &Launch) -> io::Result<Launched> {
    let _ = launch;
    unimplemented!()
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
        unimplemented!()
    }

    /// Waits for its end and takes it off the list of supervisors. Cancel safe.
    ///
    /// # Errors
    /// It was waited for already.
    pub async fn ended(&self) -> io::Result<Ending> {
        let _ = &self.pidfd;
        unimplemented!()
    }
}

/// Whether a supervisor of this job lives, started by whichever daemon.
///
/// # Errors
/// The lock file cannot be opened.
pub fn supervisor_lives(dir: &JobDir) -> io::Result<bool> {
    let _ = dir;
    unimplemented!()
}

/// At the start of a daemon: waits until the supervisor an earlier daemon left in this
/// job is gone, and kills it after `patience`. Blocks; not for an async thread.
///
/// # Errors
/// The lock cannot be read, or the supervisor outlived its kill.
pub fn outlive_supervisor(dir: &JobDir, patience: Duration) -> io::Result<()> {
    let _ = (dir, patience);
    unimplemented!()
}

/// Ends everything that is left of a job whose supervisor is dead: its cgroup, and every
/// child of this process that is no launched supervisor, until none is left. Blocks for
/// milliseconds as a rule.
///
/// # Errors
/// A process did not die within `patience`.
pub fn sweep(dir: &JobDir, patience: Duration) -> io::Result<()> {
    let _ = (dir, patience);
    unimplemented!()
}

/// Reads `exits` of a job; a torn tail is left out.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read_exits(path: &Path) -> io::Result<Vec<proto::v1::ExitRecord>> {
    let _ = path;
    unimplemented!()
}
