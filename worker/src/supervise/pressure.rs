//! How short memory and disk are, from the kernel only: no more than a few reads of open
//! files, four times a second, for the life of an engine.
//!
//! Memory is what cannot be dropped: pages of engine, providers and all they started that
//! no file backs. The job's cgroup counts them where it has the memory controller; else
//! they are added up over the tree, which is listed anew only after a process was started
//! somewhere: the last number given away stands in `/proc/loadavg`.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use proto::limits;
use proto::v1::{InterruptReason, Interrupted};
use rustix::fs::{Mode, OFlags};

use super::cgroup::{JobCgroup, Part};
use super::clock::Instant;
use super::tree;
use crate::job_dir::JobDir;

/// Between two listings at least, where a listing shows the whole host.
const LIST: Duration = Duration::from_secs(1);

/// Longest text that is read: `statm` has seven numbers, of `memory.stat` the first line
/// counts.
const TEXT: usize = 160;

/// What ran short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressure {
    /// Engine and all it started hold more than the job may.
    Memory { limit: u64, found: u64 },
    /// Less is free than a state and the job's ending may need.
    Disk { limit: u64, found: u64 },
}

impl Pressure {
    /// As it travels.
    pub(super) fn to_frame(self) -> Interrupted {
        let (reason, limit_bytes, found_bytes) = match self {
            Self::Memory { limit, found } => (InterruptReason::Memory, limit, found),
            Self::Disk { limit, found } => (InterruptReason::Disk, limit, found),
        };
        Interrupted {
            reason: reason.into(),
            limit_bytes,
            found_bytes,
        }
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { limit, found } => {
                write!(
                    f,
                    "the engine and what it started hold {found} bytes of memory, over the limit of {limit}"
                )
            }
            Self::Disk { limit, found } => {
                write!(
                    f,
                    "{found} bytes of disk are free, under the limit of {limit}"
                )
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gauge {
    /// Of the file system that everything of the job lies in.
    dir: OwnedFd,
    memory_limit: Option<u64>,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Cgroup(File),
    Tree(Tree),
}

impl Gauge {
    /// Without a limit of memory until there is one.
    pub(super) fn new(dir: &JobDir, cgroup: Option<&JobCgroup>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let counted = cgroup.and_then(|cgroup| cgroup.memory_stat(Part::Run));
        Ok(Self {
            dir: rustix::fs::open(dir.root(), flags, Mode::empty())?,
            memory_limit: None,
            memory: counted.map_or_else(|| Memory::Tree(Tree::default()), Memory::Cgroup),
        })
    }

    /// What engine and all it started may hold.
    pub(super) fn limit_memory(&mut self, limit: Option<u64>) {
        self.memory_limit = limit;
    }

    /// What runs short, disk first: it has the cure. `worker` does not count.
    pub(super) fn read(&mut self, worker: Option<i32>, now: Instant) -> Option<Pressure> {
        self.disk().or_else(|| self.memory(worker, now))
    }

    fn disk(&self) -> Option<Pressure> {
        let stat = rustix::fs::fstatvfs(&self.dir).ok()?;
        // File systems without a size have no end either.
        let sized = stat.f_blocks > 0;
        let found = stat.f_bavail.saturating_mul(stat.f_frsize);
        let limit = limits::STATE_RESERVE;
        (sized && found < limit).then_some(Pressure::Disk { limit, found })
    }

    fn memory(&mut self, worker: Option<i32>, now: Instant) -> Option<Pressure> {
        let limit = self.memory_limit?;
        let found = match &mut self.memory {
            Memory::Cgroup(stat) => anonymous(stat)?,
            Memory::Tree(tree) => tree.anonymous(worker, now),
        };
        (found > limit).then_some(Pressure::Memory { limit, found })
    }
}

/// The processes whose memory counts, each by its open `statm`.
#[derive(Debug, Default)]
struct Tree {
    loadavg: Option<File>,
    /// The number that was given away last when they were listed.
    newest: Option<u64>,
    list_after: Option<Instant>,
    processes: Vec<File>,
}

impl Tree {
    fn anonymous(&mut self, worker: Option<i32>, now: Instant) -> u64 {
        let newest = self.newest();
        let may_list = self.list_after.is_none_or(|after| after <= now);
        if may_list && (newest.is_none() || newest != self.newest) {
            self.list(worker, now);
            self.newest = newest;
        }
        let page = rustix::param::page_size() as u64;
        let mut pages = 0;
        // One that has ended cannot be read any more.
        self.processes.retain(|statm| {
            let own = private_pages(statm);
            pages += own.unwrap_or(0);
            own.is_some()
        });
        pages * page
    }

    fn list(&mut self, worker: Option<i32>, now: Instant) {
        let own = std::process::id();
        // In a namespace of our own a listing shows this job and nothing else.
        self.list_after = (own != 1).then(|| now.after(LIST));
        let Ok(found) = tree::descendants(own.cast_signed(), worker) else {
            return;
        };
        let statm = |pid| File::open(format!("/proc/{pid}/statm")).ok();
        self.processes.clear();
        self.processes
            .extend(found.iter().filter_map(|process| statm(process.pid)));
    }

    /// proc(5), `/proc/loadavg`: the last field.
    fn newest(&mut self) -> Option<u64> {
        if self.loadavg.is_none() {
            self.loadavg = File::open("/proc/loadavg").ok();
        }
        let mut bytes = [0; TEXT];
        let text = read(self.loadavg.as_ref()?, &mut bytes)?;
        text.split_ascii_whitespace().next_back()?.parse().ok()
    }
}

/// proc(5), `/proc/pid/statm`: resident (2) less those that files back (3).
fn private_pages(statm: &File) -> Option<u64> {
    let mut bytes = [0; TEXT];
    let mut fields = read(statm, &mut bytes)?.split_ascii_whitespace().skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    let shared: u64 = fields.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared))
}

/// cgroups(7), `memory.stat`: begins with `anon BYTES`.
fn anonymous(stat: &File) -> Option<u64> {
    let mut bytes = [0; TEXT];
    let line = read(stat, &mut bytes)?.lines().next()?;
    line.strip_prefix("anon ")?.trim().parse().ok()
}

/// The beginning of a file of the kernel's, as it is now.
fn read<'a>(file: &File, bytes: &'a mut [u8; TEXT]) -> Option<&'a str> {
    let count = file.read_at(bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..count]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge() -> (tempfile::TempDir, Gauge) {
        let jobs = tempfile::tempdir().expect("tempdir");
        let dir = JobDir::create(jobs.path(), "a").expect("job");
        let gauge = Gauge::new(&dir, None).expect("gauge");
        (jobs, gauge)
    }

    #[test]
    fn the_memory_of_a_child_counts_once_it_is_over_the_limit() {
        let (_jobs, mut gauge) = gauge();
        let hold = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo ready; read end";
        let mut child = std::process::Command::new("sh")
            .args(["-c", hold])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("shell");
        let mut ready = [0; 6];
        let output = child.stdout.as_mut().expect("output");
        io::Read::read_exact(output, &mut ready).expect("ready");
        assert_eq!(gauge.read(None, Instant::now()), None, "no limit");
        gauge.limit_memory(Some(30_000_000));
        let found = gauge.read(None, Instant::now());
        assert!(
            matches!(found, Some(Pressure::Memory { limit: 30_000_000, found }) if found > 40_000_000),
            "{found:?}"
        );
        let spared = Some(child.id().cast_signed());
        let (_jobs, mut of_worker) = self::gauge();
        of_worker.limit_memory(Some(30_000_000));
        assert_eq!(of_worker.read(spared, Instant::now()), None, "a worker");
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(gauge.read(None, Instant::now()), None, "it is gone");
    }

    #[test]
    fn the_cgroups_own_figure_is_its_first_line() {
        let mut file = tempfile::tempfile().expect("file");
        io::Write::write_all(&mut file, b"anon 4096\nfile 99999\n").expect("write");
        assert_eq!(anonymous(&file), Some(4096));
    }
}
