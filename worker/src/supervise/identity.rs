//! Who a supervisor is, in its lock file, for a daemon that did not start it. A process id
//! alone is nobody: it counts only on the same boot, in the same pid namespace and with
//! the same start time.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::cgroup::JobCgroup;
use super::tree::Listed;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    boot: String,
    pid_namespace: u64,
    pub pid: i32,
    start: u64,
    /// The job's cgroup, where it has one.
    pub cgroup: Option<PathBuf>,
}

/// The daemon's share, before there is a supervisor: where its numbers count. A supervisor
/// in a namespace of its own could not name the one around it. Replaces what the locked
/// file holds.
pub(crate) fn announce(lock: &fs::File) -> io::Result<()> {
    let (boot, pid_namespace) = place()?;
    lock.set_len(0)?;
    (&*lock).write_all(format!("{boot}\n{pid_namespace}\n").as_bytes())
}

/// The supervisor's share: this process, by the daemon's numbers.
pub(crate) fn sign(lock: &OwnedFd, cgroup: Option<&JobCgroup>) -> io::Result<()> {
    let own = Listed::own()?;
    let cgroup = cgroup.map_or(Path::new(""), JobCgroup::dir);
    let text = format!("{}\n{}\n{}\n", own.pid, own.start, cgroup.display());
    fs::File::from(lock.try_clone()?).write_all(text.as_bytes())
}

impl Identity {
    /// What a lock file says; `None` when it says nothing whole.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.split('\n');
        let boot = lines.next()?.to_owned();
        let pid_namespace = lines.next()?.parse().ok()?;
        let pid = lines.next()?.parse().ok()?;
        let start = lines.next()?.parse().ok()?;
        let cgroup = lines.next()?;
        // The text ends with a newline, or it was torn.
        lines.next()?;
        Some(Self {
            boot,
            pid_namespace,
            pid,
            start,
            cgroup: (!cgroup.is_empty()).then(|| PathBuf::from(cgroup)),
        })
    }

    /// The process, if it still is the one that wrote this.
    pub(crate) fn process(&self) -> Option<Listed> {
        let here = place().ok()? == (self.boot.clone(), self.pid_namespace);
        let listed = Listed::of(self.pid).ok().filter(|_| here)?;
        (listed.start == self.start).then_some(listed)
    }
}

/// This boot of this host, and the numbering of its processes.
fn place() -> io::Result<(String, u64)> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let namespace = fs::metadata("/proc/self/ns/pid")?.ino();
    Ok((boot.trim().to_owned(), namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_found_again_and_only_while_all_of_it_agrees() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("lock");
        let own = Listed::own().expect("own");
        let mut options = fs::OpenOptions::new();
        let file = options.append(true).create(true).open(&path).expect("file");
        // Twice: a directory may have had another supervisor.
        for _ in 0..2 {
            announce(&file).expect("announce");
            assert_eq!(Identity::read(&path), None, "nobody has signed");
            let lock = file.try_clone().expect("lock").into();
            sign(&lock, None).expect("sign");
        }
        let own_identity = Identity::read(&path).expect("read");
        assert_eq!(own_identity.process(), Some(own));
        let strangers = [
            Identity {
                start: own.start + 1,
                ..own_identity.clone()
            },
            Identity {
                boot: "other".to_owned(),
                ..own_identity.clone()
            },
            Identity {
                pid_namespace: 1,
                ..own_identity.clone()
            },
        ];
        for stranger in strangers {
            assert_eq!(stranger.process(), None);
        }
        fs::write(&path, "12\n34\n").expect("torn");
        assert_eq!(Identity::read(&path), None);
    }
}
