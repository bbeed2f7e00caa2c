//! Statements and rows of PostgreSQL.
//!
//! Every statement travels with its parameters and their types ([`super::pipeline`]).

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::store::sql::rows::{Cell, Columns, Value};
use crate::store::{Error, Result};

/// SQLite's hint which index to use.
const HINT: &str = " INDEXED BY ";

/// The elements of a JSON list of numbers, as SQLite reads them, and as an array.
const NUMBERS: (&str, &str) = (
    "IN (SELECT CAST(value AS BIGINT) FROM json_each(",
    "BIGINT[]))",
);
/// The elements of a JSON list of words.
const WORDS: (&str, &str) = ("IN (SELECT value FROM json_each(", "TEXT[]))");

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A statement as PostgreSQL reads it: `$1` for `?1`, no hints, arrays for JSON lists.
pub(super) fn translated(sql: &str) -> String {
    let mut out = without_hints(sql);
    for (begin, array) in [NUMBERS, WORDS] {
        while let Some(at) = out.find(begin) {
            let Some(end) = out[at..].find("))").map(|end| at + end) else {
                break;
            };
            let parameter = out[at + begin.len()..end].to_owned();
            let list = format!("= ANY(CAST(translate({parameter}, '[]', '{{}}') AS {array}");
            out.replace_range(at..end + 2, &list);
        }
    }
    out.replace('?', "$")
}

fn without_hints(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once(HINT) {
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    }
    out.push_str(rest);
    out
}

/// What a statement is given in one place.
#[derive(Debug)]
pub(super) enum Parameter<'v> {
    One(Value<'v>),
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<&'v str>>),
    Blobs(Vec<Option<&'v [u8]>>),
}

impl<'v> Parameter<'v> {
    /// These as an array; `None` when they are not of one kind, or none.
    pub(super) fn array(values: &[Value<'v>]) -> Option<Self> {
        let mut array = match values.first()? {
            Value::Int(_) => Self::Ints(Vec::with_capacity(values.len())),
            Value::Text(_) => Self::Texts(Vec::with_capacity(values.len())),
            Value::Blob(_) => Self::Blobs(Vec::with_capacity(values.len())),
        };
        for value in values {
            match (&mut array, *value) {
                (Self::Ints(all), Value::Int(number)) => all.push(number),
                (Self::Texts(all), Value::Text(text)) => all.push(text),
                (Self::Blobs(all), Value::Blob(bytes)) => all.push(bytes),
                _ => return None,
            }
        }
        Some(array)
    }

    /// The type that PostgreSQL is told.
    pub(super) fn kind(&self) -> Type {
        match self {
            Self::One(Value::Int(_)) => Type::INT8,
            Self::One(Value::Text(_)) => Type::TEXT,
            Self::One(Value::Blob(_)) => Type::BYTEA,
            Self::Ints(_) => Type::INT8_ARRAY,
            Self::Texts(_) => Type::TEXT_ARRAY,
            Self::Blobs(_) => Type::BYTEA_ARRAY,
        }
    }

    /// It, with that type.
    pub(super) fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, self.kind())
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, BoxError> {
        match self {
            Self::One(Value::Int(number)) => number.to_sql(kind, out),
            Self::One(Value::Text(text)) => text.to_sql(kind, out),
            Self::One(Value::Blob(bytes)) => bytes.to_sql(kind, out),
            Self::Ints(all) => all.to_sql(kind, out),
            Self::Texts(all) => all.to_sql(kind, out),
            Self::Blobs(all) => all.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        let arrays = [Type::INT8_ARRAY, Type::TEXT_ARRAY, Type::BYTEA_ARRAY];
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(kind) || arrays.contains(kind)
    }

    to_sql_checked!();
}

impl<'r> FromSql<'r> for Cell<'r> {
    fn from_sql(kind: &Type, raw: &'r [u8]) -> std::result::Result<Self, BoxError> {
        Ok(match *kind {
            Type::INT8 => Self::Int(i64::from_sql(kind, raw)?),
            Type::INT4 => Self::Int(i32::from_sql(kind, raw)?.into()),
            Type::BOOL => Self::Int(bool::from_sql(kind, raw)?.into()),
            Type::BYTEA => Self::Blob(raw),
            _ => Self::Text(std::str::from_utf8(raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, BoxError> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::BOOL, Type::BYTEA, Type::TEXT].contains(kind)
    }
}

impl Columns for tokio_postgres::Row {
    fn cell(&self, index: usize) -> Result<Cell<'_>> {
        self.try_get(index).map_err(|source| Error::Backend {
            doing: "read a row of PostgreSQL",
            source: Box::new(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_sqlite_reads_is_translated() {
        assert_eq!(
            translated("SELECT a FROM t INDEXED BY t_by_a WHERE a = ?1 AND b > ?12"),
            "SELECT a FROM t WHERE a = $1 AND b > $12"
        );
        assert_eq!(
            translated(
                "a IN (SELECT CAST(value AS BIGINT) FROM json_each(?2)) \
                 AND b IN (SELECT value FROM json_each(?3)) AND c = ?1"
            ),
            "a = ANY(CAST(translate($2, '[]', '{}') AS BIGINT[])) \
             AND b = ANY(CAST(translate($3, '[]', '{}') AS TEXT[])) AND c = $1"
        );
    }
}
