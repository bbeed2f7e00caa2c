//! A queue that is made of what comes: empty before, whole or nothing after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use std::io::Read;

use proto::ids::Digest;

use super::row::{Row, Table, quoted};
use super::{Error, FORMAT, Header, Place, Result, Sink, Totals, blob_files, tables};
use crate::blobs::{Seal, place};
use crate::data_dir::DataDir;
use crate::options::Database;
use crate::store::postgres::portable as postgres;
use crate::store::sql::rows::{Db, Value, values};
use crate::store::sqlite::portable as sqlite;

/// Parameters of one statement: within what both databases take.
const PARAMETERS: usize = 16_000;

/// See the module.
pub struct Target {
    database: Opened,
    blobs: PathBuf,
    /// Of this release, by name.
    tables: BTreeMap<String, Table>,
    now_ms: i64,
    taken: Totals,
    /// Nobody sweeps what no row names yet.
    _seal: Seal,
}

/// One transaction over empty tables.
enum Opened {
    Sqlite {
        /// Under another name until all of it came.
        connection: Box<sqlite::Fresh>,
        /// Held, never read.
        _lock: DataDir,
    },
    Postgres(Box<postgres::Transaction>),
}

impl Target {
    /// Makes the tables.
    ///
    /// # Errors
    /// There is a queue already, or none can be made.
    pub fn open(to: &Place) -> Result<Self> {
        let database = match &to.database {
            Database::Embedded => {
                let lock = DataDir::open(&to.data_dir).map_err(Error::Open)?;
                let path = lock.database();
                if path.exists() {
                    return Err(Error::NotEmpty {
                        what: to.data_dir.display().to_string(),
                    });
                }
                let connection = sqlite::fresh(&path)?;
                Opened::Sqlite {
                    connection: Box::new(connection),
                    _lock: lock,
                }
            }
            Database::Postgres(options) => {
                let transaction = postgres::fresh(options).map_err(Error::database)?;
                if !is_new(transaction.db())? {
                    return Err(Error::NotEmpty {
                        what: "the PostgreSQL database".to_owned(),
                    });
                }
                Opened::Postgres(Box::new(transaction))
            }
        };
        let blobs = to.blobs();
        let mut target = Self {
            _seal: blob_files::make_and_keep(&blobs)?,
            database,
            blobs,
            tables: BTreeMap::new(),
            now_ms: 0,
            taken: Totals::default(),
        };
        let tables = target.listed()?;
        target.tables = tables.into_iter().map(|it| (it.name.clone(), it)).collect();
        // What a schema is born with comes back with the rows.
        target.db().execute("DELETE FROM organizations", &[])?;
        Ok(target)
    }

    fn db(&self) -> &dyn Db {
        match &self.database {
            Opened::Sqlite { connection, .. } => connection.db(),
            Opened::Postgres(transaction) => transaction.db(),
        }
    }

    fn listed(&self) -> Result<Vec<Table>> {
        Ok(match &self.database {
            Opened::Sqlite { connection, .. } => tables::of_sqlite(connection.db())?,
            Opened::Postgres(transaction) => tables::of_postgres(transaction.db())?,
        })
    }

    /// The statement that takes `count` rows.
    fn insert(&self, table: &Table, count: usize) -> String {
        let width = table.columns.len();
        let rows = (0..count).map(|row| {
            let cells = (1..=width).map(|cell| format!("?{}", row * width + cell));
            format!("({})", cells.collect::<Vec<_>>().join(", "))
        });
        let rows = rows.collect::<Vec<_>>().join(", ");
        let over = match &self.database {
            Opened::Sqlite { .. } => "",
            Opened::Postgres(_) => " OVERRIDING SYSTEM VALUE",
        };
        let (name, names) = (quoted(&table.name), table.names());
        format!("INSERT INTO {name} ({names}){over} VALUES {rows}")
    }

    fn check_blobs(&self) -> Result<()> {
        for digest in blob_files::named(self.db())? {
            if !blob_files::is_there(&self.blobs, digest) {
                return Err(Error::Blob(digest));
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        match &mut self.database {
            Opened::Sqlite { connection, .. } => {
                let raise = "UPDATE meta SET high_water = MAX(high_water, ?1)";
                connection.db().execute(raise, values![self.now_ms])?;
                Ok(connection.commit()?)
            }
            Opened::Postgres(transaction) => {
                take_place(&self.blobs, transaction.db())?;
                Ok(transaction.commit()?)
            }
        }
    }
}

impl Sink for Target {
    fn begin(&mut self, header: &Header) -> Result<()> {
        if header.format != FORMAT {
            return Err(Error::archive(format!(
                "it has layout {}, this release reads layout {FORMAT}",
                header.format
            )));
        }
        let coming = header.tables.iter().map(|it| (it.name.clone(), it.clone()));
        if let Some(what) = difference(&coming.collect(), &self.tables) {
            let release = header.release.clone();
            return Err(Error::Release { release, what });
        }
        self.now_ms = header.now_ms;
        Ok(())
    }

    fn blob(&mut self, digest: Digest, size: u64, file: &mut dyn Read) -> Result<()> {
        blob_files::adopt(&self.blobs, digest, size, file)?;
        self.taken.blobs += 1;
        self.taken.blob_bytes += size;
        Ok(())
    }

    fn rows(&mut self, table: &Table, rows: Vec<Row>) -> Result<()> {
        let at_once = (PARAMETERS / table.columns.len().max(1)).max(1);
        for rows in rows.chunks(at_once) {
            let mut all: Vec<Value<'_>> = Vec::new();
            for row in rows {
                all.extend(table.values(row)?);
            }
            self.db().execute(&self.insert(table, rows.len()), &all)?;
        }
        self.taken.rows += rows.len() as u64;
        Ok(())
    }

    fn end(&mut self, totals: &Totals) -> Result<()> {
        if self.taken != *totals {
            return Err(Error::archive(format!(
                "{} rows and {} blobs came of {} and {}",
                self.taken.rows, self.taken.blobs, totals.rows, totals.blobs
            )));
        }
        self.check_blobs()?;
        self.commit()
    }
}

/// In words, what the one has and the other has not.
fn difference(coming: &BTreeMap<String, Table>, own: &BTreeMap<String, Table>) -> Option<String> {
    for (name, table) in coming {
        match own.get(name) {
            None => return Some(format!("it has a table `{name}`")),
            Some(known) if known != table => {
                return Some(format!("its table `{name}` has other columns"));
            }
            Some(_) => {}
        }
    }
    let missing = own.keys().find(|name| !coming.contains_key(*name))?;
    Some(format!("it has no table `{missing}`"))
}

/// Whether nobody has used a database yet.
fn is_new(db: &dyn Db) -> Result<bool> {
    for table in ["tokens", "keys", "templates", "jobs", "owners", "blobs"] {
        let query = format!("SELECT 1 FROM {table} LIMIT 1");
        if db.prepare(&query).exists(values![])? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Notes which directory of blobs belongs to the database.
fn take_place(directory: &Path, db: &dyn Db) -> Result<()> {
    let id = place::id(directory)
        .map_err(|source| Error::Open(crate::Error::data_dir(directory, source)))?;
    db.execute("INSERT INTO blob_place VALUES (1, ?1)", values![id])?;
    Ok(())
}
