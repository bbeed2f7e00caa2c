//! Many simulated daemons, each with a job before its gate, that die at the same moment:
//! until other daemons hold all of their jobs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use crate::sim::{HandOut, Queue, SimDaemon};

/// The store settles in twenty seconds; no lease ends before.
const SETTLED: Duration = Duration::from_secs(22);
/// Between two heartbeats of a daemon that lives.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Nothing takes this long.
const LONG: Duration = Duration::from_secs(120);

/// How they die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Their connections end with them.
    Killed,
    /// Nothing is heard of them any more.
    Silent,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed at once",
            Self::Silent => "silent at once",
        })
    }
}

/// From their death until the last job is confirmed by another daemon.
pub async fn run(crowd: usize, how: How) -> Result<Duration> {
    let queue = Queue::start().await?;
    let up = Instant::now();
    let mut client = queue.client().await?;
    let key = queue.key(&mut client, BTreeMap::new()).await?;
    let archive = client.upload(b"bench").await?;
    let mut doomed = Vec::new();
    for index in 0..crowd {
        client.submit(&archive).await?;
        let mut daemon = queue.daemon(&key, &format!("doomed-{index}")).await?;
        let held = daemon.hold().await?;
        doomed.push((daemon, held));
    }
    while up.elapsed() < SETTLED {
        for (daemon, held) in &mut doomed {
            held.beat(daemon).await?;
        }
        tokio::time::sleep(HEARTBEAT / 3).await;
    }
    let mut heirs = JoinSet::new();
    for index in 0..crowd {
        let mut daemon = queue.daemon(&key, &format!("heir-{index}")).await?;
        heirs.spawn(async move { heir(&mut daemon).await });
    }
    for (daemon, held) in &mut doomed {
        held.beat(daemon).await?;
    }
    let died = Instant::now();
    // Silent ones keep their connections, and say no more.
    let silent = match how {
        How::Killed => {
            drop(doomed);
            None
        }
        How::Silent => Some(doomed),
    };
    let mut inherited = 0;
    while let Some(heir) = tokio::time::timeout(LONG, heirs.join_next()).await? {
        heir??;
        inherited += 1;
    }
    let took = died.elapsed();
    ensure!(inherited == crowd, "{inherited} of {crowd} jobs");
    drop(silent);
    queue.stop().await;
    Ok(took)
}

async fn heir(daemon: &mut SimDaemon) -> Result<()> {
    let hand_out: HandOut = daemon.acquire().await?.job().await?;
    let job = hand_out.confirm().await?;
    let attempt = job.lease.context("job without lease")?.attempt;
    ensure!(attempt == 2, "attempt {attempt}");
    Ok(())
}
