//! The embedded store: one file, one writer thread, a few readers.
//!
//! Every mutation is a command for the writer thread (`writer`), which runs up to 128 of
//! them in one transaction and answers after COMMIT (`synchronous=FULL`): the cost of one
//! fsync is shared, and one command's failure undoes nothing of the others. Reads go to a
//! capped set of read-only connections (`readers`), each in one snapshot, and what a
//! transition is about to read anyway to the writer. The database
//! directory must be local: WAL does not work on network file systems.

mod batches;
mod checkpoint;
mod connection;
mod migrate;
pub(crate) mod portable;
mod readers;
mod writer;

pub(super) use migrate::check;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::timings::Timings;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::broadcast;

use super::clock::{Clock, Manual};
use super::model::Act;
use super::sql::rows::Db;
use super::sql::{Again, Database, Snapshot, Tx, looking};
use super::{Event, Latency, Result};
use crate::lease::Settle;
use checkpoint::{Limits, Log};
use readers::{Place, Readers};
use writer::{Does, Writer};

/// Events a listener may fall behind before it must ask the store again.
const EVENTS: usize = 4_096;

/// Pages that the writer keeps: the ends of the tables and indexes that it adds to. They
/// are memory of this process; nothing is mapped, since a disk that fails to read would
/// then be the process's end, not a query's.
const WRITER_CACHE_KIB: i64 = 8 * 1024;

/// How long a statement waits for a lock of another process (`backup`, an operator's
/// shell) before it fails.
const BUSY: Duration = Duration::from_secs(5);

/// The embedded store; see the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
    act: Option<Arc<Act>>,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    readers: Readers,
    events: broadcast::Sender<Event>,
    clock: Clock,
    timings: Arc<Timings>,
    settle: Mutex<Settle>,
    latency: Latency,
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
        migrate::run(&mut conn, migrate::STEPS)?;
        let clock = match time {
            TimeSource::System => Clock::system(high_water(&conn)?),
            TimeSource::Manual(manual) => Clock::Manual(manual),
        };
        let (events, _) = broadcast::channel(EVENTS);
        let timings = Arc::new(timings);
        let readers = Readers::open(path)?;
        let log = Log::watch(&mut conn, path, Limits::OWN)?;
        let writer = Writer::start((conn, log), clock.clone(), timings.clone(), events.clone())?;
        let inner = Inner {
            writer,
            readers,
            events,
            clock,
            timings,
            settle: Mutex::default(),
            latency: Latency::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            act: None,
        })
    }
}

impl Database for Sqlite {
    const NAME: &'static str = "sqlite";

    async fn write<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let begun = Instant::now();
        let answer = self.inner.writer.run(Does::Write, command).await;
        self.inner.latency.writes.add(begun.elapsed());
        answer
    }

    async fn write_again<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.write(command).await
    }

    async fn write_together<T, F>(&self, _: Again, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        // All transitions share transactions here.
        self.write(command).await
    }

    async fn write_now<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.write(command).await
    }

    async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        self.look(Place::Page, query).await
    }

    async fn glance<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        self.look(Place::Glance, query).await
    }

    /// By the writer, who has at hand what a reader would have to fetch: each commit empties
    /// the readers' caches.
    async fn peek<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        let begun = Instant::now();
        let answer = self.inner.writer.run(Does::Look, looking(query)).await;
        self.inner.latency.reads.add(begun.elapsed());
        answer
    }

    fn events(&self) -> &broadcast::Sender<Event> {
        &self.inner.events
    }

    fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
    }

    async fn closed(&self) {
        self.inner.writer.ended().await;
    }

    fn timings(&self) -> &Timings {
        &self.inner.timings
    }

    fn latency(&self) -> &Latency {
        &self.inner.latency
    }

    fn settle(&self) -> &Mutex<Settle> {
        &self.inner.settle
    }

    fn acting(&self, act: Arc<Act>) -> Self {
        Self {
            inner: self.inner.clone(),
            act: Some(act),
        }
    }

    fn act(&self) -> Option<Arc<Act>> {
        self.act.clone()
    }
}

impl Sqlite {
    async fn look<T, F>(&self, place: Place, mut query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        let now = self.inner.clock.now_ms();
        let timings = self.inner.timings.clone();
        let in_snapshot = move |conn: &Connection| {
            query(Snapshot {
                db: conn,
                now,
                timings: &timings,
            })
        };
        let begun = Instant::now();
        let answer = self.inner.readers.run(place, in_snapshot).await;
        self.inner.latency.reads.add(begun.elapsed());
        answer
    }
}

/// Keeps the plan of a statement whatever is bound to it: else SQLite compiles it again with
/// every value that might lead to another one, which was half of all work of the writer.
fn plans_stand(conn: &Connection) -> Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn configure(conn: &Connection) -> Result<()> {
    conn.busy_timeout(BUSY)?;
    plans_stand(conn)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    // Pages of the log are moved by `checkpoint`; its file is cut back to this after a
    // reader held it open for long.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    conn.set_prepared_statement_cache_capacity(256);
    Ok(())
}

fn high_water(db: &dyn Db) -> Result<i64> {
    let statement = db.prepare("SELECT high_water FROM meta");
    statement.one(&[], |row| row.get(0))
}

#[cfg(test)]
mod tests;
