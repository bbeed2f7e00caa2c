//! Statements that are asked together: their answers are waited for once, which is what
//! a statement costs where the database is behind a connection.

use super::rows::{Columns, More, Row, Value, no_row};
use crate::store::Result;

/// A statement with its parameters, and what is done with its answer.
pub trait Asked {
    /// Its text.
    fn sql(&self) -> &str;
    /// Its parameters.
    fn values(&self) -> &[Value<'_>];
    /// Takes a row.
    ///
    /// # Errors
    /// The row does not read.
    fn take(&mut self, row: Row<'_>) -> Result<More>;
}

/// A statement of whose answer the first row is wanted.
pub struct First<'a, T, R> {
    sql: &'a str,
    values: Vec<Value<'a>>,
    read: R,
    found: Option<T>,
}

/// What reads a row and knows nothing else.
pub type Read<T> = fn(Row<'_>) -> Result<T>;

impl<'a, T, R: FnMut(Row<'_>) -> Result<T>> First<'a, T, R> {
    /// Asks for nothing yet.
    pub fn of(sql: &'a str, values: &[Value<'a>], read: R) -> Self {
        Self {
            sql,
            values: values.to_vec(),
            read,
            found: None,
        }
    }

    /// What the row said, if there was one.
    pub fn found(self) -> Option<T> {
        self.found
    }

    /// What the row said, which there must be.
    ///
    /// # Errors
    /// There was none.
    pub fn must(self) -> Result<T> {
        self.found.ok_or_else(|| no_row(self.sql))
    }
}

impl<T, R: FnMut(Row<'_>) -> Result<T>> Asked for First<'_, T, R> {
    fn sql(&self) -> &str {
        self.sql
    }

    fn values(&self) -> &[Value<'_>] {
        &self.values
    }

    fn take(&mut self, row: Row<'_>) -> Result<More> {
        self.found = Some((self.read)(row)?);
        Ok(More::No)
    }
}

/// A statement all of whose rows are wanted.
pub struct All<'a, T, R> {
    sql: &'a str,
    values: Vec<Value<'a>>,
    read: R,
    found: Vec<T>,
}

impl<'a, T, R: FnMut(Row<'_>) -> Result<T>> All<'a, T, R> {
    /// Asks for nothing yet.
    pub fn of(sql: &'a str, values: &[Value<'a>], read: R) -> Self {
        Self {
            sql,
            values: values.to_vec(),
            read,
            found: Vec::new(),
        }
    }

    /// What the rows said.
    pub fn found(self) -> Vec<T> {
        self.found
    }
}

impl<T, R: FnMut(Row<'_>) -> Result<T>> Asked for All<'_, T, R> {
    fn sql(&self) -> &str {
        self.sql
    }

    fn values(&self) -> &[Value<'_>] {
        &self.values
    }

    fn take(&mut self, row: Row<'_>) -> Result<More> {
        self.found.push((self.read)(row)?);
        Ok(More::Yes)
    }
}

/// A statement whose rows are shown one by one.
pub(super) struct Shown<'a, E> {
    pub sql: &'a str,
    pub values: &'a [Value<'a>],
    pub each: E,
}

impl<E: FnMut(Row<'_>) -> Result<More>> Asked for Shown<'_, E> {
    fn sql(&self) -> &str {
        self.sql
    }

    fn values(&self) -> &[Value<'_>] {
        self.values
    }

    fn take(&mut self, row: Row<'_>) -> Result<More> {
        (self.each)(row)
    }
}

/// Shows rows that have come to a statement.
///
/// # Errors
/// What it says of a row.
pub fn show<R: Columns>(rows: &[R], asked: &mut dyn Asked) -> Result<()> {
    for row in rows {
        match asked.take(Row(row))? {
            More::Yes => {}
            More::No => break,
        }
    }
    Ok(())
}
