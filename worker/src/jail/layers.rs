//! The layers of a jail except Landlock, each one paragraph with what it is for. Each
//! function does its layer to the calling process and cannot be undone.

use std::fs;
use std::io;

use caps::CapSet;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::getppid;

use super::Error;

/// Files of the job are for its user only.
pub(super) fn private_files() {
    umask(Mode::from_bits_truncate(0o077));
}

/// No core dumps: they would hold every secret of the job. As many files as engines and
/// their providers need, no more than the host allows. Nothing else is limited: a file
/// size limit truncates states, an address space limit kills Go programs at the start.
pub(super) fn resource_limits(files: u64) -> Result<(), Error> {
    let failed = |source: nix::Error| Error::kernel("rlimits", "setrlimit", source);
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    let files = if files == 0 { hard } else { files.min(hard) };
    setrlimit(Resource::RLIMIT_NOFILE, files, files).map_err(failed)
}

/// Makes the kernel prefer this process when memory runs out. Raising the score needs no
/// privilege; where it is refused the default order stands.
pub(super) fn oom_score(score: u16) {
    let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
}

/// All capabilities, out of every set, also root's: with them root reads what Landlock
/// closes (other processes' environments), and the bounding set would hand them back to
/// root at `execve`.
pub(super) fn no_capabilities() -> Result<(), Error> {
    let failed = |error: caps::errors::CapsError| Error {
        layer: "capabilities",
        errno: 0,
        message: error.to_string(),
    };
    let may_shrink =
        caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).map_err(failed)?;
    if may_shrink {
        caps::clear(None, CapSet::Bounding).map_err(failed)?;
    }
    // An old kernel without ambient capabilities has none to clear.
    let _ = caps::clear(None, CapSet::Ambient);
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(failed)?;
    }
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        if !caps::read(None, set).map_err(failed)?.is_empty() {
            return Err(Error {
                layer: "capabilities",
                errno: 0,
                message: format!("{set:?} is not empty after it was cleared"),
            });
        }
    }
    Ok(())
}

/// SIGKILL when the supervisor dies. A change of credentials clears this, so it comes
/// after the last one. The parent may have died before the call: then nobody would send
/// the signal, and this process must not go on.
pub(super) fn die_with(supervisor: i32) -> Result<(), Error> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|source| Error::kernel("parent_death", "prctl", source))?;
    let parent = getppid().as_raw();
    if parent == supervisor {
        Ok(())
    } else {
        Err(Error {
            layer: "parent_death",
            errno: 0,
            message: format!("the parent is {parent}, not the supervisor {supervisor}"),
        })
    }
}

/// No core, no `ptrace`, no /proc/PID/environ for others of the same user. Lost at
/// `execve`, so only for processes of ours.
pub(super) fn not_dumpable() -> Result<(), Error> {
    prctl::set_dumpable(false).map_err(|source| Error::kernel("dumpable", "prctl", source))
}

/// Setuid programs and file capabilities give nothing from here on.
pub(super) fn no_new_privileges() -> Result<(), Error> {
    prctl::set_no_new_privs().map_err(|source| Error::kernel("no_new_privs", "prctl", source))
}

impl Error {
    pub(super) fn kernel(layer: &'static str, call: &str, source: nix::Error) -> Self {
        Self {
            layer,
            errno: source as i32,
            message: format!("{call}: {source}"),
        }
    }

    pub(super) fn io(layer: &'static str, what: &str, source: &io::Error) -> Self {
        Self {
            layer,
            errno: source.raw_os_error().unwrap_or(0),
            message: format!("{what}: {source}"),
        }
    }
}
