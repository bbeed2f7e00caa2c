//! The most anonymous memory that each role of a fleet ever held, looked at often.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fleet::anonymous_kib;

/// Between two looks: shorter than a large state can be read, parsed and let go.
const EVERY: Duration = Duration::from_millis(10);

/// Looks until it is asked what it saw.
pub struct Peaks {
    over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, u64>>,
}

impl Peaks {
    /// Follows the queue, the daemon and every process below the daemon.
    pub fn watch(queue: u32, daemon: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let thread = std::thread::spawn(move || {
            let mut peaks = BTreeMap::new();
            while !ended.load(Ordering::Relaxed) {
                look(queue, daemon, &mut peaks);
                std::thread::sleep(EVERY);
            }
            peaks
        });
        Self { over, thread }
    }

    /// KiB by role.
    pub fn end(self) -> BTreeMap<String, u64> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn look(queue: u32, daemon: u32, peaks: &mut BTreeMap<String, u64>) {
    let mut note = |role: &str, pid| {
        let peak = peaks.entry(role.to_owned()).or_insert(0);
        *peak = (*peak).max(anonymous_kib(pid));
    };
    note("queue", queue);
    note("daemon", daemon);
    let mut parents = vec![daemon];
    while let Some(parent) = parents.pop() {
        for child in children(parent) {
            note(&role(child), child);
            parents.push(child);
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            let ids = list.split_whitespace().filter_map(|id| id.parse().ok());
            ids.collect::<Vec<_>>()
        })
        .collect()
}

/// `supervise` or `worker` of ours, else "engine".
pub fn role(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    let ours = words.next() == Some(b"provisionerd");
    let word = words.next().filter(|_| ours).unwrap_or(b"engine");
    String::from_utf8_lossy(word).into_owned()
}
