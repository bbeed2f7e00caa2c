//! One snapshot of a queue, to be poured into a sink.

use std::path::PathBuf;

use prost::Message as _;

use super::row::{Row, Table, quoted};
use super::{Error, FORMAT, Header, Place, Progress, Result, Sink, Totals, blob_files, tables};
use crate::blobs::Seal;
use crate::data_dir::DataDir;
use crate::options::Database;
use crate::store::postgres::portable as postgres;
use crate::store::sql::rows::{Db, More, values};
use crate::store::sqlite::portable as sqlite;

/// Rows that are held in memory at once.
const BATCH_ROWS: usize = 200;

/// Bytes of rows after which a batch goes on its way with fewer of them.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// See the module.
pub struct Source {
    database: Opened,
    blobs: PathBuf,
    now_ms: i64,
    /// Keeps the sweep from removing what the snapshot names.
    _seal: Seal,
}

/// A transaction that sees one moment.
enum Opened {
    Sqlite(rusqlite::Connection),
    Postgres(Box<postgres::Transaction>),
}

impl Source {
    /// Begins the snapshot.
    ///
    /// # Errors
    /// There is no queue, or it cannot be opened.
    pub fn open(from: &Place) -> Result<Self> {
        let path = DataDir::database_below(&from.data_dir);
        if matches!(from.database, Database::Embedded) && !path.is_file() {
            return Err(Error::NoQueue {
                path: from.data_dir.clone(),
            });
        }
        let blobs = from.blobs();
        // Before the snapshot: what it names is still there then.
        let seal = blob_files::keep(&blobs)?;
        let (database, now_ms) = match &from.database {
            Database::Embedded => {
                let (connection, now_ms) = sqlite::snapshot(&path)?;
                (Opened::Sqlite(connection), now_ms)
            }
            Database::Postgres(options) => {
                let transaction = postgres::snapshot(options).map_err(Error::database)?;
                blob_files::must_belong(&blobs, transaction.db())?;
                let now_ms = transaction.begun_ms();
                (Opened::Postgres(Box::new(transaction)), now_ms)
            }
        };
        Ok(Self {
            database,
            blobs,
            now_ms,
            _seal: seal,
        })
    }

    /// Everything, in the order that a sink takes it.
    ///
    /// # Errors
    /// A row or a blob cannot be read, or the sink refuses.
    pub fn pour(&self, sink: &mut dyn Sink, progress: Progress<'_>) -> Result<Totals> {
        let tables = self.tables()?;
        sink.begin(&Header {
            format: FORMAT,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            now_ms: self.now_ms,
            tables: tables.clone(),
        })?;
        let mut totals = Totals::default();
        for digest in blob_files::named(self.db())? {
            let (size, mut file) = blob_files::open(&self.blobs, digest)?;
            sink.blob(digest, size, &mut file)?;
            totals.blobs += 1;
            totals.blob_bytes += size;
            progress(&totals);
        }
        for table in &tables {
            self.each_batch(table, &mut |rows| {
                totals.rows += rows.len() as u64;
                sink.rows(table, rows)?;
                progress(&totals);
                Ok(())
            })?;
        }
        sink.end(&totals)?;
        Ok(totals)
    }

    fn db(&self) -> &dyn Db {
        match &self.database {
            Opened::Sqlite(connection) => connection,
            Opened::Postgres(transaction) => transaction.db(),
        }
    }

    fn tables(&self) -> Result<Vec<Table>> {
        Ok(match &self.database {
            Opened::Sqlite(connection) => tables::of_sqlite(connection)?,
            Opened::Postgres(transaction) => tables::of_postgres(transaction.db())?,
        })
    }

    fn each_batch(
        &self,
        table: &Table,
        pour: &mut dyn FnMut(Vec<Row>) -> Result<()>,
    ) -> Result<()> {
        let query = format!("SELECT {} FROM {}", table.names(), quoted(&table.name));
        match &self.database {
            Opened::Sqlite(connection) => in_batches(connection, &query, table, pour),
            Opened::Postgres(transaction) => {
                let db = transaction.db();
                // Without a cursor all rows would be held here at once.
                db.execute(&format!("DECLARE carried CURSOR FOR {query}"), &[])?;
                loop {
                    let rows = fetch(db, table)?;
                    if rows.is_empty() {
                        break;
                    }
                    pour(rows)?;
                }
                db.execute("CLOSE carried", &[])?;
                Ok(())
            }
        }
    }
}

/// The next rows of the cursor `carried`.
fn fetch(db: &dyn Db, table: &Table) -> Result<Vec<Row>> {
    let fetch = format!("FETCH FORWARD {BATCH_ROWS} FROM carried");
    let rows = db.prepare(&fetch).all(values![], |row| table.take(row))?;
    Ok(rows)
}

/// All rows of a query, of which only a batch is held at once.
fn in_batches(
    db: &dyn Db,
    query: &str,
    table: &Table,
    pour: &mut dyn FnMut(Vec<Row>) -> Result<()>,
) -> Result<()> {
    let (mut batch, mut bytes, mut failed) = (Vec::new(), 0, None);
    db.prepare(query).each(values![], |row| {
        let row = table.take(row)?;
        bytes += row.encoded_len();
        batch.push(row);
        if batch.len() < BATCH_ROWS && bytes < BATCH_BYTES {
            return Ok(More::Yes);
        }
        bytes = 0;
        failed = pour(std::mem::take(&mut batch)).err();
        Ok(match failed {
            None => More::Yes,
            Some(_) => More::No,
        })
    })?;
    match failed {
        Some(error) => Err(error),
        None if batch.is_empty() => Ok(()),
        None => pour(batch),
    }
}
