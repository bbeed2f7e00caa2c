//! The database file as backups see it: a snapshot to read, and a fresh one to fill.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{BUSY, migrate};
use crate::store::clock::Clock;
use crate::store::sql::rows::Db;
use crate::store::{Error, Result};

/// A transaction that sees the file as it is now, and the store's clock. A queue may go on
/// writing: its log grows for as long as this lives.
pub(crate) fn snapshot(path: &Path) -> Result<(Connection, i64)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // Not read-only: a log that a dead queue left can be read only by who may recover it.
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY)?;
    conn.pragma_update(None, "query_only", true)?;
    conn.execute_batch("BEGIN")?;
    // The snapshot is that of the first read.
    let mark = super::high_water(&conn)?;
    Ok((conn, Clock::system(mark).now_ms()))
}

/// A new database with empty tables and an open transaction. It gets its name with
/// [`Fresh::commit`]; dropped before, nothing of it is left.
pub(crate) struct Fresh {
    connection: Option<Connection>,
    temporary: PathBuf,
    path: PathBuf,
}

/// Makes it beside `path`.
pub(crate) fn fresh(path: &Path) -> Result<Fresh> {
    let temporary = path.with_extension("db.new");
    remove(&temporary);
    let mut fresh = Fresh {
        connection: None,
        temporary,
        path: path.to_owned(),
    };
    let mut conn = Connection::open(&fresh.temporary)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    migrate::run(&mut conn, migrate::STEPS)?;
    // Rows come table by table; what they refer to is looked for at the end.
    conn.execute_batch("BEGIN IMMEDIATE; PRAGMA defer_foreign_keys = ON")?;
    fresh.connection = Some(conn);
    Ok(fresh)
}

impl Fresh {
    /// Its transaction.
    pub(crate) fn db(&self) -> &dyn Db {
        self.connection
            .as_ref()
            .expect("invariant: it is open until it is committed")
    }

    /// Makes it durable under its name.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let connection = self.connection.take().ok_or(Error::Closed)?;
        connection.execute_batch("COMMIT")?;
        connection.close().map_err(|(_, error)| error)?;
        let named = std::fs::rename(&self.temporary, &self.path).and_then(|()| {
            let parent = self.path.parent().unwrap_or(Path::new("."));
            File::open(parent)?.sync_all()
        });
        named.map_err(|source| Error::Backend {
            doing: "gave the database its name",
            source: Box::new(source),
        })
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Closed first, or its files would come back.
        self.connection.take();
        remove(&self.temporary);
    }
}

fn remove(database: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        // Mostly there is none.
        let _gone = std::fs::remove_file(name);
    }
}
