//! Rows as transitions see them, whichever database they stand in.
//!
//! A transition is written once, in SQL that both databases read. What differs is
//! written as SQLite's or PostgreSQL's clause and taken out by the other one:
//! parameters are `?1`, `INDEXED BY name` is a hint for SQLite, `FOR NO KEY UPDATE` is a
//! row lock of PostgreSQL (SQLite has one writer and needs none). Values are integers,
//! text and bytes; truth is 0 or 1.

use super::asked::{Asked, Shown};
use crate::store::{Error, Result};

/// A parameter of a statement. Its kind stands also where it is NULL: PostgreSQL types
/// statements by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Value<'v> {
    /// A signed number, or a truth.
    Int(Option<i64>),
    /// Text without NUL characters.
    Text(Option<&'v str>),
    /// Bytes.
    Blob(Option<&'v [u8]>),
}

/// What can stand as a parameter.
pub trait ToValue {
    /// It, as a parameter.
    fn to_value(&self) -> Value<'_>;
    /// NULL of its kind.
    fn null() -> Value<'static>;
}

/// A column of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'r> {
    /// SQL's NULL.
    Null,
    /// A number or a truth.
    Int(i64),
    /// Text.
    Text(&'r str),
    /// Bytes.
    Blob(&'r [u8]),
}

/// What a database gives for a row.
pub trait Columns {
    /// The column at `index`, from 0.
    ///
    /// # Errors
    /// There is none, or it is of a type that no schema of ours has.
    fn cell(&self, index: usize) -> Result<Cell<'_>>;
}

/// One row of an answer.
#[derive(Clone, Copy)]
pub struct Row<'r>(pub &'r dyn Columns);

/// What a column can be read as.
pub trait FromCell: Sized {
    /// It, if the cell holds one.
    fn from_cell(cell: Cell<'_>) -> Option<Self>;
}

/// Whether more rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// Go on.
    Yes,
    /// Enough.
    No,
}

/// A transaction of a database.
pub trait Db {
    /// Runs a statement that answers nothing; how many rows it changed.
    ///
    /// # Errors
    /// The database refused or broke.
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64>;

    /// Runs a statement that answers nothing and of whose effect nothing is asked: now, or
    /// on the way of the next one that is waited for, of COMMIT at the latest. Only that
    /// one may tell what is wrong with it.
    ///
    /// # Errors
    /// The database refused or broke.
    fn run(&self, sql: &str, values: &[Value<'_>]) -> Result<()>;

    /// Runs statements one after the other and shows what they answer. Each sees what the
    /// ones before it have done; what they cost in waiting is one round trip.
    ///
    /// # Errors
    /// The database refused or broke, or what is shown a row says.
    fn ask(&self, asked: &mut [&mut dyn Asked]) -> Result<()>;

    /// How much the queries of this transaction have looked at, in steps or rows of the
    /// database. Only a difference between two looks means something.
    ///
    /// # Errors
    /// The database broke.
    #[cfg(test)]
    fn visited(&self) -> Result<u64>;
}

/// A statement of a transaction.
#[derive(Clone, Copy)]
pub struct Statement<'d, 's> {
    db: &'d dyn Db,
    sql: &'s str,
}

impl<'d> dyn Db + 'd {
    /// The statement of this text.
    pub fn prepare<'s>(&'s self, sql: &'s str) -> Statement<'s, 's>
    where
        'd: 's,
    {
        Statement { db: self, sql }
    }
}

/// That a statement has not found the row which there must be.
pub(super) fn no_row(sql: &str) -> Error {
    Error::Backend {
        doing: "looked for a row that must be there",
        source: Box::new(NoRow(sql.to_owned())),
    }
}

impl Statement<'_, '_> {
    /// Changes rows, however many; see [`Db::run`].
    pub fn run(&self, values: &[Value<'_>]) -> Result<()> {
        self.db.run(self.sql, values)
    }

    /// Changes rows; how many.
    pub fn execute(&self, values: &[Value<'_>]) -> Result<u64> {
        self.db.execute(self.sql, values)
    }

    /// The first row, which there must be.
    pub fn one<T>(
        &self,
        values: &[Value<'_>],
        read: impl FnOnce(Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.first(values, read)?.ok_or_else(|| no_row(self.sql))
    }

    /// The first row, if there is one.
    pub fn first<T>(
        &self,
        values: &[Value<'_>],
        read: impl FnOnce(Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let (mut read, mut found) = (Some(read), None);
        self.each(values, |row| {
            if let Some(read) = read.take() {
                found = Some(read(row)?);
            }
            Ok(More::No)
        })?;
        Ok(found)
    }

    /// All rows.
    pub fn all<T>(
        &self,
        values: &[Value<'_>],
        mut read: impl FnMut(Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        self.each(values, |row| {
            all.push(read(row)?);
            Ok(More::Yes)
        })?;
        Ok(all)
    }

    /// Shows rows until one is enough.
    pub fn each(
        &self,
        values: &[Value<'_>],
        each: impl FnMut(Row<'_>) -> Result<More>,
    ) -> Result<()> {
        let mut shown = Shown {
            sql: self.sql,
            values,
            each,
        };
        self.db.ask(&mut [&mut shown])
    }

    /// Whether there is a row.
    pub fn exists(&self, values: &[Value<'_>]) -> Result<bool> {
        Ok(self.first(values, |_| Ok(()))?.is_some())
    }
}

impl<'r> Row<'r> {
    /// The column at `index`.
    pub fn get<T: FromCell>(self, index: usize) -> Result<T> {
        let cell = self.0.cell(index)?;
        T::from_cell(cell).ok_or_else(|| unreadable(index, "value"))
    }

    /// The text at `index`.
    pub fn text(self, index: usize) -> Result<&'r str> {
        self.text_or_null(index)?
            .ok_or_else(|| unreadable(index, "text"))
    }

    /// The text at `index`, if any.
    pub fn text_or_null(self, index: usize) -> Result<Option<&'r str>> {
        match self.0.cell(index)? {
            Cell::Null => Ok(None),
            Cell::Text(text) => Ok(Some(text)),
            Cell::Int(_) | Cell::Blob(_) => Err(unreadable(index, "text")),
        }
    }

    /// The bytes at `index`, if any.
    pub fn bytes_or_null(self, index: usize) -> Result<Option<&'r [u8]>> {
        match self.0.cell(index)? {
            Cell::Null => Ok(None),
            Cell::Blob(bytes) => Ok(Some(bytes)),
            Cell::Int(_) | Cell::Text(_) => Err(unreadable(index, "run of bytes")),
        }
    }
}

/// Writes the parameters of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::sql::rows::ToValue::to_value(&$value)),*]
    };
}
pub(crate) use values;

/// A column did not hold what the schema says.
#[derive(Debug, thiserror::Error)]
#[error("column {index} of a row does not read as a {what}")]
struct Unreadable {
    index: usize,
    what: &'static str,
}

/// No row where there must be one.
#[derive(Debug, thiserror::Error)]
#[error("no row answers `{0}`")]
struct NoRow(String);

/// The error for a column that holds something else.
pub fn unreadable(index: usize, what: &'static str) -> Error {
    Error::Backend {
        doing: "read a row",
        source: Box::new(Unreadable { index, what }),
    }
}

macro_rules! scalar {
    ($($type:ty => $kind:ident($this:ident) $value:expr;)*) => {$(
        impl ToValue for $type {
            fn to_value(&self) -> Value<'_> {
                let $this = self;
                Value::$kind(Some($value))
            }
            fn null() -> Value<'static> {
                Value::$kind(None)
            }
        }
    )*};
}

scalar! {
    i64 => Int(this) *this;
    u32 => Int(this) i64::from(*this);
    bool => Int(this) i64::from(*this);
    str => Text(this) this;
    String => Text(this) this.as_str();
    [u8] => Blob(this) this;
    Vec<u8> => Blob(this) this.as_slice();
}

impl<const N: usize> ToValue for [u8; N] {
    fn to_value(&self) -> Value<'_> {
        Value::Blob(Some(self))
    }

    fn null() -> Value<'static> {
        Value::Blob(None)
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }

    fn null() -> Value<'static> {
        T::null()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value<'_> {
        self.as_ref().map_or(T::null(), ToValue::to_value)
    }

    fn null() -> Value<'static> {
        T::null()
    }
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl FromCell for $type {
            fn from_cell(cell: Cell<'_>) -> Option<Self> {
                match cell {
                    Cell::Int(number) => number.try_into().ok(),
                    Cell::Null | Cell::Text(_) | Cell::Blob(_) => None,
                }
            }
        }
    )*};
}

number!(i64, i32, u32, u64);

impl FromCell for bool {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        i64::from_cell(cell).map(|number| number != 0)
    }
}

impl FromCell for String {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Text(text) => Some(text.to_owned()),
            Cell::Null | Cell::Int(_) | Cell::Blob(_) => None,
        }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Blob(bytes) => Some(bytes.to_owned()),
            Cell::Null | Cell::Int(_) | Cell::Text(_) => None,
        }
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            Cell::Int(_) | Cell::Text(_) | Cell::Blob(_) => T::from_cell(cell).map(Some),
        }
    }
}
