//! How long what has come to its end is kept.

use std::time::Duration;

/// A day.
const DAY: Duration = Duration::from_hours(24);

/// How long a queue keeps what nothing needs any more; without a time, for ever. What a
/// workspace, a daemon or a person may still ask for is kept beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Jobs with their builds and logs, from their end; deleted workspaces, from their
    /// deletion.
    pub jobs: Option<Duration>,
    /// Logs of jobs, from the job's end.
    pub logs: Option<Duration>,
    /// States of a workspace.
    pub states: KeepStates,
    /// Lines of the audit log.
    pub audit: Option<Duration>,
    /// Daemons, from when they were last seen.
    pub daemons: Option<Duration>,
    /// After a lease has ended, its daemon may still bring what it made: for so long beyond
    /// it nothing of the job goes.
    pub late: Duration,
}

/// Which states of a workspace are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepStates {
    /// All.
    All,
    /// So many, the newest.
    Newest(u32),
    /// Those that are younger than this.
    Younger(Duration),
}

impl Default for Retention {
    /// Longer than anybody has asked for an old job, log or state yet.
    fn default() -> Self {
        Self {
            jobs: Some(DAY * 365),
            logs: Some(DAY * 90),
            states: KeepStates::Younger(DAY * 365),
            audit: Some(DAY * 365),
            daemons: Some(DAY * 30),
            late: DAY,
        }
    }
}

impl Retention {
    /// So many days; for ever when there are none.
    #[must_use]
    pub fn days(days: u32) -> Option<Duration> {
        (days > 0).then(|| DAY * days)
    }
}

/// How many went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs of log lines of jobs that stay.
    pub logs: u64,
    /// Jobs with their builds and logs.
    pub jobs: u64,
    /// States.
    pub states: u64,
    /// Deleted workspaces.
    pub workspaces: u64,
    /// Daemons.
    pub daemons: u64,
    /// Sets of tags.
    pub tagsets: u64,
    /// Lines of the audit log.
    pub audit: u64,
}

impl Pruned {
    /// Each kind with its name.
    #[must_use]
    pub fn by_kind(&self) -> [(&'static str, u64); 7] {
        [
            ("logs", self.logs),
            ("jobs", self.jobs),
            ("states", self.states),
            ("workspaces", self.workspaces),
            ("daemons", self.daemons),
            ("tagsets", self.tagsets),
            ("audit", self.audit),
        ]
    }
}
