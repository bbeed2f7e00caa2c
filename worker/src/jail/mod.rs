//! Closes the processes of a job in before they see anything of it.
//!
//! Two ways in, one order of layers (`PROCESSES.md`, "Jails"):
//!
//! ```text
//!   provisionerd jail engine JOB   own session · umask · rlimits · capabilities ·
//!                                  parent death · no_new_privs · Landlock · execve
//!   the worker, in its own process the same, not dumpable, and nothing to execute
//! ```
//!
//! The orders come from the supervisor on a status socket. Nothing here reads what a
//! template wrote. A layer that fails ends the process; there is no half jail.

mod layers;
mod rules;
mod status;

use std::ffi::CString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use proto::v1::{JailReport, JailSpec};

pub use rules::open_to_engines;
pub(crate) use status::give;

use crate::job_dir::JobDir;
use crate::supervise::inherited;
use crate::supervise::spawn::{c_strings, default_signals};
use rules::Wanted;

/// `oom_score_adj` of an engine: it and its providers hold the memory.
const ENGINE_OOM_SCORE: u16 = 500;

/// `oom_score_adj` of a worker: it holds the way back, so it goes later.
const WORKER_OOM_SCORE: u16 = 200;

/// A layer of the jail does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the jail's layer `{layer}` failed: {message}")]
pub struct Error {
    /// Which one.
    pub layer: &'static str,
    /// What the kernel said, 0 when it said nothing.
    pub errno: i32,
    /// In words.
    pub message: String,
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

/// Runs as `jail ROLE JOB-ID`, before any thread exists; becomes the engine. Returns only
/// when that failed, and then has told the supervisor.
#[must_use]
pub fn main(role: &str, job_id: &str) -> ExitCode {
    let Ok(status) = inherited::take_socket(inherited::FIRST) else {
        eprintln!("`jail` is started by a supervisor, not by hand");
        return ExitCode::from(2);
    };
    let failed = match role {
        "engine" => become_engine(&status),
        other => Err(Error {
            layer: "role",
            errno: 0,
            message: format!("there is no jail for `{other}`"),
        }),
    };
    let Err(error) = failed;
    eprintln!("job {job_id}: {error}");
    tell(&status, Err(&error));
    ExitCode::FAILURE
}

/// Called by `worker JOB-ID` before any thread exists and before its first byte is read:
/// takes the inherited sockets, reads the supervisor's orders and goes into the worker's
/// jail. The supervisor is told about success and failure by this call. May be called
/// once per process.
///
/// # Errors
/// A layer failed; the process must exit.
pub fn enter_worker() -> Result<Inside, Error> {
    let sockets = |source: io::Error| Error::io("sockets", "inherited descriptors", &source);
    let daemon = inherited::take_socket(inherited::FIRST).map_err(sockets)?;
    let supervisor = inherited::take_socket(inherited::FIRST + 1).map_err(sockets)?;
    let status = inherited::take_socket(inherited::FIRST + 2).map_err(sockets)?;
    for socket in [&daemon, &supervisor] {
        socket.set_nonblocking(true).map_err(sockets)?;
    }
    match close_worker_in(&status) {
        Ok((dir, sandbox)) => {
            tell(&status, Ok(sandbox));
            Ok(Inside {
                dir,
                daemon,
                supervisor,
                sandbox: sandbox.to_owned(),
            })
        }
        Err(error) => {
            tell(&status, Err(&error));
            Err(error)
        }
    }
}

fn become_engine(status: &UnixStream) -> Result<std::convert::Infallible, Error> {
    let (dir, spec) = orders(status)?;
    layers::private_files();
    layers::resource_limits(spec.nofile)?;
    layers::oom_score(ENGINE_OOM_SCORE);
    layers::no_capabilities()?;
    layers::die_with(spec.supervisor_pid)?;
    layers::no_new_privileges()?;
    let wanted = Wanted::parse(&spec.sandbox)?;
    let program = Path::new(&spec.program);
    rules::engine(&dir, program, &spec.read_paths, &spec.write_paths, wanted)?;
    execute(&spec)
}

fn close_worker_in(status: &UnixStream) -> Result<(JobDir, &'static str), Error> {
    let (dir, spec) = orders(status)?;
    layers::private_files();
    layers::resource_limits(spec.nofile)?;
    layers::oom_score(WORKER_OOM_SCORE);
    layers::no_capabilities()?;
    layers::die_with(spec.supervisor_pid)?;
    layers::not_dumpable()?;
    layers::no_new_privileges()?;
    let level = rules::worker(&dir, &spec.read_paths, Wanted::parse(&spec.sandbox)?)?;
    Ok((dir, level))
}

/// An engine starts in `work/`, a worker in the job directory: the orders say where that
/// is, not the place.
fn orders(status: &UnixStream) -> Result<(JobDir, JailSpec), Error> {
    let spec =
        status::orders(status).map_err(|source| Error::io("orders", "status socket", &source))?;
    let dir = JobDir::open(&spec.job_dir).map_err(|error| Error {
        layer: "orders",
        errno: 0,
        message: error.to_string(),
    })?;
    Ok((dir, spec))
}

#[allow(unsafe_code)]
fn execute(spec: &JailSpec) -> Result<std::convert::Infallible, Error> {
    let nul = |_| Error {
        layer: "exec",
        errno: libc::EINVAL,
        message: "a NUL byte in program, argument or environment".to_owned(),
    };
    let program = CString::new(spec.program.as_str()).map_err(nul)?;
    let argv = c_strings(spec.argv.iter().map(String::as_str)).map_err(nul)?;
    let pairs = spec.env.iter();
    let env = c_strings(pairs.map(|pair| format!("{}={}", pair.name, pair.value))).map_err(nul)?;
    inherited::close_rest_on_exec().map_err(|source| Error::io("exec", "close_range", &source))?;
    // SAFETY: this process has no handlers; Rust's runtime ignores SIGPIPE, which the
    // engine must not inherit.
    unsafe { default_signals() };
    nix::unistd::execve(&program, &argv, &env)
        .map_err(|source| Error::kernel("exec", &spec.program, source))
}

fn tell(status: &UnixStream, result: Result<&str, &Error>) {
    let report = match result {
        Ok(sandbox) => JailReport {
            sandbox: sandbox.to_owned(),
            ..JailReport::default()
        },
        Err(error) => JailReport {
            layer: error.layer.to_owned(),
            errno: error.errno,
            message: error.message.clone(),
            ..JailReport::default()
        },
    };
    // A supervisor that is gone needs no report: this process ends with it.
    let _ = status::report(status, &report);
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
    let tried = std::thread::spawn(rules::abi_in_force).join();
    match tried.unwrap_or_else(|_| Err("the probing thread died".to_owned())) {
        Ok(abi) => Probe {
            landlock_abi: Some(abi),
            reason: String::new(),
        },
        Err(reason) => Probe {
            landlock_abi: None,
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_says_a_level_or_why_there_is_none() {
        let probe = probe();
        assert_eq!(probe.level() == "none", !probe.reason.is_empty());
        assert!(
            std::fs::read_dir("/").is_ok(),
            "the probing process itself stays open"
        );
    }
}
