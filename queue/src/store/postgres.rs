//! The store that any number of queue replicas share.
//!
//! Each transition is one transaction on one connection of a capped pool, on a thread
//! that may block (`session`). READ COMMITTED with held rows is enough: a transition
//! holds what it decides about. One that met another, or whose connection broke before
//! COMMIT, is run again from the start. When the answer to COMMIT itself was lost, one
//! that is harmless to repeat is repeated; any other has left a mark with its rows, which
//! tells what became of it. So nothing is done twice and nothing acknowledged is lost. Time is the server's `clock_timestamp()`.
//!
//! A transaction-pooling proxy may stand between, except for the one connection that
//! listens for the other replicas' `hints`. Where one does, no session state is used; else
//! statements are prepared, and those that nobody waits for travel with the next one
//! (`pipeline`).

mod bundles;
mod company;
mod config;
mod fate;
mod hints;
mod migrate;
mod opening;
mod pipeline;
mod pool;
mod pooler;
pub(crate) mod portable;
mod rows;
mod runs;
mod seat;
mod server_clock;
mod session;
mod setwise;
mod side_by_side;
mod stacks;
mod wire;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use deadpool_postgres::Pool;
use proto::timings::Timings;
use tokio::sync::{Semaphore, broadcast};

use super::clock::Manual;
use super::model::Act;
use super::schema::Check;
use super::sql::rows::values;
use super::sql::{Again, Database, Snapshot, Tx, looking};
use super::{Error, Event, Latency, Result};
use crate::lease::Settle;
use crate::metrics::Histogram;
use company::Company;
pub use config::Error as UrlError;
use hints::Hints;
use pipeline::Naming;
use pool::{Own, pool};
use pooler::Found;
use runs::Run;
use server_clock::ServerClock;
use session::Travel;
use stacks::Stacks;

/// Events a listener may fall behind before it must ask the store again.
const EVENTS: usize = 4_096;

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
    /// What stands between.
    pub between: Between,
}

/// What stands between a replica and its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Nothing that shares sessions.
    Nothing,
    /// A proxy that may give each transaction another session.
    Pooler,
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
            between: Between::Nothing,
        }
    }

    /// Nobody needs another way to listen who is not behind a proxy.
    fn naming(&self) -> Naming {
        match (self.between, &self.listen_url) {
            (Between::Nothing, None) => Naming::Prepared,
            (Between::Pooler, _) | (Between::Nothing, Some(_)) => Naming::Unnamed,
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
    act: Option<Arc<Act>>,
}

#[derive(Debug)]
struct Inner {
    pool: Pool,
    travel: Travel,
    /// Connections that queries which may take long have at most; the rest is for all others.
    pages: Semaphore,
    company: Company,
    stacks: Stacks,
    hints: Hints,
    events: broadcast::Sender<Event>,
    clock: ServerClock,
    timings: Arc<Timings>,
    settle: Mutex<Settle>,
    latency: Latency,
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
        let own = Own::default();
        let pool = pool(way, options.connections, &own);
        let mut client = pool.get().await.map_err(Error::from)?;
        migrate::run(&mut client, migrate::STEPS).await?;
        drop(client);
        let naming = match options.naming() {
            Naming::Unnamed => Naming::Unnamed,
            Naming::Prepared => named_where_it_is_safe(&pool).await?,
        };
        if naming == Naming::Prepared {
            own.found(&pool);
        }
        let (events, _) = broadcast::channel(EVENTS);
        let hints = Hints::start(listen, pool.clone(), events.clone());
        let inner = Inner {
            pool,
            travel: Travel {
                naming,
                texts: Arc::default(),
            },
            pages: Semaphore::new((options.connections * 3 / 4).max(1)),
            company: Company::default(),
            stacks: Stacks::default(),
            hints,
            events,
            clock: ServerClock::new(time),
            timings: Arc::new(timings),
            settle: Mutex::default(),
            latency: Latency::default(),
        };
        let store = Self {
            inner: Arc::new(inner),
            act: None,
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
}

/// How long transitions and queries took, with all their tries, is counted. Where each is
/// waited for: a future that wraps another one holds it twice.
impl Postgres {
    async fn timed<T, F>(&self, run: Run, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let begun = Instant::now();
        let answer = self.run(run, command).await;
        self.took(run).add(begun.elapsed());
        answer
    }

    fn took(&self, run: Run) -> &Histogram {
        match run {
            Run::Read => &self.inner.latency.reads,
            Run::Once | Run::Repeatable | Run::Now => &self.inner.latency.writes,
        }
    }
}

impl Database for Postgres {
    const NAME: &'static str = "postgres";

    async fn write<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.timed(Run::Once, command).await
    }

    async fn write_again<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.timed(Run::Repeatable, command).await
    }

    async fn write_together<T, F>(&self, again: Again, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let run = match again {
            Again::Harmless => Run::Repeatable,
            Again::Harmful => Run::Once,
        };
        let begun = Instant::now();
        let answer = self.together(run, command).await;
        self.inner.latency.writes.add(begun.elapsed());
        answer
    }

    async fn write_now<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.timed(Run::Now, command).await
    }

    async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        let place = self.inner.pages.acquire().await;
        let _place = place.map_err(|_| Error::Closed)?;
        self.glance(query).await
    }

    async fn glance<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        self.timed(Run::Read, looking(query)).await
    }

    async fn peek<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        let begun = Instant::now();
        let answer = self.together(Run::Repeatable, looking(query)).await;
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
        // A connection that breaks is replaced.
        std::future::pending::<()>().await;
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

/// Looks at the schema of a database, without changing it.
///
/// # Errors
/// The URL or the server.
pub async fn check(options: &Options) -> std::result::Result<Check, OpenError> {
    let way = config::way(&options.url, options.ca.as_deref())?;
    let mut client = pool(way, 1, &Own::default())
        .get()
        .await
        .map_err(Error::from)?;
    Ok(migrate::check(&mut client).await?)
}

async fn named_where_it_is_safe(pool: &Pool) -> Result<Naming> {
    match pooler::look(pool).await? {
        Found::OwnSessions => Ok(Naming::Prepared),
        Found::SharedSessions => {
            tracing::warn!(
                "a proxy between the queue and its database gives transactions other sessions: \
                 statements are not prepared; --database-pooled says so"
            );
            Ok(Naming::Unnamed)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
