//! A look into the rows of an embedded store, past the queue that serves them: what became
//! of each attempt is on no page of the product's.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, OpenFlags};

/// One attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// As the store words it; none while it runs.
    pub ending: Option<String>,
    /// Whether it could change the world.
    pub gate_open: bool,
}

/// A store that is in use.
#[derive(Debug)]
pub struct Rows(Connection);

impl Rows {
    /// Opens it for reading.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(database: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Ok(Self(Connection::open_with_flags(database, flags)?))
    }

    /// All attempts at a job, in order.
    ///
    /// # Errors
    /// The database is no store.
    pub fn attempts(&self, job: &str) -> Result<Vec<Attempt>> {
        let mut query = self.0.prepare(
            "SELECT a.attempt, a.ending, a.gate_open_at IS NOT NULL
             FROM attempts a JOIN jobs j ON j.row = a.job WHERE j.id = ? ORDER BY a.attempt",
        )?;
        let rows = query.query_map([job], |row| {
            Ok(Attempt {
                number: row.get(0)?,
                ending: row.get(1)?,
                gate_open: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Serials of the states that the store has of a job now.
    ///
    /// # Errors
    /// The database is no store.
    pub fn serials(&self, job: &str) -> Result<BTreeSet<u64>> {
        let mut query = self
            .0
            .prepare("SELECT s.serial FROM states s JOIN jobs j ON j.row = s.job WHERE j.id = ?")?;
        let rows = query.query_map([job], |row| row.get::<_, i64>(0))?;
        let serials = rows.map(|row| Ok(row?.unsigned_abs()));
        serials.collect()
    }
}
