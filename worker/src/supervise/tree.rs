//! The processes below this one, from /proc, and the end of them.
//!
//! A listing is a snapshot of something that moves: a process may fork behind the cursor.
//! So nobody is gone before two listings in a row were empty, and each kill goes to the
//! very process that was listed, by pidfd and start time.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process as it was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Listed {
    /// Its id.
    pub pid: i32,
    /// Who would be told of its end.
    pub parent: i32,
    /// Clock ticks from boot to its start: tells it from a later one of the same id.
    pub start: u64,
    /// Dead, not waited for yet.
    pub zombie: bool,
}

impl Listed {
    /// The living or dead process `pid`.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        Self::read(&format!("/proc/{pid}/stat"))
    }

    /// This process, by the numbers of whoever mounted `/proc`.
    pub(crate) fn own() -> io::Result<Self> {
        Self::read("/proc/self/stat")
    }

    fn read(path: &str) -> io::Result<Self> {
        parse(&fs::read(path)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// SIGKILL to exactly this process.
    pub(crate) fn kill(&self) {
        let _ = self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = Pid::from_raw(self.pid).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        // The id may have been given away between listing and opening, not after.
        if Self::of(self.pid)?.start == self.start {
            pidfd_send_signal(pidfd, signal)?;
        }
        Ok(())
    }
}

/// Every process of this pid namespace.
pub(crate) fn list() -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may be gone by now.
        if let Ok(process) = Listed::of(pid) {
            listed.push(process);
        }
    }
    Ok(listed)
}

/// The living descendants of `root`, without `spared` and without itself. Children of a
/// spared process are not spared.
pub(crate) fn descendants(root: i32, spared: Option<i32>) -> io::Result<Vec<Listed>> {
    let listed = list()?;
    let mut children: HashMap<i32, Vec<Listed>> = HashMap::new();
    for process in listed {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut pending = vec![root];
    while let Some(parent) = pending.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            if !seen.insert(child.pid) {
                continue;
            }
            pending.push(child.pid);
            if !child.zombie && Some(child.pid) != spared {
                found.push(child);
            }
        }
    }
    Ok(found)
}

/// Whether a kill found anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Two listings in a row were empty.
    Nobody,
    /// Call again: a process that was killed takes a moment to go.
    Somebody,
}

/// SIGKILL to every descendant of this process but `spared`.
pub(crate) fn kill_descendants(spared: Option<i32>) -> Left {
    let own = std::process::id().cast_signed();
    for _ in 0..2 {
        // Without /proc nobody can say that nobody is left.
        let Ok(found) = descendants(own, spared) else {
            return Left::Somebody;
        };
        if !found.is_empty() {
            found.iter().for_each(Listed::kill);
            return Left::Somebody;
        }
    }
    Left::Nobody
}

/// `pid (name) state parent … start …`; the name may hold anything, also brackets.
fn parse(stat: &[u8]) -> Option<Listed> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let pid_end = stat.iter().position(|byte| *byte == b' ')?;
    let pid = std::str::from_utf8(&stat[..pid_end]).ok()?.parse().ok()?;
    let rest = std::str::from_utf8(stat.get(name_end + 2..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // proc_pid_stat(5): state is field 3, starttime field 22.
    let start = fields.nth(22 - 5)?.parse().ok()?;
    Some(Listed {
        pid,
        parent,
        start,
        zombie: matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_brackets_does_not_shift_the_fields() {
        let stat = b"7 (a) Z 9 (b) S 3 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 99";
        assert_eq!(
            parse(stat),
            Some(Listed {
                pid: 7,
                parent: 3,
                start: 4711,
                zombie: false,
            })
        );
        assert_eq!(parse(b"7 (a"), None);
    }

    #[test]
    fn this_process_is_a_descendant_of_its_parent_unless_spared() {
        let own = Listed::of(std::process::id().cast_signed()).expect("own");
        let of_parent = |spared| descendants(own.parent, spared).expect("list");
        assert!(of_parent(None).contains(&own));
        assert!(!of_parent(Some(own.pid)).contains(&own));
        assert!(!descendants(own.pid, None).expect("list").contains(&own));
    }

    #[test]
    fn a_kill_meant_for_an_earlier_process_of_the_same_id_hits_nobody() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep");
        let listed = Listed::of(child.id().cast_signed()).expect("listed");
        Listed {
            start: listed.start + 1,
            ..listed
        }
        .kill();
        assert!(!Listed::of(listed.pid).expect("listed").zombie);
        assert!(child.try_wait().expect("wait").is_none(), "still there");
        listed.kill();
        assert!(!child.wait().expect("wait").success());
    }
}
