//! Which tables travel, and how their columns are found in either database.

use super::row::{Column, Kind, Table};
use crate::store::Result;
use crate::store::sql::rows::{Db, unreadable, values};

/// What belongs to one database alone: its clock, its schema's number, its marks, who
/// serves it right now, and `unconfirmed`, which only PostgreSQL has left, for replicas of
/// the release before; what they write there stands in `doubts` as well.
const OWN: [&str; 8] = [
    "blob_place",
    "commits",
    "duties",
    "meta",
    "replicas",
    "schema_migrations",
    "schema_version",
    "unconfirmed",
];

const SQLITE: &str = "SELECT t.name, c.name, lower(c.type) \
     FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
     WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite|_%' ESCAPE '|' \
     ORDER BY t.name, c.name";

const POSTGRES: &str = "SELECT CAST(c.table_name AS TEXT) COLLATE \"C\", \
         CAST(c.column_name AS TEXT) COLLATE \"C\", CAST(c.data_type AS TEXT) \
     FROM information_schema.columns c \
     JOIN information_schema.tables t USING (table_schema, table_name) \
     WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' \
     ORDER BY 1, 2";

/// The tables of SQLite that travel; see [`of_postgres`].
pub fn of_sqlite(db: &dyn Db) -> Result<Vec<Table>> {
    listed(db, SQLITE)
}

/// The tables of PostgreSQL that travel, by name, with their columns by name: the same
/// list as SQLite's.
pub fn of_postgres(db: &dyn Db) -> Result<Vec<Table>> {
    listed(db, POSTGRES)
}

fn listed(db: &dyn Db, query: &str) -> Result<Vec<Table>> {
    let columns = db.prepare(query).all(values![], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<String>(2)?))
    })?;
    let mut tables: Vec<Table> = Vec::new();
    for (table, name, kind) in columns {
        let table: String = table;
        if OWN.contains(&table.as_str()) {
            continue;
        }
        let kind = match kind.as_str() {
            "integer" | "bigint" => Kind::Int,
            "text" => Kind::Text,
            "blob" | "bytea" => Kind::Blob,
            _ => return Err(unreadable(2, "kind of column")),
        };
        let column = Column { name, kind };
        match tables.last_mut() {
            Some(last) if last.name == table => last.columns.push(column),
            Some(_) | None => tables.push(Table {
                name: table,
                columns: vec![column],
            }),
        }
    }
    Ok(tables)
}
