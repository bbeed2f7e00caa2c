//! A build as the queue sees it, looked at again and again: when each completion is there,
//! against the clock of the engine that printed it, and which states are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use benches::rows::Rows;
use proto::v1::{GetJobRequest, LedgerEvent};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::sim::Client;
use crate::stats::Series;

/// Between two looks: how much later than it was a completion seems at most.
const LOOK: Duration = Duration::from_millis(50);

/// What was seen of a build.
pub struct Watched {
    /// From the print of each completion to the look that found it.
    pub late: Series,
    /// States that the queue had of it.
    pub states: usize,
    /// From the first of them to the last look.
    pub lasted: Duration,
}

/// A watch under way.
pub struct Watch {
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<Watched>>,
}

impl Watch {
    /// Begins to look.
    pub fn start(client: &Client, database: &Path, job: &str) -> Result<Self> {
        let (end, ended) = oneshot::channel();
        let rows = Rows::open(database)?;
        let (client, job) = (client.clone(), job.to_owned());
        let task = tokio::spawn(look(client, rows, job, ended));
        Ok(Self { end, task })
    }

    /// One last look.
    pub async fn end(self) -> Result<Watched> {
        // A task that is gone says why below.
        let _ = self.end.send(());
        self.task.await?
    }
}

async fn look(
    mut client: Client,
    rows: Rows,
    job: String,
    mut ended: oneshot::Receiver<()>,
) -> Result<Watched> {
    let mut found: BTreeMap<u64, Duration> = BTreeMap::new();
    let mut states: BTreeSet<u64> = BTreeSet::new();
    let mut first: Option<Instant> = None;
    loop {
        let last = tokio::time::timeout(LOOK, &mut ended).await.is_ok();
        let request = GetJobRequest { id: job.clone() };
        let reply = client.management.get_ledger(request).await?.into_inner();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        for entry in reply.entries {
            if entry.event() == LedgerEvent::Complete {
                let printed = Duration::from_millis(entry.time_ms.unsigned_abs());
                let late = now.saturating_sub(printed);
                found.entry(entry.seq).or_insert(late);
            }
        }
        states.extend(rows.serials(&job)?);
        if !states.is_empty() {
            first.get_or_insert_with(Instant::now);
        }
        if last {
            break;
        }
    }
    let mut late = Series::default();
    found.into_values().for_each(|value| late.push(value));
    Ok(Watched {
        late,
        states: states.len(),
        lasted: first.map_or(Duration::ZERO, |first| first.elapsed()),
    })
}
