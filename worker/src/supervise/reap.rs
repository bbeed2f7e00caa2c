//! Children of this process that have ended, and signals to those that have not been
//! waited for: their ids cannot have been given away.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
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
}

/// What there is to know about children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    /// This one has ended and was waited for.
    Ended { pid: i32, status: Status },
    /// There are some, none has ended.
    Running,
    /// There is none: nothing below this process is left, as everything whose parent
    /// died is its child.
    None,
}

/// Waits for one ended child, without blocking.
pub(super) fn next() -> Child {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                return Child::Ended {
                    pid: pid.as_raw(),
                    status: Status::Exited(code),
                };
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Child::Ended {
                    pid: pid.as_raw(),
                    status: Status::Killed(signal as i32),
                };
            }
            Ok(WaitStatus::StillAlive) => return Child::Running,
            Err(Errno::ECHILD) => return Child::None,
            // Stops and continues are not asked for; a signal may interrupt.
            Ok(_) | Err(_) => {}
        }
    }
}

/// SIGINT to a child that was not waited for.
pub(super) fn interrupt(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
}

/// SIGKILL to a child that was not waited for.
pub(super) fn end(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}
