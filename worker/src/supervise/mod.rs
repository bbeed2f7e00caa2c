//! One supervisor per job: starts, watches and ends every process of it.

use std::process::ExitCode;

/// Runs as `supervise JOB-ID`, before any thread exists.
#[must_use]
pub fn main(job_id: &str) -> ExitCode {
    let _ = job_id;
    unimplemented!()
}
