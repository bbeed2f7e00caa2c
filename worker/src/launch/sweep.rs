//! Ending what a dead supervisor left, and waiting for one that an earlier daemon started.

use std::fs::OpenOptions;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::wait::WaitPidFlag;
use proto::timings;
use rustix::fs::{FlockOperation, flock};

use super::supervisors;
use crate::job_dir::JobDir;
use crate::supervise::cgroup::JobCgroup;
use crate::supervise::identity::Identity;
use crate::supervise::tree;

/// Between two looks at something that ends without telling us.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Whether a supervisor of this job lives, started by whichever daemon.
///
/// # Errors
/// The lock file cannot be opened.
pub fn supervisor_lives(dir: &JobDir) -> io::Result<bool> {
    let path = dir.supervisor_lock();
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// At the start of a daemon: waits until the supervisor an earlier daemon left in this
/// job is gone, and kills it after `patience`. Blocks; not for an async thread.
///
/// # Errors
/// The lock cannot be read, or the supervisor outlived its kill.
pub fn outlive_supervisor(dir: &JobDir, patience: Duration) -> io::Result<()> {
    if gone_within(dir, patience)? {
        return Ok(());
    }
    if let Some(process) = signed(dir) {
        process.kill();
    }
    if gone_within(dir, timings::DYING)? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the supervisor of {} does not end", dir.root().display()),
    ))
}

fn gone_within(dir: &JobDir, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        // The init of a namespace lets go of its lock before the kernel has ended the
        // others, and is no zombie before that.
        if !supervisor_lives(dir)? && signed(dir).is_none_or(|process| process.zombie) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        pause();
    }
}

/// The process that has signed the lock file, while there is one.
fn signed(dir: &JobDir) -> Option<tree::Listed> {
    Identity::read(&dir.supervisor_lock())?.process()
}

/// Ends everything that is left of a job whose supervisor is dead: its cgroup, and every
/// child of this process that is no launched supervisor, until none is left. Blocks for
/// milliseconds as a rule; not for an async thread.
///
/// # Errors
/// A process did not die within `patience`.
pub fn sweep(dir: &JobDir, patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    let cgroup = Identity::read(&dir.supervisor_lock())
        .and_then(|identity| identity.cgroup)
        .and_then(|path| JobCgroup::at(&path, dir))
        // A supervisor that died young has written nothing.
        .or_else(|| JobCgroup::below_this_process(dir));
    loop {
        let empty = cgroup.as_ref().is_none_or(|group| {
            group.kill();
            !group.populated()
        });
        let strays = kill_strays()?;
        if empty && strays == 0 {
            break;
        }
        if Instant::now() >= until {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("processes of {} do not end", dir.root().display()),
            ));
        }
        pause();
    }
    if let Some(group) = cgroup {
        group.remove();
    }
    Ok(())
}

/// Kills and waits for children that are no supervisors; returns how many there were.
fn kill_strays() -> io::Result<usize> {
    // Only a subreaper is given strays; elsewhere the children are somebody's.
    if !prctl::get_child_subreaper()? {
        return Ok(0);
    }
    let own = std::process::id().cast_signed();
    let supervisors = supervisors();
    let ours = |pid| supervisors.as_ref().is_some_and(|set| set.contains(&pid));
    let mut strays = 0;
    for child in tree::list()? {
        if child.parent != own || ours(child.pid) {
            continue;
        }
        strays += 1;
        child.kill();
        let pid = nix::unistd::Pid::from_raw(child.pid);
        let _ = nix::sys::wait::waitpid(pid, Some(WaitPidFlag::WNOHANG));
    }
    Ok(strays)
}

/// The kernel tells nobody when somebody else's lock or process is gone.
#[expect(
    clippy::disallowed_methods,
    reason = "a bounded wait for a condition, on a thread that may block"
)]
fn pause() {
    std::thread::sleep(LOOK_AGAIN);
}
