//! What jobs leave behind: directories, processes, control groups. After a job there must
//! be nothing of all this.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wait::pause;

/// Everything of a job ends within its shortest graces.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process as /proc shows it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its id.
    pub pid: i32,
    /// Of its parent.
    pub parent: i32,
    /// Its arguments.
    pub argv: Vec<String>,
    cwd: PathBuf,
}

impl Seen {
    fn of(pid: i32) -> Option<Self> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let argv = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        let argv = argv
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty());
        Some(Self {
            pid,
            parent,
            argv: argv
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect(),
            cwd: std::fs::read_link(dir.join("cwd")).unwrap_or_default(),
        })
    }

    /// Whether it is the process of ours with this role: `supervise`, `worker`.
    pub fn is(&self, role: &str) -> bool {
        self.argv.get(1).is_some_and(|word| word == role)
    }
}

/// All processes of this machine.
pub fn processes() -> Vec<Seen> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .flatten()
        .filter_map(|entry| Seen::of(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// Children, their children, and so on.
pub fn descendants(of: i32) -> Vec<Seen> {
    let all = processes();
    let mut found: Vec<Seen> = Vec::new();
    let mut next = vec![of];
    while let Some(parent) = next.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            next.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// Waits until killed processes do nothing any more. One whose write is on its way to a disk
/// ends only behind that.
pub fn wait_for_ends(killed: &[Seen]) {
    let deadline = Instant::now() + PATIENCE;
    while let Some(process) = killed.iter().find(|process| runs(process.pid)) {
        assert!(Instant::now() < deadline, "it does not end: {process:?}");
        pause();
    }
}

/// Whether a thread of it is more than its exit status.
fn runs(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut states = threads.flatten().filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    });
    states.any(|state| !matches!(state, 'Z' | 'X'))
}

/// Waits until nothing of the jobs of the daemon in `directory` is there any more, neither
/// below the process `daemon` nor anywhere else.
pub fn wait_for_nothing(directory: &Path, daemon: Option<i32>, jobs: &[String]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = left(directory, daemon, jobs);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
        pause();
    }
}

fn left(directory: &Path, daemon: Option<i32>, jobs: &[String]) -> Vec<String> {
    let mut left: Vec<String> = std::fs::read_dir(directory.join("jobs"))
        .map(|entries| {
            entries
                .flatten()
                .map(|e| format!("{:?}", e.path()))
                .collect()
        })
        .unwrap_or_default();
    let below = daemon.map(descendants).unwrap_or_default();
    left.extend(below.iter().map(|process| format!("{process:?}")));
    let there = processes();
    let there = there
        .iter()
        .filter(|process| process.cwd.starts_with(directory.join("jobs")));
    left.extend(there.map(|process| format!("{process:?}")));
    left.extend(groups(jobs).iter().map(|group| format!("{group:?}")));
    left
}

/// Control groups named after one of `jobs`, wherever this process's own may be.
fn groups(jobs: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = next.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if jobs
                .iter()
                .any(|job| name.starts_with(&format!("job-{job}")))
            {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                next.push(entry.path());
            }
        }
    }
    found
}
