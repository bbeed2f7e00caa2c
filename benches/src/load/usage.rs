//! CPU and memory of processes as /proc shows them.

use std::time::{Duration, Instant};

/// Of the kernel's counters in /proc, on every Linux.
const TICKS_PER_SECOND: u64 = 100;

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1_000 / TICKS_PER_SECOND)
}

/// Fields of /proc/PID/stat behind the name, which may hold anything.
fn stat(pid: u32) -> Vec<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace();
    fields.map(|field| field.parse().unwrap_or(0)).collect()
}

/// User and system time of a process.
pub fn cpu(pid: u32) -> Duration {
    ticks(stat(pid).iter().skip(11).take(2).sum())
}

/// The same with that of its children that it waited for.
fn cpu_with_dead(pid: u32) -> Duration {
    ticks(stat(pid).iter().skip(11).take(4).sum())
}

/// User and system time of a process and all its children, living or not: of PostgreSQL.
pub fn cpu_with_children(pid: u32) -> Duration {
    let children = children(pid);
    let living: Duration = children.iter().map(|child| cpu_with_dead(*child)).sum();
    cpu_with_dead(pid) + living
}

/// Its living children.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let lists = tasks.into_iter().flatten().flatten();
    lists
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            let ids = list.split_whitespace().filter_map(|id| id.parse().ok());
            ids.collect::<Vec<u32>>()
        })
        .collect()
}

/// What all CPUs of the machine did, and what was taken from them by its host.
pub fn machine() -> (Duration, Duration) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let fields = first.split_whitespace().skip(1);
    let all: Vec<u64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
    let field = |index: usize| all.get(index).copied().unwrap_or(0);
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy = field(0) + field(1) + field(2) + field(5) + field(6);
    (ticks(busy), ticks(field(7)))
}

/// What was spent between two looks.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Wall time.
    pub wall: Duration,
    /// Of all queue processes.
    pub queue: Duration,
    /// Of the database's.
    pub store: Duration,
    /// Of this process.
    pub load: Duration,
    /// Of everybody else on the machine, and what its host took.
    pub others: Duration,
}

/// One look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    at: Instant,
    queue: Duration,
    store: Duration,
    load: Duration,
    machine: (Duration, Duration),
}

impl Look {
    /// At these queues and this database.
    pub fn at(queues: &[u32], postmaster: Option<u32>) -> Self {
        Self {
            at: Instant::now(),
            queue: queues.iter().map(|pid| cpu(*pid)).sum(),
            store: postmaster.map(cpu_with_children).unwrap_or_default(),
            load: cpu(std::process::id()),
            machine: machine(),
        }
    }

    /// Since an earlier look at the same.
    pub fn since(self, earlier: Self) -> Spent {
        let queue = self.queue.saturating_sub(earlier.queue);
        let store = self.store.saturating_sub(earlier.store);
        let load = self.load.saturating_sub(earlier.load);
        let busy = self.machine.0.saturating_sub(earlier.machine.0);
        let stolen = self.machine.1.saturating_sub(earlier.machine.1);
        Spent {
            wall: self.at - earlier.at,
            queue,
            store,
            load,
            others: busy.saturating_sub(queue + store + load) + stolen,
        }
    }
}

impl Spent {
    /// Cores that something took.
    pub fn cores(&self, of: Duration) -> f64 {
        of.as_secs_f64() / self.wall.as_secs_f64().max(1e-3)
    }

    /// For the document.
    pub fn json(&self) -> serde_json::Value {
        let cores = |of| (self.cores(of) * 1e3).round() / 1e3;
        serde_json::json!({
            "wall_s": self.wall.as_secs_f64(),
            "cores_queue": cores(self.queue),
            "cores_store": cores(self.store),
            "cores_load": cores(self.load),
            "cores_others": cores(self.others),
        })
    }
}
