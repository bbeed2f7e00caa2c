//! Closes the processes of a job in before they see anything of it.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use crate::job_dir::JobDir;

/// Runs as `jail ROLE JOB-ID`, before any thread exists; becomes the engine.
#[must_use]
pub fn main(role: &str, job_id: &str) -> ExitCode {
    let _ = (role, job_id);
    unimplemented!()
}

/// What a worker has once it is inside its jail.
#[derive(Debug)]
pub struct Inside {
    /// The job's directory.
    pub dir: JobDir,
    /// Frames `FromWorker` out, `ToWorker` in; not blocking, ready for tokio.
    pub daemon: UnixStream,
    /// Frames `ToSupervisorFromWorker` out, `ToWorkerFromSupervisor` in; not blocking,
    /// ready for tokio.
    pub supervisor: UnixStream,
    /// The level in force, e.g. `landlock`.
    pub sandbox: String,
}

/// A layer of the jail does not hold.
#[derive(Debug, thiserror::Error)]
#[error("the jail's layer `{layer}` failed: {message}")]
pub struct Error {
    /// Which one.
    pub layer: &'static str,
    /// What the kernel said, 0 when it said nothing.
    pub errno: i32,
    /// In words.
    pub message: String,
}

/// Called by `worker JOB-ID` before any thread exists and before its first byte is read:
/// takes the inherited sockets, reads the supervisor's orders and goes into the worker's
/// jail. The supervisor is told about success and failure by this call. May be called
/// once per process.
///
/// # Errors
/// A layer failed; the process must exit.
pub fn enter_worker() -> Result<Inside, Error> {
    unimplemented!()
}

/// Which layers work on this host for this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The Landlock ABI of the kernel, `None` when it cannot be used.
    pub landlock_abi: Option<i32>,
    /// Why Landlock cannot be used; empty when it can.
    pub reason: String,
}

impl Probe {
    /// The highest level that works: `landlock` or `none`.
    #[must_use]
    pub fn level(&self) -> &'static str {
        if self.landlock_abi.is_some() {
            "landlock"
        } else {
            "none"
        }
    }
}

/// Finds out by trying, in a thread that ends with it.
#[must_use]
pub fn probe() -> Probe {
    unimplemented!()
}
