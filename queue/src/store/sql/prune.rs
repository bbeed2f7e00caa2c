//! Taking away what is older than anybody asked to keep: found by a reader, deleted by the
//! writer, which looks again, so that what became needed in between stays.
//!
//! A pass goes from what hangs on jobs to what nothing hangs on any more: logs, jobs with
//! their builds, states, deleted workspaces, then daemons, tags and the audit log. It is made
//! of transactions of at most [`BATCH`] rows with a pause behind each, so that others write
//! in between, and may break off anywhere. Of the replicas of one database only the one that
//! has the duty deletes. Blobs that nothing names afterwards are the sweep's.

mod jobs;
mod rest;
mod states;

use std::time::Duration;

use super::rows::values;
use super::{Database, Tx};
use crate::lease::millis;
use crate::store::Result;
use crate::store::model::{KeepStates, Pruned, ReplicaId, Retention};

/// Rows that one transaction deletes.
const BATCH: u32 = 200;

/// Behind each transaction.
const PAUSE: Duration = Duration::from_millis(5);

/// How long the duty is somebody's who is not heard of.
const DUTY: Duration = Duration::from_secs(60);

/// Ended before these times something goes; in Unix milliseconds.
#[derive(Clone, Copy)]
struct Cuts {
    jobs: i64,
    logs: i64,
    /// A lease that was over by then brings nothing more.
    late: i64,
    /// Older states go, beyond the newest so many.
    states: i64,
    newest: u32,
    daemons: i64,
    audit: i64,
}

impl Cuts {
    fn new(keep: &Retention, now: i64) -> Self {
        // What is kept for ever is older than all times.
        let cut = |age: Option<Duration>| age.map_or(i64::MIN, |age| now - millis(age));
        let (states, newest) = match keep.states {
            KeepStates::All => (i64::MIN, 0),
            KeepStates::Newest(count) => (i64::MAX, count),
            KeepStates::Younger(age) => (cut(Some(age)), 0),
        };
        Self {
            jobs: cut(keep.jobs),
            logs: cut(keep.logs),
            late: cut(Some(keep.late)),
            states,
            newest,
            daemons: cut(keep.daemons),
            audit: cut(keep.audit),
        }
    }
}

/// Takes away all that may go; what went.
pub(super) async fn pass<D: Database>(
    database: &D,
    keep: Retention,
    replica: ReplicaId,
) -> Result<Pruned> {
    let cuts = Cuts::new(&keep, database.now_ms());
    let mut pass = Pass {
        database,
        replica,
        cuts,
        pruned: Pruned::default(),
    };
    if pass.batch(|_| Ok(true)).await? {
        pass.jobs().await?;
        pass.states().await?;
        pass.workspaces().await?;
        pass.daemons().await?;
        pass.audit().await?;
        if pass.pruned.jobs > 0 {
            pass.tagsets().await?;
        }
    }
    Ok(pass.pruned)
}

struct Pass<'d, D> {
    database: &'d D,
    replica: ReplicaId,
    cuts: Cuts,
    pruned: Pruned,
}

impl<D: Database> Pass<'_, D> {
    /// One transaction; nothing happens in it when the duty is another's by now.
    async fn batch<T, F>(&self, mut work: F) -> Result<T>
    where
        T: Default + Send + 'static,
        F: FnMut(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let replica = self.replica.clone();
        let within = move |tx: &mut Tx<'_>| {
            if tx.has_duty(&replica)? {
                work(tx)
            } else {
                Ok(T::default())
            }
        };
        let answer = self.database.write_again(within).await?;
        tokio::time::sleep(PAUSE).await;
        Ok(answer)
    }
}

impl Tx<'_> {
    /// Whether it is this replica that prunes, which from here on it is for a while.
    fn has_duty(&self, replica: &ReplicaId) -> Result<bool> {
        let taken = self
            .db
            .prepare(
                "INSERT INTO duties (name, replica, until) VALUES ('prune', ?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET replica = excluded.replica,
                     until = excluded.until
                 WHERE duties.replica = excluded.replica OR duties.until <= ?3",
            )
            .execute(values![replica.as_str(), self.now + millis(DUTY), self.now])?;
        Ok(taken > 0)
    }
}
