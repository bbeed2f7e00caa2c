//! How much memory one job may hold: what the operator says, or a share of what this
//! process may use. Supervisors keep to it (`worker::supervise`), so that the kernel, which
//! asks nobody and saves no state, does not have to.

use std::fs;
use std::path::{Path, PathBuf};

use proto::limits::{JOB_MEMORY_FLOOR, JOBS_MEMORY_PERCENT};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobMemory {
    /// The jobs of all slots share what this process may use.
    Share,
    /// So many bytes.
    Limit(u64),
    /// Only the kernel's.
    Unlimited,
}

impl JobMemory {
    /// The limit of one job, `None` when there is none.
    #[must_use]
    pub fn bytes(self, slots: u32) -> Option<u64> {
        match self {
            Self::Share => usable().map(|usable| share(usable, slots)),
            Self::Limit(bytes) => Some(bytes),
            Self::Unlimited => None,
        }
    }
}

/// All jobs together get a part, each at least what engines need, none more than all.
fn share(usable: u64, slots: u32) -> u64 {
    let jobs = usable / 100 * JOBS_MEMORY_PERCENT;
    (jobs / u64::from(slots.max(1)))
        .max(JOB_MEMORY_FLOOR)
        .min(jobs)
}

/// The host's memory, or what a cgroup around this process leaves of it.
fn usable() -> Option<u64> {
    let host = fs::read_to_string("/proc/meminfo").ok()?;
    let host = total(&host)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter();
    // `max`, the word for none, is no number.
    let limits = limits.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    Some(limits.fold(host, u64::min))
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The files that may limit the memory of a process in `groups` (/proc/self/cgroup), its
/// ancestors' too. Inside a container the path may be the host's, and the root is the
/// container's.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let below = path.trim_start_matches('/');
        files.extend(
            Path::new(below)
                .ancestors()
                .map(|it| Path::new(root).join(it).join(name)),
        );
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn jobs_share_four_fifths_and_none_gets_less_than_engines_need() {
        // 80 % of 100 units, whatever the unit.
        let usable = 100 * GIB;
        assert_eq!(share(usable, 1), 80 * GIB);
        assert_eq!(share(usable, 10), 8 * GIB);
        assert_eq!(share(usable, 1_000), GIB, "the floor");
        assert!(share(GIB, 4) < GIB, "never more than there is for jobs");
        assert_eq!(JobMemory::Limit(5).bytes(9), Some(5));
        assert_eq!(JobMemory::Unlimited.bytes(9), None);
    }

    #[test]
    fn the_hosts_memory_is_known_here() {
        assert_eq!(total("MemTotal:       24684092 kB\n"), Some(25_276_510_208));
        assert!(usable().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn limits_of_both_versions_and_of_ancestors_count() {
        let files = limit_files("4:memory:/a\n3:cpuset:/\n0::/b/c\n");
        let expected = [
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/b/c/memory.max",
            "/sys/fs/cgroup/b/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
    }
}
