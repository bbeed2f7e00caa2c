//! The database as backups see it: a snapshot to read, and empty tables to fill. One
//! connection, used from a thread that may block.

use std::sync::Arc;

use deadpool_postgres::Pool;
use tokio::runtime::Handle;

use super::opening::Mode;
use super::pipeline::Naming;
use super::session::{Commit, Session, Travel};
use super::{OpenError, Options, Own, config, migrate, pool};
use crate::store::sql::rows::{Db, values};
use crate::store::{Error, Result};

/// Foreign keys that are looked at with each row.
const EAGER: &str = "SELECT CAST(conrelid AS REGCLASS)::TEXT, quote_ident(conname) \
     FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid \
     WHERE contype = 'f' AND NOT condeferrable \
         AND pg_class.relnamespace = CAST(current_schema() AS REGNAMESPACE)";

/// Columns that number their rows by themselves.
const NUMBERED: &str = "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) \
     FROM information_schema.columns \
     WHERE table_schema = current_schema() AND is_identity = 'YES'";

/// An open transaction of a backup or a restore.
pub(crate) struct Transaction {
    session: Option<Session>,
    /// Foreign keys that were made to wait, with their tables.
    eager: Vec<(String, String)>,
    /// Lives as long as its connection.
    _pool: Pool,
}

/// A transaction that sees the rows as they are now.
///
/// # Errors
/// The server, or a schema that is not this release's.
pub(crate) fn snapshot(options: &Options) -> std::result::Result<Transaction, OpenError> {
    begin(options, Mode::Read)
}

/// A transaction that may fill the tables; they are made when they are not there.
///
/// # Errors
/// The server, or a schema of a newer release.
pub(crate) fn fresh(options: &Options) -> std::result::Result<Transaction, OpenError> {
    let mut transaction = begin(options, Mode::Import)?;
    transaction.wait_with_keys()?;
    Ok(transaction)
}

fn begin(options: &Options, mode: Mode) -> std::result::Result<Transaction, OpenError> {
    let runtime = Handle::current();
    let way = config::way(&options.url, options.ca.as_deref())?;
    let pool = pool(way, 1, &Own::default());
    let client = runtime.block_on(async {
        let mut client = pool.get().await.map_err(Error::from)?;
        if mode == Mode::Import {
            migrate::run(&mut client, migrate::STEPS).await?;
        }
        Ok::<_, Error>(client)
    })?;
    // Used once: names would be of no use.
    let travel = Travel {
        naming: Naming::Unnamed,
        texts: Arc::default(),
    };
    Ok(Transaction {
        session: Some(Session::begin(client, runtime, travel, mode, None)?),
        eager: Vec::new(),
        _pool: pool,
    })
}

impl Transaction {
    /// Its statements.
    pub(crate) fn db(&self) -> &dyn Db {
        self.session()
    }

    /// The server's clock when it began, in Unix milliseconds.
    pub(crate) fn begun_ms(&self) -> i64 {
        self.session().begun_ms
    }

    /// Looks at all foreign keys, sets the counters of numbered rows, and commits.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let db = self.db();
        db.execute("SET CONSTRAINTS ALL IMMEDIATE", &[])?;
        for (table, key) in &self.eager {
            let back = format!("ALTER TABLE {table} ALTER CONSTRAINT {key} NOT DEFERRABLE");
            db.execute(&back, &[])?;
        }
        let numbered = db.prepare(NUMBERED).all(values![], |row| {
            Ok((row.get::<String>(0)?, row.get::<String>(1)?))
        })?;
        for (table, column) in numbered {
            let next = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), \
                 (SELECT COALESCE(MAX(\"{column}\"), 0) + 1 FROM \"{table}\"), false)"
            );
            db.prepare(&next).exists(values![])?;
        }
        let session = self.session.take().ok_or(Error::Closed)?;
        match session.commit(None) {
            Commit::Done => Ok(()),
            Commit::Refused(error) | Commit::Unknown(error) => Err(error),
        }
    }

    /// Rows come table by table: what they refer to may come later.
    fn wait_with_keys(&mut self) -> Result<()> {
        let db = self.db();
        let eager = db.prepare(EAGER).all(values![], |row| {
            Ok((row.get::<String>(0)?, row.get::<String>(1)?))
        })?;
        for (table, key) in &eager {
            let wait = format!("ALTER TABLE {table} ALTER CONSTRAINT {key} DEFERRABLE");
            db.execute(&wait, &[])?;
        }
        db.execute("SET CONSTRAINTS ALL DEFERRED", &[])?;
        self.eager = eager;
        Ok(())
    }

    fn session(&self) -> &Session {
        self.session
            .as_ref()
            .expect("invariant: it is open until it is committed")
    }
}
