//! Starts a process with nothing inherited but what is named here: descriptors,
//! environment, directory, cgroup. The one place that forks.
//!
//! The daemon that calls this has many threads, so the child does nothing between `fork`
//! and `execve` but system calls on memory that was prepared before (signal-safety(7)).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, NulError};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use nix::sys::signal::SigSet;

use super::namespace::{self, Numbering};

/// Descriptors of the child are gathered above this number before they get their places,
/// so that no move overwrites one that is still to be moved.
const STAGING: RawFd = 64;

/// Exit code of a child whose `execve` failed; never seen outside this file.
const NOT_EXECUTED: i32 = 127;

/// Highest signal number of Linux.
const LAST_SIGNAL: i32 = 64;

/// Size of the kernel's signal set: one bit each.
const SIGNAL_SET_BYTES: usize = 8;

/// What a child is made of; it leads a session of its own.
#[derive(Debug)]
pub(crate) struct Spawn<'a> {
    /// Path of the binary, as `execve` takes it.
    pub program: CString,
    /// With the program's name first.
    pub argv: Vec<CString>,
    /// `NAME=value`; there is no other variable.
    pub env: Vec<CString>,
    /// Where it starts.
    pub cwd: CString,
    /// The n-th of these becomes the child's descriptor n; all others are closed.
    pub fds: Vec<BorrowedFd<'a>>,
    /// An open `cgroup.procs` the child enters; a refusal is no error.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether it is the first process of a pid namespace.
    pub numbering: Numbering,
}

/// Starts it and returns its process id once `execve` has succeeded. The child is the
/// caller's to wait for.
///
/// # Errors
/// What a system call of parent or child answered.
pub(crate) fn spawn(spec: &Spawn<'_>) -> io::Result<i32> {
    let (status, child_status) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mut plan = Plan::new(spec, &child_status);
    // Handlers of this process must not run in the child: tokio's would write into a
    // pipe that both share.
    let mask = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the child calls only `Plan::run`, which makes system calls on prepared
    // memory and never returns.
    let forked = unsafe { namespace::fork(spec.numbering) };
    if matches!(forked, Ok(0)) {
        plan.run();
    }
    mask.thread_set_mask()?;
    let forked = forked?;
    drop(child_status);
    match executed(status) {
        Ok(()) => Ok(forked),
        Err(error) => {
            // It has exited or is about to; its record must not stay a zombie.
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(forked), None);
            Err(error)
        }
    }
}

/// C strings of `texts`.
///
/// # Errors
/// One of them holds a NUL.
pub(crate) fn c_strings<I, T>(texts: I) -> Result<Vec<CString>, NulError>
where
    I: IntoIterator<Item = T>,
    T: Into<Vec<u8>>,
{
    texts.into_iter().map(CString::new).collect()
}

/// Waits for the child's `execve`: the status pipe closes, or brings an errno.
fn executed(status: OwnedFd) -> io::Result<()> {
    let mut errno = Vec::new();
    File::from(status).read_to_end(&mut errno)?;
    match <[u8; 4]>::try_from(errno.as_slice()) {
        Ok(bytes) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(bytes))),
        Err(_) => Ok(()),
    }
}

/// Everything the child needs, allocated before the fork.
struct Plan<'a> {
    program: &'a CStr,
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    cwd: &'a CStr,
    fds: Vec<RawFd>,
    cgroup: Option<RawFd>,
    status: RawFd,
}

impl<'a> Plan<'a> {
    fn new(spec: &'a Spawn<'_>, status: &OwnedFd) -> Self {
        Self {
            program: &spec.program,
            argv: pointers(&spec.argv),
            env: pointers(&spec.env),
            cwd: &spec.cwd,
            fds: spec
                .fds
                .iter()
                .map(std::os::fd::AsRawFd::as_raw_fd)
                .collect(),
            cgroup: spec.cgroup.as_ref().map(std::os::fd::AsRawFd::as_raw_fd),
            status: status.as_raw_fd(),
        }
    }

