//! Read-only connections, capped: a slow list can hold up other lists, never a writer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::store::{Error, Result};

/// Queries that run at once.
const READERS: usize = 4;

/// The same of small ones that calls of others wait for.
const GLANCES: usize = 2;

/// Whose place a query takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// One that may take long.
    Page,
    /// A small one.
    Glance,
}

/// Pages that each of them keeps: enough for the upper levels of all indexes. The kernel
/// keeps the rest.
const CACHE_KIB: i64 = 1024;

#[derive(Debug, Clone)]
pub(super) struct Readers {
    pages: Arc<Semaphore>,
    glances: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
    path: PathBuf,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let readers = Self {
            pages: Arc::new(Semaphore::new(READERS)),
            glances: Arc::new(Semaphore::new(GLANCES)),
            idle: Arc::default(),
            path: path.to_owned(),
        };
        let first = readers.connect()?;
        readers.put_back(first);
        Ok(readers)
    }

    /// Runs `query` in one read transaction on the blocking pool.
    pub(super) async fn run<T, F>(&self, place: Place, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let permits = match place {
            Place::Page => &self.pages,
            Place::Glance => &self.glances,
        };
        let permit = permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::Closed)?;
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let conn = match this.take() {
                Some(conn) => conn,
                None => this.connect()?,
            };
            let result = in_snapshot(&conn, query);
            this.put_back(conn);
            result
        });
        done.await.map_err(|source| Error::Backend {
            doing: "ran a query",
            source: Box::new(source),
        })?
    }

    /// Places for pages that nobody has.
    #[cfg(test)]
    pub(super) fn pages_left(&self) -> usize {
        self.pages.available_permits()
    }

    fn connect(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.path, flags)?;
        conn.busy_timeout(super::BUSY)?;
        super::plans_stand(&conn)?;
        conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
        conn.set_prepared_statement_cache_capacity(128);
        Ok(conn)
    }

    fn take(&self) -> Option<Connection> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn put_back(&self, conn: Connection) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(conn);
    }
}

fn in_snapshot<T>(conn: &Connection, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let tx = conn.unchecked_transaction()?;
    let result = query(&tx);
    tx.finish()?;
    result
}
