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

/// What is held in memory of a table, and one row.
pub(super) const BATCH: Batch = Batch {
    rows: 200,
    bytes: 4 * 1024 * 1024,
};

/// How many rows go on their way at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    /// At most.
    pub rows: usize,
    /// Bytes after which they go with fewer.
    pub bytes: usize,
}

/// See the module.
pub struct Source {
    database: Opened,
    blobs: PathBuf,
    now_ms: i64,
    batch: Batch,
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
    pub fn open(from: &Place, batch: Batch) -> Result<Self> {
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
            batch,
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
        let mut gathering = Gathering::new(self.batch);
        match &self.database {
            Opened::Sqlite(connection) => each_row(connection, table, &mut |row| {
                gathering.take(row).map_or(Ok(()), &mut *pour)
            })?,
            Opened::Postgres(transaction) => {
                let fetched = Fetched {
                    db: transaction.db(),
                    table,
                    batch: self.batch,
                };
                fetched.each_row(&mut |row| gathering.take(row).map_or(Ok(()), &mut *pour))?;
            }
        }
        match gathering.rest() {
            rest if rest.is_empty() => Ok(()),
            rest => pour(rest),
        }
    }
}

/// Rows that wait until they are a batch.
struct Gathering {
    batch: Batch,
    rows: Vec<Row>,
    bytes: usize,
}

impl Gathering {
    fn new(batch: Batch) -> Self {
        Self {
            batch,
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// One more; all of them where they are a batch with it.
    fn take(&mut self, row: Row) -> Option<Vec<Row>> {
        self.bytes += row.encoded_len();
        self.rows.push(row);
        let full = self.rows.len() >= self.batch.rows || self.bytes >= self.batch.bytes;
        full.then(|| self.rest())
    }

    fn rest(&mut self) -> Vec<Row> {
        self.bytes = 0;
        std::mem::take(&mut self.rows)
    }
}

/// Shows each row of a table of SQLite, of which only one is held at once.
fn each_row(db: &dyn Db, table: &Table, each: &mut dyn FnMut(Row) -> Result<()>) -> Result<()> {
    let query = format!("SELECT {} FROM {}", table.names(), quoted(&table.name));
    let mut failed = None;
    db.prepare(&query).each(values![], |row| {
        failed = each(table.take(row)?).err();
        Ok(match failed {
            None => More::Yes,
            Some(_) => More::No,
        })
    })?;
    failed.map_or(Ok(()), Err)
}

/// A table of PostgreSQL, whose driver holds all that a statement answers.
struct Fetched<'f> {
    db: &'f dyn Db,
    table: &'f Table,
    batch: Batch,
}

impl Fetched<'_> {
    /// Shows each row. Without a cursor all would be held at once, and without a look at
    /// their size so many large ones as there are small ones in a batch.
    fn each_row(&self, each: &mut dyn FnMut(Row) -> Result<()>) -> Result<()> {
        let small = self.batch.bytes / self.batch.rows;
        let query = self.table.small_or_places(small);
        let declare = format!("DECLARE carried CURSOR FOR {query}");
        self.db.execute(&declare, &[])?;
        loop {
            let found = self.fetch()?;
            if found.is_empty() {
                break;
            }
            for found in found {
                each(match found {
                    Found::Small(row) => row,
                    Found::Large(place) => self.at(&place)?,
                })?;
            }
        }
        self.db.execute("CLOSE carried", &[])?;
        Ok(())
    }

    /// The next rows of the cursor `carried`.
    fn fetch(&self) -> Result<Vec<Found>> {
        let fetch = format!("FETCH FORWARD {} FROM carried", self.batch.rows);
        let place = self.table.columns.len();
        let found = self.db.prepare(&fetch).all(values![], |row| {
            Ok(match row.text_or_null(place)? {
                Some(place) => Found::Large(place.to_owned()),
                None => Found::Small(self.table.take(row)?),
            })
        })?;
        Ok(found)
    }

    /// The row at a place, which is the same for all of a snapshot.
    fn at(&self, place: &str) -> Result<Row> {
        let (names, name) = (self.table.names(), quoted(&self.table.name));
        let query = format!("SELECT {names} FROM {name} WHERE ctid = CAST(?1 AS tid)");
        let row = self.db.prepare(&query);
        Ok(row.one(values![place], |row| self.table.take(row))?)
    }
}

enum Found {
    Small(Row),
    /// Where in its table it is.
    Large(String),
}
