//! Processes as /proc shows them: who plays which role, and who is left.

use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    parent: i32,
    argv: Vec<String>,
    exe: PathBuf,
}

impl Process {
    fn of(pid: i32) -> Option<Self> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        if fields.next()? == "Z" {
            return None;
        }
        let parent = fields.next()?.parse().ok()?;
        let argv = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        let words = argv
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty());
        Some(Self {
            pid,
            parent,
            argv: words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect(),
            exe: std::fs::read_link(dir.join("exe")).unwrap_or_default(),
        })
    }

    /// Whether it is the process of the product with this role: `supervise`, `worker`.
    pub fn is(&self, role: &str) -> bool {
        self.argv.get(1).is_some_and(|word| word == role)
    }

    /// Whether it is Terraform or OpenTofu itself.
    pub fn is_engine(&self) -> bool {
        let name = self.exe.file_name().unwrap_or_default();
        name == "terraform" || name == "tofu"
    }

    /// SIGKILL; one that is gone already is as good as killed.
    pub fn kill(&self) -> Result<()> {
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether any of its paths, arguments or variables lies below `dir`.
    fn mentions(&self, dir: &str) -> bool {
        let proc = PathBuf::from(format!("/proc/{}", self.pid));
        let cwd = std::fs::read_link(proc.join("cwd")).unwrap_or_default();
        let environ = std::fs::read(proc.join("environ")).unwrap_or_default();
        cwd.to_string_lossy().contains(dir)
            || self.argv.iter().any(|word| word.contains(dir))
            || String::from_utf8_lossy(&environ).contains(dir)
    }
}

fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Process::of(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// Children, their children, and so on.
pub fn descendants(of: u32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut next = vec![i32::try_from(of).unwrap_or_default()];
    while let Some(parent) = next.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            next.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// Every process that has to do with `dir`, other than `known`.
pub fn left(dir: &Path, known: &[u32]) -> Vec<String> {
    // With the slash, so that a directory with a longer name is another one.
    let dir = format!("{}/", dir.display());
    let known = |pid: i32| {
        known
            .iter()
            .any(|known| i64::from(*known) == i64::from(pid))
    };
    all()
        .into_iter()
        .filter(|process| !known(process.pid) && process.mentions(&dir))
        .map(|process| format!("process {} {:?}", process.pid, process.argv))
        .collect()
}

/// Control groups of the job, wherever this process's own may be.
pub fn groups(job: &str) -> Vec<String> {
    let wanted = format!("job-{job}");
    let mut found = Vec::new();
    let mut next = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = next.pop() {
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(&wanted) {
                found.push(format!("control group {}", entry.path().display()));
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                next.push(entry.path());
            }
        }
    }
    found
}
