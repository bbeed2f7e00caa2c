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
    pub pid: i32,
    start: u64,
    boot: String,
    pid_namespace: u64,
    /// The job's cgroup, where it has one.
    pub cgroup: Option<PathBuf>,
}

impl Identity {
    /// This process.
    pub(crate) fn of_this_process(cgroup: Option<&JobCgroup>) -> io::Result<Self> {
        let (boot, pid_namespace) = place()?;
        let own = Listed::of(std::process::id().cast_signed())?;
        Ok(Self {
            pid: own.pid,
            start: own.start,
            boot,
            pid_namespace,
            cgroup: cgroup.map(|group| group.dir().to_owned()),
        })
    }

    /// Replaces what the locked file holds.
    pub(crate) fn write(&self, lock: &OwnedFd) -> io::Result<()> {
        let mut file = fs::File::from(lock.try_clone()?);
        file.set_len(0)?;
        let cgroup = self.cgroup.as_deref().unwrap_or(Path::new(""));
        let text = format!(
            "{}\n{}\n{}\n{}\n{}\n",
            self.pid,
            self.start,
            self.boot,
            self.pid_namespace,
            cgroup.display()
        );
        file.write_all(text.as_bytes())
    }

    /// What a lock file says; `None` when it says nothing whole.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.split('\n');
        let pid = lines.next()?.parse().ok()?;
        let start = lines.next()?.parse().ok()?;
        let boot = lines.next()?.to_owned();
        let pid_namespace = lines.next()?.parse().ok()?;
        let cgroup = lines.next()?;
        // The text ends with a newline, or it was torn.
        lines.next()?;
        Some(Self {
            pid,
            start,
            boot,
            pid_namespace,
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
        let own = Identity::of_this_process(None).expect("own");
        let file = fs::File::create(&path).expect("file");
        own.write(&file.into()).expect("write");
        let read = Identity::read(&path).expect("read");
        assert_eq!(read, own);
        assert_eq!(read.process().map(|listed| listed.pid), Some(own.pid));
        let strangers = [
            Identity {
                start: 1,
                ..own.clone()
            },
            Identity {
                boot: "other".to_owned(),
                ..own.clone()
            },
            Identity {
                pid_namespace: 1,
                ..own.clone()
            },
        ];
        for stranger in strangers {
            assert_eq!(stranger.process(), None);
        }
        fs::write(&path, "12\n34\n").expect("torn");
        assert_eq!(Identity::read(&path), None);
    }
}
