//! The store that any number of queue replicas share.
//!
//! Each transition is one transaction on one connection of a capped pool, on a thread
//! that may block ([`session`]). READ COMMITTED with held rows is enough: a transition
//! holds what it decides about. One that met another, or whose connection broke before
//! COMMIT, is run again from the start. When the answer to COMMIT itself was lost, one
//! that is harmless to repeat is repeated; any other has left a mark with its rows, which
//! tells what became of it. So nothing is done twice and nothing acknowledged is lost. Time is the server's `clock_timestamp()`.
//!
//! No session state is used, so a transaction-pooling proxy may stand between, except
//! for the one connection that listens for the other replicas' [`hints`].

mod config;
mod fate;
mod hints;
mod migrate;
mod rows;
mod server_clock;
mod session;
mod wire;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use proto::timings::Timings;
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::clock::Manual;
use super::sql::rows::values;
use super::sql::{Database, Snapshot, Tx};
use super::{Error, Event, Result};
use crate::lease::Settle;
use crate::shared::jittered;
pub use config::Error as UrlError;
use config::{Tls, Way};
use fate::Fate;
use hints::Hints;
use server_clock::ServerClock;
use session::{Commit, Mode, Session};

/// Events a listener may fall behind before it must ask the store again.
const EVENTS: usize = 4_096;

/// How long a transition is tried while the server is away: a restart or a failover is
/// shorter, and callers try again themselves.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a transition is run again because others were in its way.
const CLASHES: u32 = 20;

/// First wait before another try; it doubles.
const BACKOFF: Duration = Duration::from_millis(10);
/// Longest such wait.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// How to reach a database.
#[derive(Debug, Clone)]
pub struct Options {
    /// `postgres://…`; may lead to a transaction-pooling proxy.
    pub url: String,
    /// Where to listen, when `url` leads to a proxy: the server itself.
    pub listen_url: Option<String>,
    /// PEM certificates of the authorities that vouch for the server; makes TLS a must.
    pub ca: Option<PathBuf>,
    /// Transactions at once.
    pub connections: usize,
}

impl Options {
    /// Connections of one replica by default: enough for a server of a few cores.
    pub const CONNECTIONS: usize = 16;

    /// A database at `url`.
    #[must_use]
    pub fn new(url: String) -> Self {
        Self {
            url,
            listen_url: None,
            ca: None,
            connections: Self::CONNECTIONS,
        }
    }
}

/// Where a store's time comes from.
#[derive(Debug, Clone)]
pub enum TimeSource {
    /// The server.
    Server,
    /// A test.
    Manual(Manual),
}

/// The shared store; see the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: Pool,
    hints: Hints,
    events: broadcast::Sender<Event>,
    clock: ServerClock,
    timings: Arc<Timings>,
    settle: Mutex<Settle>,
}

/// How a piece of work is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    /// It only reads.
    Read,
    /// It must not be done twice.
    Once,
    /// Doing it twice is harmless.
    Repeatable,
    /// The same, and nobody waits for a server that is away.
    Now,
}

/// Why [`Postgres::open`] failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The server cannot be reached, or its schema cannot be brought up to date.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Postgres {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// The URL, the server, or a schema of a newer release.
    pub async fn open(
        options: &Options,
        timings: Timings,
        time: TimeSource,
    ) -> std::result::Result<Self, OpenError> {
        let ca = options.ca.as_deref();
        let way = config::way(&options.url, ca)?;
        let listen = match &options.listen_url {
            Some(url) => config::way(url, ca)?,
            None => way.clone(),
        };
        let pool = pool(way, options.connections);
        let mut client = pool.get().await.map_err(Error::from)?;
        migrate::run(&mut client).await?;
        drop(client);
        let (events, _) = broadcast::channel(EVENTS);
        let inner = Inner {
            pool,
            hints: Hints::start(listen, events.clone()),
            events,
            clock: ServerClock::new(time),
            timings: Arc::new(timings),
            settle: Mutex::default(),
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        // Sets the clock before anybody reads it.
        store.read(|_| Ok(())).await?;
        Ok(store)
    }

    /// Makes the directory of blobs with this id the one that belongs to this database,
    /// unless another one does; which one does.
    ///
    /// # Errors
    /// The database.
    pub async fn blob_place(&self, id: String) -> Result<String> {
        self.write(move |tx| {
            let insert = "INSERT INTO blob_place VALUES (1, ?1) ON CONFLICT DO NOTHING";
            tx.db.prepare(insert).execute(values![id])?;
            let place = tx.db.prepare("SELECT id FROM blob_place");
            place.one(values![], |row| row.get(0))
        })
        .await
    }

    /// Runs `work` in transactions until one is committed or there is an answer.
    async fn run<T, F>(&self, run: Run, mut work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let mut tries = Tries::new(run);
        loop {
            let client = match self.inner.pool.get().await {
                Ok(client) => client,
                Err(error) => {
                    tries.another(error.into()).await?;
                    continue;
                }
            };
            let attempt = self.clone().attempt(client, run, work).await?;
            work = attempt.work;
            match attempt.end {
                End::Committed(value, events) => return Ok(self.done(value, events)),
                End::Failed(error) => tries.another(error).await?,
                End::Unknown(value, events, mark) => {
                    if self.was_committed(mark).await? {
                        return Ok(self.done(value, events));
                    }
                }
            }
        }
    }

    /// One transaction, on a thread that may block. Once begun it is brought to its end
    /// also when the caller goes away.
    async fn attempt<T, F>(self, client: Object, run: Run, mut work: F) -> Result<Attempt<T, F>>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let runtime = Handle::current();
        let attempt = move || {
            let end = match Session::begin(client, runtime, run.mode()) {
                Ok(session) => self.inner.transact(session, run.mark(), &mut work),
                Err(error) => End::Failed(error),
            };
            Attempt { end, work }
        };
        let done = tokio::task::spawn_blocking(attempt).await;
        done.map_err(|source| Error::Backend {
            doing: "ran a transition",
            source: Box::new(source),
        })
    }

    /// Tells what was committed: here at once, elsewhere soon.
    fn done<T>(&self, value: T, events: Vec<Event>) -> T {
        for event in &events {
            // Nobody listening is no error.
            let _ = self.inner.events.send(event.clone());
        }
        if !events.is_empty() {
            self.inner.hints.tell(events);
        }
        value
    }

    /// What became of a transaction whose COMMIT got no answer. If its server process
    /// still lives, this waits for it; if it has not come to its mark, it never will: the
    /// mark is taken.
    async fn was_committed(&self, mark: String) -> Result<bool> {
        let fence = move |tx: &mut Tx<'_>| {
            let fence = "INSERT INTO commits (id, fenced) VALUES (?1, 1) ON CONFLICT DO NOTHING";
            tx.db.prepare(fence).execute(values![mark])?;
            let found = tx.db.prepare("SELECT fenced FROM commits WHERE id = ?1");
            found.one(values![mark], |row| Ok(!row.get::<bool>(0)?))
        };
        Box::pin(self.run(Run::Repeatable, fence)).await
    }
}

