//! The embedded store: one file, one writer thread, a few readers.
//!
//! Every mutation is a command for the writer thread (`writer`), which runs up to 64 of
//! them in one transaction, each in a savepoint of its own, and answers after COMMIT
//! (`synchronous=FULL`): the cost of one fsync is shared, and one command's failure
//! undoes nothing of the others. Reads go to a capped set of read-only connections
//! (`readers`), each in one snapshot. The database directory must be local: WAL does
//! not work on network file systems.

mod acquire;
mod blobs;
mod census;
mod codec;
mod control;
mod daemons;
mod expire;
mod explain;
mod finish;
mod handout;
mod identity;
mod job_row;
mod late;
mod logs;
mod migrate;
mod readers;
mod states;
mod submit;
mod sweep;
mod templates;
mod transitions;
mod update;
mod verdict;
mod views;
mod workspace_views;
mod workspaces;
mod writer;

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::timings::Timings;
use rusqlite::Connection;
use tokio::sync::broadcast;

use super::clock::{Clock, Manual};
use super::{Error, Event, Result};
use crate::lease::Settle;
use readers::Readers;
use writer::Writer;

/// Events a listener may fall behind before it must ask the store again.
const EVENTS: usize = 4_096;

/// How long a statement waits for a lock of another process (`backup`, an operator's
/// shell) before it fails.
const BUSY: Duration = Duration::from_secs(5);

/// The embedded store; see the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    readers: Readers,
    events: broadcast::Sender<Event>,
    clock: Clock,
    timings: Arc<Timings>,
    settle: Mutex<Settle>,
}

/// Where a store's time comes from.
#[derive(Debug, Clone)]
pub enum TimeSource {
    /// The machine.
    System,
    /// A test.
    Manual(Manual),
}

impl Sqlite {
    /// Opens or makes the database file at `path`; the caller owns its directory.
    /// Blocks while migrations run. The writer thread ends when the last clone is gone.
    ///
    /// # Errors
    /// When the file cannot be opened or is of a newer release.
    pub fn open(path: &Path, timings: Timings, time: TimeSource) -> Result<Self> {
        let mut conn = Connection::open(path)?;
        configure(&conn)?;
        migrate::run(&mut conn)?;
        let clock = match time {
            TimeSource::System => Clock::system(high_water(&conn)?),
            TimeSource::Manual(manual) => Clock::Manual(manual),
        };
        let (events, _) = broadcast::channel(EVENTS);
        let timings = Arc::new(timings);
        let readers = Readers::open(path)?;
        let writer = Writer::start(conn, clock.clone(), timings.clone(), events.clone())?;
        let inner = Inner {
            writer,
            readers,
            events,
            clock,
            timings,
            settle: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Runs a command in the writer thread; answers after COMMIT.
    async fn write<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.inner.writer.run(command).await
    }

    /// Runs a query in one snapshot.
    async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        let now = self.inner.clock.now_ms();
        let timings = self.inner.timings.clone();
        self.inner
            .readers
            .run(move |conn| {
                query(Snapshot {
                    conn,
                    now,
                    timings: &timings,
                })
            })
            .await
    }
}

/// What every query needs.
#[derive(Clone, Copy)]
struct Snapshot<'c> {
    conn: &'c Connection,
    now: i64,
    timings: &'c Timings,
}

/// One command's part of a transaction: reads like a snapshot, and collects what is to
/// be told after COMMIT.
struct Tx<'c> {
    snapshot: Snapshot<'c>,
    events: Vec<Event>,
}

impl Tx<'_> {
    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
}

impl<'c> Deref for Tx<'c> {
    type Target = Snapshot<'c>;

    fn deref(&self) -> &Snapshot<'c> {
        &self.snapshot
    }
}

fn configure(conn: &Connection) -> Result<()> {
    conn.busy_timeout(BUSY)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // Checkpoints by size: every 1,000 pages (4 MiB) of log; the file is cut back to
    // 64 MiB after a reader held it open for long.
    conn.pragma_update(None, "wal_autocheckpoint", 1_000)?;
    conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    conn.set_prepared_statement_cache_capacity(256);
    Ok(())
}

fn high_water(conn: &Connection) -> Result<i64> {
    Ok(conn.query_row("SELECT high_water FROM meta", [], |row| row.get(0))?)
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        Self::Backend {
            doing: "ran a statement of SQLite",
            source: Box::new(source),
        }
    }
}

#[cfg(test)]
mod tests;
