//! The control group of a job, where this user may make one: `job-NAME-PLACE` with
//! `supervisor`, `worker` and `run`. PLACE tells job directories apart: two daemons of one
//! host may hold attempts of one job. It makes "end everything" one write, which nothing
//! that forks can outrun. Where it cannot be had, /proc is enough for what does not hide.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::job_dir::JobDir;

/// Which processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Supervisor,
    Worker,
    /// Engine, providers and what they start.
    Run,
}

impl Part {
    const ALL: [Self; 3] = [Self::Supervisor, Self::Worker, Self::Run];

    fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Worker => "worker",
            Self::Run => "run",
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobCgroup {
    dir: PathBuf,
}

impl JobCgroup {
    /// Makes the group of a job below this process's own; `None` where that is not allowed
    /// or there is no cgroup v2.
    pub(crate) fn create(job: &JobDir) -> Option<Self> {
        let group = Self {
            dir: own()?.join(group_name(job)?),
        };
        make(&group.dir).ok()?;
        for part in Part::ALL {
            if make(&group.dir.join(part.name())).is_err() {
                group.remove();
                return None;
            }
        }
        Some(group)
    }

    /// The group of a job below this process's own, if there is one.
    pub(crate) fn below_this_process(job: &JobDir) -> Option<Self> {
        Self::at(&own()?.join(group_name(job)?), job)
    }

    /// The group whose supervisor this process is.
    pub(crate) fn of_this_supervisor(job: &JobDir) -> Option<Self> {
        let own = own()?;
        if own.file_name()? != Part::Supervisor.name() {
            return None;
        }
        Self::at(own.parent()?, job)
    }

    /// The group at a path from a record, if it is the one of `job`.
    pub(crate) fn at(dir: &Path, job: &JobDir) -> Option<Self> {
        let is_it = dir.file_name()? == group_name(job)?.as_str() && dir.is_dir();
        is_it.then(|| Self {
            dir: dir.to_owned(),
        })
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file a process writes itself into to enter `part`.
    pub(crate) fn entrance(&self, part: Part) -> Option<File> {
        let path = self.dir.join(part.name()).join("cgroup.procs");
        OpenOptions::new().write(true).open(path).ok()
    }

    /// What the processes of `part` hold, where the memory controller counts it.
    pub(crate) fn memory_stat(&self, part: Part) -> Option<File> {
        File::open(self.dir.join(part.name()).join("memory.stat")).ok()
    }

    /// SIGKILL to all processes of `part` at once.
    pub(crate) fn kill_part(&self, part: Part) {
        let _ = fs::write(self.dir.join(part.name()).join("cgroup.kill"), "1");
    }

    /// SIGKILL to all processes of the job at once.
    pub(crate) fn kill(&self) {
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
    }

    /// Whether a process is left in it.
    pub(crate) fn populated(&self) -> bool {
        fs::read_to_string(self.dir.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// Removes the empty group.
    pub(crate) fn remove(&self) {
        for part in Part::ALL {
            let _ = fs::remove_dir(self.dir.join(part.name()));
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

fn group_name(job: &JobDir) -> Option<String> {
    let place = fs::metadata(job.root()).ok()?;
    let (device, inode) = (place.dev(), place.ino());
    Some(format!("job-{}-{device:x}.{inode:x}", job.name()))
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The directory of this process's cgroup v2.
fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    find(&mounts, &groups)
}

/// mountinfo: `id parent major:minor root mount-point options … - type source options`.
/// cgroup: `0::/path` is the one of version 2; a mount shows the part below its root.
fn find(mounts: &str, groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, point) = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        right
            .starts_with("cgroup2 ")
            .then(|| Some((fields.next()?, fields.next()?)))?
    })?;
    let below = Path::new(path).strip_prefix(root).ok()?;
    Some(Path::new(point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_own_group_is_found_on_hybrid_hosts_and_in_containers() {
        let found = find(MOUNTS, "4:memory:/x\n0::/user.slice/a\n");
        assert_eq!(
            found.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified/user.slice/a"))
        );
        let container = MOUNTS.replace("0:27 / ", "0:27 /pod ");
        let found = find(&container, "0::/pod/c\n");
        assert_eq!(
            found.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified/c"))
        );
        assert_eq!(find(&container, "0::/elsewhere\n"), None);
        assert_eq!(find("", "0::/\n"), None);
    }

    #[test]
    fn a_group_of_another_job_directory_is_not_taken_for_ours() {
        let place = tempfile::tempdir().expect("tempdir");
        let jobs = [place.path().join("a"), place.path().join("b")].map(|path| {
            fs::create_dir(&path).expect("jobs");
            JobDir::create(&path, "same").expect("job")
        });
        let group = place.path().join(group_name(&jobs[0]).expect("name"));
        fs::create_dir(&group).expect("group");
        assert!(JobCgroup::at(&group, &jobs[0]).is_some());
        assert!(JobCgroup::at(&group, &jobs[1]).is_none());
        assert!(JobCgroup::at(place.path(), &jobs[0]).is_none());
    }
}
