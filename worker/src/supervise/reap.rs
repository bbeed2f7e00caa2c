//! Children of this process that have ended, what CPU they took, and signals to those that
//! have not been waited for: their ids cannot have been given away.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Exited(i32),
    Killed(i32),
}

impl Status {
    pub(super) fn code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Killed(_) => None,
        }
    }

    pub(super) fn signal(self) -> Option<i32> {
        match self {
            Self::Exited(_) => None,
            Self::Killed(signal) => Some(signal),
        }
    }

    /// waitid(2): what `si_status` holds is told by `si_code`.
    fn of(code: i32, status: i32) -> Self {
        match code {
            libc::CLD_EXITED => Self::Exited(status),
            _ => Self::Killed(status),
        }
    }
}

/// A child that was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dead {
    pub pid: i32,
    pub status: Status,
    /// User and system time of it and of all that it has waited for.
    pub cpu: Duration,
}

/// What there is to know about children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    /// This one has ended and was waited for.
    Ended(Dead),
    /// There are some, none has ended.
    Running,
    /// There is none: nothing below this process is left, as everything whose parent
    /// died is its child.
    None,
}

/// Waits for one ended child, without blocking.
pub(super) fn next() -> Child {
    loop {
        match wait(libc::P_ALL, 0) {
            Ok(Some(dead)) => return Child::Ended(dead),
            Ok(None) => return Child::Running,
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Child::None,
            // A signal may interrupt.
            Err(_) => {}
        }
    }
}

/// Waits for the child of this descriptor, without blocking.
///
/// # Errors
/// It was waited for already, or is no child of this process.
pub(crate) fn of(pidfd: BorrowedFd<'_>) -> io::Result<Option<Dead>> {
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).map_err(io::Error::other)?;
    wait(libc::P_PIDFD, id)
}

/// The plain system call: the C library's leaves out its last argument.
fn wait(kind: libc::idtype_t, id: libc::id_t) -> io::Result<Option<Dead>> {
    // SAFETY: zeroed, both are valid values of these plain structures.
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
    // SAFETY: both structures are live and of the kernel's layout.
    let waited = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            kind,
            id,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG,
            &raw mut usage,
        )
    };
    if waited != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid(2) has filled these in, or left the zeros that mean: nobody.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then(|| Dead {
        pid,
        status: Status::of(info.si_code, status),
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
    }))
}

fn time(value: libc::timeval) -> Duration {
    let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
    let micros = u64::try_from(value.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// SIGINT to a child that was not waited for.
pub(super) fn interrupt(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
}

/// SIGKILL to a child that was not waited for.
pub(super) fn end(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;

    #[expect(
        clippy::zombie_processes,
        reason = "it is waited for by its descriptor"
    )]
    #[test]
    fn a_child_is_waited_for_once_with_its_end_and_its_time() {
        let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exit 7";
        let child = std::process::Command::new("sh")
            .args(["-c", busy])
            .spawn()
            .expect("shell");
        let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).expect("pid");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd");
        let dead = loop {
            if let Some(dead) = of(pidfd.as_fd()).expect("wait") {
                break dead;
            }
            std::thread::yield_now();
        };
        assert_eq!(dead.status, Status::Exited(7));
        assert_eq!(dead.pid, child.id().cast_signed());
        assert!(dead.cpu > Duration::from_millis(1), "{dead:?}");
        let again = of(pidfd.as_fd()).expect_err("gone");
        assert_eq!(again.raw_os_error(), Some(libc::ECHILD));
    }
}
