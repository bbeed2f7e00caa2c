//! The pid namespace of a job: its supervisor is init there, so the kernel ends every
//! process of the job with it, whatever left its session or forked twice.
//!
//! ```text
//!  daemon ── clone3(NEWPID) ──▶ supervisor, pid 1 inside, a child of the daemon outside
//!                                └─ a mount namespace, and in it /proc of the inside
//! ```
//!
//! The numbers of programs and those in `/proc` must be the same, or a template that looks
//! there for itself finds a stranger: without a `/proc` of its own no job gets a
//! namespace. It takes CAP_SYS_ADMIN; a user namespace would give that to anybody, and with
//! it the kernel's larger half to attack, so none is made. Where a container or a unit has
//! closed parts of `/proc` by mounts, a fresh one would show them again: none there either.
#![allow(unsafe_code)]

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Mounts below `/proc` that hide nothing.
const HARMLESS: &[&str] = &["/proc/sys/fs/binfmt_misc"];

/// Whether a child shares this process's numbering of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    Shared,
    /// It is pid 1 of a namespace of its own.
    Own,
}

/// Forks. Nothing of this process's memory may be relied on to be whole in the child of
/// a process with threads: it makes system calls until `execve` or `_exit`.
///
/// # Safety
/// The child allocates nothing, takes no lock and never returns to Rust code that does.
///
/// # Errors
/// As fork(2) and clone(2).
pub(crate) unsafe fn fork(numbering: Numbering) -> io::Result<i32> {
    let forked = match numbering {
        // SAFETY: the caller's promise.
        Numbering::Shared => i64::from(unsafe { libc::fork() }),
        // SAFETY: the structure is live and of the size that is named; without a stack
        // the call returns twice, as fork does. The caller's promise covers the child.
        Numbering::Own => unsafe {
            let arguments = Clone3::new(libc::CLONE_NEWPID);
            libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Clone3>())
        },
    };
    match i32::try_from(forked) {
        Ok(pid) if pid >= 0 => Ok(pid),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// `struct clone_args` of the kernel in its first version (Linux 5.3).
#[repr(C)]
struct Clone3 {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

impl Clone3 {
    fn new(flags: i32) -> Self {
        Self {
            flags: u64::from(flags.unsigned_abs()),
            pidfd: 0,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
            stack: 0,
            stack_size: 0,
            tls: 0,
        }
    }
}

/// Tries all of it in a child that ends at once; `Err` says in words why not.
pub(crate) fn probe() -> Result<(), String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| format!("there is no /proc: {error}"))?;
    if let Some(place) = closed_part(&mounts) {
        return Err(format!(
            "{place} is closed by a mount, and a new /proc would show it"
        ));
    }
    let own = fs::read_link("/proc/self").map_err(|error| error.to_string())?;
    if own.to_str() != Some(std::process::id().to_string().as_str()) {
        return Err("/proc numbers processes otherwise than this process does".to_owned());
    }
    // SAFETY: the child makes system calls on static memory and ends.
    let child = match unsafe { fork(Numbering::Own) } {
        Ok(0) => unsafe { libc::_exit(mount_proc().map_or_else(|errno| errno, |()| 0)) },
        Ok(child) => child,
        Err(error) => return Err(format!("no pid namespace: {error}")),
    };
    use nix::sys::wait::{WaitStatus, waitpid};
    match waitpid(nix::unistd::Pid::from_raw(child), None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(WaitStatus::Exited(_, errno)) => {
            let error = io::Error::from_raw_os_error(errno);
            Err(format!("no /proc in a mount namespace: {error}"))
        }
        other => Err(format!("the child that tried it: {other:?}")),
    }
}

/// A place below `/proc` that a container or a unit has mounted something over.
fn closed_part(mounts: &str) -> Option<&str> {
    // proc_pid_mountinfo(5): the mount point is field 5, its options are field 6.
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(4);
        let (place, options) = (fields.next()?, fields.next()?);
        let below = place.starts_with("/proc/") && !HARMLESS.contains(&place);
        let read_only = place == "/proc" && options.split(',').any(|option| option == "ro");
        (below || read_only).then_some(place)
    })
}

/// A mount namespace whose `/proc` shows the pid namespace of the caller. Mounts of the
/// host still arrive; nothing that is mounted here leaves. System calls on static memory
/// only; the error is an errno.
fn mount_proc() -> Result<(), i32> {
    let errno = |result: i32| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO)),
    };
    // SAFETY: integers and pointers to static, NUL-terminated strings.
    unsafe {
        errno(libc::unshare(libc::CLONE_NEWNS))?;
        errno(libc::mount(
            ptr::null(),
            c"/".as_ptr(),
            ptr::null(),
            libc::MS_REC | libc::MS_SLAVE,
            ptr::null(),
        ))?;
        errno(libc::mount(
            c"proc".as_ptr(),
            c"/proc".as_ptr(),
            c"proc".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            ptr::null(),
        ))
    }
}

/// What a supervisor that is init of a namespace keeps of the one around it, to call its
/// children by the numbers that people outside see.
#[derive(Debug)]
pub(super) struct Outside(OwnedFd);

impl Outside {
    /// Makes this process at home in the namespace whose init it is; `None` when it is in
    /// its parent's. What is to be said of it by outer numbers must be asked before.
    pub(super) fn leave() -> io::Result<Option<Self>> {
        if std::process::id() != 1 {
            return Ok(None);
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = nix::fcntl::open("/proc", flags, Mode::empty())?;
        mount_proc().map_err(io::Error::from_raw_os_error)?;
        Ok(Some(Self(proc)))
    }

    /// The outer number of a child that was not waited for.
    pub(super) fn pid_of(&self, child: i32) -> Option<i32> {
        let pidfd = pidfd_open(Pid::from_raw(child)?, PidfdFlags::empty()).ok()?;
        // In a /proc of the outer namespace the kernel writes that one's numbers.
        let path = format!("self/fdinfo/{}", pidfd.as_raw_fd());
        let info = openat(&self.0, path.as_str(), OFlag::O_RDONLY, Mode::empty()).ok()?;
        let mut text = String::new();
        fs::File::from(info).read_to_string(&mut text).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        line.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
35 22 0:32 / /proc/sys/fs/binfmt_misc rw,relatime shared:14 - autofs systemd-1 rw
";

    #[test]
    fn a_proc_that_a_container_or_a_unit_has_closed_in_part_stays_closed() {
        assert_eq!(closed_part(HOST), None);
        let masked = format!("{HOST}36 22 0:5 /null /proc/kcore rw,nosuid - devtmpfs udev rw\n");
        assert_eq!(closed_part(&masked), Some("/proc/kcore"));
        let read_only = HOST.replace("/proc rw,", "/proc ro,");
        assert_eq!(closed_part(&read_only), Some("/proc"));
    }

    #[test]
    fn a_process_in_its_parents_namespace_stays_there() {
        assert!(Outside::leave().expect("nothing to do").is_none());
    }
}
