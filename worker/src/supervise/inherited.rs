//! The descriptors a process of ours is born with (`PROCESSES.md`, "Sockets and files").
//!
//! ```text
//!             0          1, 2             3        4            5
//!  supervisor /dev/null  processes.log    daemon   for worker   supervisor.lock
//!  worker     /dev/null  processes.log    daemon   supervisor   jail status
//!  jail       /dev/null  out/N-NAME.*     status
//! ```
//!
//! A supervisor in a pid namespace also holds the `/proc` of the one around it, and every
//! supervisor what it measures memory and disk by.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// First descriptor behind the standard ones.
pub(crate) const FIRST: RawFd = 3;

/// Which numbers were taken: an `OwnedFd` may exist once only.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Takes descriptor `number`, closed at the next `execve` from here on.
///
/// # Errors
/// It is not open, or was taken before.
pub(crate) fn take(number: RawFd) -> io::Result<OwnedFd> {
    let bit = u32::try_from(number)
        .ok()
        .and_then(|number| 1_u32.checked_shl(number))
        .ok_or(io::ErrorKind::InvalidInput)?;
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: borrowed for one call that fails cleanly when the number is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, as the call above has shown; the bit says that nobody else
    // owns it, since only this function takes inherited numbers.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes descriptor `number` as a socket.
///
/// # Errors
/// As [`take`].
pub(crate) fn take_socket(number: RawFd) -> io::Result<UnixStream> {
    take(number).map(UnixStream::from)
}

/// Has the kernel close everything behind the standard descriptors at the next `execve`.
///
/// # Errors
/// The kernel is older than 5.11.
pub(crate) fn close_rest_on_exec() -> io::Result<()> {
    // SAFETY: integers only; nothing is closed before `execve` ends this program anyway.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if closed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_no_number_of_ours_is_refused() {
        assert!(take(-1).is_err());
        assert!(take(1_000).is_err());
    }

    /// Other tests of this process have descriptors under every small number, so a fresh
    /// one asks for a number of ours that is not open.
    #[test]
    fn a_number_that_is_not_open_is_refused_and_no_number_is_given_twice() {
        let test = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "supervise::inherited::tests::in_a_fresh_process"])
            .args(["--ignored", "--test-threads", "1"])
            .output()
            .expect("a fresh process");
        let said = String::from_utf8_lossy(&test.stdout);
        assert!(test.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "run by the test above in a process of its own"]
    fn in_a_fresh_process() {
        let first = take(31).expect_err("not open");
        assert_eq!(first.raw_os_error(), Some(libc::EBADF));
        let again = take(31).expect_err("taken");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
