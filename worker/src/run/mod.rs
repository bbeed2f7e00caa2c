//! The worker process: the thinking part of one job, in a jail of its own.
//!
//! It reads what a template, an engine and a cloud wrote, asks the supervisor for
//! processes and tells the daemon what happened. It never starts a process, never
//! talks to the queue and never sees a credential of the fleet or the cloud.

use std::process::ExitCode;

/// Runs the worker of `job_id`: file descriptor 3 is the daemon, 4 the supervisor, the
/// working directory the job's. Must be called before any thread exists.
#[must_use]
pub fn main(job_id: &str) -> ExitCode {
    unimplemented!("{job_id}")
}
