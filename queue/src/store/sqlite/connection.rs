//! Statements and rows of SQLite.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};

use crate::store::sql::asked::Asked;
use crate::store::sql::rows::{Cell, Columns, Db, More, Row, Value, unreadable};
use crate::store::{Error, Result};

/// The clause of a row lock; one writer needs none.
const LOCK: &str = " FOR NO KEY UPDATE";
/// What may follow it.
const SKIP: &str = " SKIP LOCKED";
/// Looks for the clause in every statement that runs: with the processor's wide registers.
static FIND_LOCK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(LOCK));

impl Db for Connection {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let mut statement = self.prepare_cached(&without_locks(sql))?;
        Ok(statement.execute(rusqlite::params_from_iter(values))? as u64)
    }

    fn run(&self, sql: &str, values: &[Value<'_>]) -> Result<()> {
        Db::execute(self, sql, values).map(|_changed| ())
    }

    fn ask(&self, asked: &mut [&mut dyn Asked]) -> Result<()> {
        asked.iter_mut().try_for_each(|one| answer(self, *one))
    }

    #[cfg(test)]
    fn visited(&self) -> Result<u64> {
        Ok(steps::so_far())
    }
}

fn answer(conn: &Connection, asked: &mut dyn Asked) -> Result<()> {
    let mut statement = conn.prepare_cached(&without_locks(asked.sql()))?;
    let mut rows = statement.query(rusqlite::params_from_iter(asked.values()))?;
    while let Some(row) = rows.next()? {
        match asked.take(Row(row))? {
            More::Yes => {}
            More::No => break,
        }
    }
    drop(rows);
    #[cfg(test)]
    steps::add(&statement);
    Ok(())
}

/// Counts the steps of SQLite's machine: a transaction stays on its thread.
#[cfg(test)]
mod steps {
    use std::cell::Cell;

    use rusqlite::{Statement, StatementStatus};

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn add(statement: &Statement<'_>) {
        let steps = statement.reset_status(StatementStatus::VmStep);
        STEPS.set(STEPS.get() + u64::try_from(steps).expect("no negative count"));
    }

    pub(super) fn so_far() -> u64 {
        STEPS.get()
    }
}

/// A statement as SQLite reads it.
fn without_locks(sql: &str) -> Cow<'_, str> {
    let Some(at) = FIND_LOCK.find(sql.as_bytes()) else {
        return Cow::Borrowed(sql);
    };
    let (before, after) = (&sql[..at], &sql[at + LOCK.len()..]);
    let after = after.strip_prefix(SKIP).unwrap_or(after);
    Cow::Owned(format!("{before}{after}"))
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(Some(number)) => ValueRef::Integer(*number),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Blob(Some(bytes)) => ValueRef::Blob(bytes),
            Self::Int(None) | Self::Text(None) | Self::Blob(None) => ValueRef::Null,
        }))
    }
}

impl Columns for rusqlite::Row<'_> {
    fn cell(&self, index: usize) -> Result<Cell<'_>> {
        match self.get_ref(index)? {
            ValueRef::Null => Ok(Cell::Null),
            ValueRef::Integer(number) => Ok(Cell::Int(number)),
            ValueRef::Text(text) => std::str::from_utf8(text)
                .map(Cell::Text)
                .map_err(|_| unreadable(index, "text")),
            ValueRef::Blob(bytes) => Ok(Cell::Blob(bytes)),
            ValueRef::Real(_) => Err(unreadable(index, "value of our schema")),
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        Self::Backend {
            doing: "ran a statement of SQLite",
            source: Box::new(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_locks_are_left_to_the_database_that_has_them() {
        let plain = "SELECT 1 FROM t WHERE a = ?1";
        assert!(matches!(without_locks(plain), Cow::Borrowed(same) if same == plain));
        for lock in ["", " SKIP LOCKED"] {
            let sql = format!("{plain}{LOCK}{lock}");
            assert_eq!(without_locks(&sql), plain);
            let within = format!("UPDATE t SET a = 2 WHERE a = ({plain}{LOCK}{lock})");
            let left = format!("UPDATE t SET a = 2 WHERE a = ({plain})");
            assert_eq!(without_locks(&within), left);
        }
    }
}
