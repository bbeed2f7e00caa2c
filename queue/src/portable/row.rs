//! Rows that belong to no database: cells by the order of their table's columns.

use serde::{Deserialize, Serialize};

use crate::store::sql::rows::{Cell as Stored, Row as StoredRow, Value};
use crate::store::{Error, Result};

/// Whether a row is large, and where it is: names that no column has.
const LARGE: &str = "\"is large\"";
const PLACE: &str = "\"is at\"";

/// A table, by its name in both databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, by name.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// What a column holds where it is not NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Numbers and truths.
    Int,
    /// Text.
    Text,
    /// Bytes.
    Blob,
}

/// One row.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Row {
    #[prost(message, repeated, tag = "1")]
    pub cells: Vec<Cell>,
}

/// One cell; NULL is no value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cell {
    #[prost(oneof = "Content", tags = "1, 2, 3")]
    pub content: Option<Content>,
}

/// What is in a cell.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Content {
    #[prost(sint64, tag = "1")]
    Int(i64),
    #[prost(string, tag = "2")]
    Text(String),
    #[prost(bytes, tag = "3")]
    Blob(Vec<u8>),
}

/// A row whose cells are not those of its table.
#[derive(Debug, thiserror::Error)]
#[error("a row of `{table}` has {found} cells instead of {expected}, or one of another kind")]
struct Misfit {
    table: String,
    expected: usize,
    found: usize,
}

impl Table {
    /// The names of its columns, quoted, with commas.
    pub fn names(&self) -> String {
        let quoted = self.columns.iter().map(|column| quoted(&column.name));
        quoted.collect::<Vec<_>>().join(", ")
    }

    /// The query of PostgreSQL for all rows of at most so many bytes; of larger ones only the
    /// place, in one column more, and no text and no bytes.
    pub fn small_or_places(&self, bytes: usize) -> String {
        let wide = |column: &&Column| !matches!(column.kind, Kind::Int);
        let size = |column: &Column| {
            let name = quoted(&column.name);
            format!("COALESCE(CAST(octet_length({name}) AS BIGINT), 0)")
        };
        let sizes = self.columns.iter().filter(wide).map(size);
        let sizes = std::iter::once("0".to_owned()).chain(sizes);
        let sizes = sizes.collect::<Vec<_>>().join(" + ");
        let shown = self.columns.iter().map(|column| {
            let name = quoted(&column.name);
            match column.kind {
                Kind::Int => name,
                Kind::Text | Kind::Blob => format!("CASE WHEN {LARGE} THEN NULL ELSE {name} END"),
            }
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        let (names, name) = (self.names(), quoted(&self.name));
        // `OFFSET 0`: the sizes are added up once for a row, not once for each column.
        format!(
            "SELECT {shown}, CASE WHEN {LARGE} THEN CAST({PLACE} AS TEXT) END FROM
                 (SELECT {names}, ctid AS {PLACE}, {sizes} > {bytes} AS {LARGE}
                  FROM {name} OFFSET 0) looked_at"
        )
    }

    /// A row as a database gives it.
    pub fn take(&self, row: StoredRow<'_>) -> Result<Row> {
        let cells = (0..self.columns.len()).map(|index| {
            let content = match row.0.cell(index)? {
                Stored::Null => None,
                Stored::Int(number) => Some(Content::Int(number)),
                Stored::Text(text) => Some(Content::Text(text.to_owned())),
                Stored::Blob(bytes) => Some(Content::Blob(bytes.to_owned())),
            };
            Ok(Cell { content })
        });
        Ok(Row {
            cells: cells.collect::<Result<_>>()?,
        })
    }

    /// A row's cells as parameters.
    ///
    /// # Errors
    /// The row is not one of this table.
    pub fn values<'r>(&self, row: &'r Row) -> Result<Vec<Value<'r>>> {
        let misfit = || Error::Backend {
            doing: "read a row of a backup",
            source: Box::new(Misfit {
                table: self.name.clone(),
                expected: self.columns.len(),
                found: row.cells.len(),
            }),
        };
        if row.cells.len() != self.columns.len() {
            return Err(misfit());
        }
        let pairs = self.columns.iter().zip(&row.cells);
        pairs
            .map(|(column, cell)| column.kind.value(cell).ok_or_else(misfit))
            .collect()
    }
}

impl Kind {
    fn value(self, cell: &Cell) -> Option<Value<'_>> {
        match (self, &cell.content) {
            (Self::Int, None) => Some(Value::Int(None)),
            (Self::Text, None) => Some(Value::Text(None)),
            (Self::Blob, None) => Some(Value::Blob(None)),
            (Self::Int, Some(Content::Int(number))) => Some(Value::Int(Some(*number))),
            (Self::Text, Some(Content::Text(text))) => Some(Value::Text(Some(text))),
            (Self::Blob, Some(Content::Blob(bytes))) => Some(Value::Blob(Some(bytes))),
            (Self::Int | Self::Text | Self::Blob, Some(_)) => None,
        }
    }
}

/// A name as both databases read it.
pub fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}