impl Run {
    fn mode(self) -> Mode {
        match self {
            Self::Read => Mode::Read,
            Self::Once | Self::Repeatable | Self::Now => Mode::Write,
        }
    }

    fn mark(self) -> Option<String> {
        match self {
            Self::Once => Some(uuid::Uuid::new_v4().to_string()),
            Self::Read | Self::Repeatable | Self::Now => None,
        }
    }

    fn patience(self) -> Duration {
        match self {
            Self::Read | Self::Once | Self::Repeatable => PATIENCE,
            Self::Now => Duration::ZERO,
        }
    }
}

/// What one transaction came to, and the work for another.
struct Attempt<T, F> {
    end: End<T>,
    work: F,
}

enum End<T> {
    Committed(T, Vec<Event>),
    Failed(Error),
    /// COMMIT of the transaction with this mark got no answer.
    Unknown(T, Vec<Event>, String),
}

impl Inner {
    fn transact<T>(
        &self,
        session: Session,
        mark: Option<String>,
        work: &mut impl FnMut(&mut Tx<'_>) -> Result<T>,
    ) -> End<T> {
        let now = self.clock.begun(session.begun_ms);
        let mut tx = Tx::new(Snapshot {
            db: &session,
            now,
            timings: &self.timings,
        });
        let result = work(&mut tx);
        let events = tx.events;
        match result {
            Err(error) => {
                session.rollback();
                End::Failed(error)
            }
            Ok(value) => match (session.commit(mark.as_deref()), mark) {
                (Commit::Done, _) => End::Committed(value, events),
                (Commit::Unknown(_), Some(mark)) => End::Unknown(value, events, mark),
                (Commit::Refused(error) | Commit::Unknown(error), _) => End::Failed(error),
            },
        }
    }
}

/// Counts tries, and waits between them.
struct Tries {
    until: Instant,
    clashes: u32,
    backoff: Duration,
}

impl Tries {
    fn new(run: Run) -> Self {
        Self {
            until: Instant::now() + run.patience(),
            clashes: 0,
            backoff: BACKOFF,
        }
    }

    /// Waits when another try makes sense after `error`, else gives it back.
    async fn another(&mut self, error: Error) -> Result<()> {
        match fate::of(&error) {
            Fate::Answer => return Err(error),
            Fate::Again if self.clashes >= CLASHES => return Err(error),
            Fate::Again => self.clashes += 1,
            Fate::Lost if Instant::now() >= self.until => return Err(error),
            Fate::Lost => {}
        }
        tokio::time::sleep(jittered(self.backoff)).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Ok(())
    }
}

impl Database for Postgres {
    const NAME: &'static str = "postgres";

    async fn write<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.run(Run::Once, command).await
    }

    async fn write_again<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.run(Run::Repeatable, command).await
    }

    async fn write_now<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.run(Run::Now, command).await
    }

    async fn read<T, F>(&self, mut query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        let query = move |tx: &mut Tx<'_>| query(**tx);
        self.run(Run::Read, query).await
    }

    fn events(&self) -> &broadcast::Sender<Event> {
        &self.inner.events
    }

    fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
    }

    fn timings(&self) -> &Timings {
        &self.inner.timings
    }

    fn settle(&self) -> &Mutex<Settle> {
        &self.inner.settle
    }
}

fn pool(way: Way, connections: usize) -> Pool {
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match way.tls {
        Tls::Plain(tls) => Manager::from_config(way.config, tls, recycling),
        Tls::Verified(tls) => Manager::from_config(way.config, tls, recycling),
    };
    Pool::builder(manager)
        .max_size(connections.max(1))
        .build()
        .expect("invariant: a pool without timeouts needs nothing")
}

#[cfg(test)]
mod tests;