    /// The child's life until `execve`.
    fn run(&mut self) -> ! {
        if self.prepare().is_some() {
            // SAFETY: all pointers are to NUL-terminated strings and NULL-terminated
            // arrays that live in `self`.
            unsafe {
                libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.env.as_ptr());
            }
        }
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        let bytes = errno.to_ne_bytes();
        // SAFETY: `bytes` is four bytes long; `_exit` runs no handlers of the parent.
        unsafe {
            libc::write(self.status, bytes.as_ptr().cast(), bytes.len());
            libc::_exit(NOT_EXECUTED);
        }
    }

    /// `None` after a system call failed; errno then says why.
    fn prepare(&mut self) -> Option<()> {
        // SAFETY: system calls with integer arguments, or with pointers to live,
        // NUL-terminated memory; none of them allocates.
        unsafe {
            // No terminal, no signals meant for our group.
            succeeded(libc::setsid())?;
            default_signals();
            if let Some(cgroup) = self.cgroup {
                // 0 means the writer. Where it is refused the job has no cgroup.
                libc::write(cgroup, c"0".as_ptr().cast(), 1);
            }
            succeeded(libc::chdir(self.cwd.as_ptr()))?;
        }
        self.place_fds()
    }

    fn place_fds(&mut self) -> Option<()> {
        // SAFETY: as in `prepare`.
        unsafe {
            self.status = stage(self.status)?;
            for fd in &mut self.fds {
                *fd = stage(*fd)?;
            }
            let mut place: RawFd = 0;
            for fd in &self.fds {
                succeeded(libc::dup2(*fd, place))?;
                place += 1;
            }
            // Close-on-exec instead of closing: the status pipe is needed until then.
            let closed = libc::syscall(
                libc::SYS_close_range,
                place,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            (closed == 0).then_some(())
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let ends = std::iter::once(ptr::null());
    strings
        .iter()
        .map(|text| text.as_ptr())
        .chain(ends)
        .collect()
}

/// # Safety
/// Only in a process that may lose `fd`'s close-on-exec twin: no memory is touched.
unsafe fn stage(fd: RawFd) -> Option<RawFd> {
    // SAFETY: integers only.
    let staged = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, STAGING) };
    succeeded(staged)?;
    Some(staged)
}

/// Default action for every signal, none blocked: ignored signals survive `execve`, and
/// an engine that ignores SIGINT cannot be cancelled.
///
/// # Safety
/// Only where no handler of this process is needed any more.
pub(crate) unsafe fn default_signals() {
    // The kernel's `struct sigaction`, larger than on any architecture: zero is SIG_DFL,
    // no flags, empty mask.
    let default = [0_u64; 8];
    // SAFETY: the calls read the live array and the live, zeroed set (which is a valid
    // `sigset_t`), and write nothing. The plain system call, since the C library refuses
    // its own two signals, which a parent may have left ignored.
    unsafe {
        for signal in 1..=LAST_SIGNAL {
            // Refused for SIGKILL and SIGSTOP, which nobody can ignore.
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                SIGNAL_SET_BYTES,
            );
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

fn succeeded(result: i32) -> Option<()> {
    (result >= 0).then_some(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn shell(script: &str, output: BorrowedFd<'_>) -> io::Result<i32> {
        let null = File::open("/dev/null").expect("null");
        spawn(&Spawn {
            program: c"/bin/sh".to_owned(),
            argv: c_strings(["sh", "-c", script]).expect("argv"),
            env: c_strings(["ONLY=this"]).expect("env"),
            cwd: c"/proc/self".to_owned(),
            fds: vec![null.as_fd(), output, null.as_fd()],
            cgroup: None,
            numbering: Numbering::Shared,
        })
    }

    fn printed(script: &str) -> String {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
        let pid = shell(script, write.as_fd()).expect("spawn");
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).expect("read");
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).expect("wait");
        text
    }

    #[test]
    fn a_child_has_the_named_environment_and_descriptors_only() {
        let text = printed("env -u PWD -u _ -u OLDPWD -u SHLVL; ls /proc/$$/fd");
        assert_eq!(text, "ONLY=this\n0\n1\n2\n");
    }

    #[test]
    fn a_child_leads_its_session_and_ignores_no_signal() {
        let text = printed(
            "read pid comm state ppid group session rest < /proc/$$/stat; \
             [ $session = $$ ] && echo own; exec grep -E 'SigBlk|SigIgn' /proc/self/status",
        );
        let zeros = "0".repeat(16);
        assert_eq!(text, format!("own\nSigBlk:\t{zeros}\nSigIgn:\t{zeros}\n"));
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_an_error_of_the_caller() {
        let error = spawn(&Spawn {
            program: c"/nowhere/engine".to_owned(),
            argv: vec![],
            env: vec![],
            cwd: c"/".to_owned(),
            fds: vec![],
            cgroup: None,
            numbering: Numbering::Shared,
        })
        .expect_err("no such program");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
