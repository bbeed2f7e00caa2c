//! Brings a database file to the newest schema, each step in a transaction of its own.
//! A newer schema is used as it is, if it allows that ([`schema`](crate::store::schema)),
//! and never guessed at.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};

use crate::store::Result;
use crate::store::schema::{Check, Found, Step, adds, alters, compatible_from};

/// One script per version, in order; a published one is never changed.
pub(super) const STEPS: &[Step] = &[
    alters(include_str!("schema_1.sql")),
    alters(include_str!("schema_2.sql")),
    alters(include_str!("schema_3.sql")),
    alters(include_str!("schema_4.sql")),
    alters(include_str!("schema_5.sql")),
    alters(include_str!("schema_6.sql")),
    alters(include_str!("schema_7.sql")),
    adds(include_str!("compatible_from.sql")),
    alters(include_str!("schema_9.sql")),
    adds(include_str!("schema_10.sql")),
];

/// Whether the file keeps from when on its schema may be used.
const KEEPS: &str =
    "SELECT COUNT(*) FROM pragma_table_info('schema_version') WHERE name = 'compatible_from'";

/// Runs what is missing of `steps`.
///
/// # Errors
/// The schema is too new, or the file fails.
pub(super) fn run(conn: &mut Connection, steps: &[Step]) -> Result<()> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT",
    )?;
    loop {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let check = Check::new(found(&tx)?, steps);
        let Some(step) = check.next(steps)? else {
            return Ok(());
        };
        let version = check.found.version + 1;
        tx.execute_batch(step.sql)?;
        tx.execute(
            "INSERT INTO schema_version (version) VALUES (?1)",
            [version],
        )?;
        if keeps(&tx)? {
            let from = compatible_from(steps, version);
            let note = "UPDATE schema_version SET compatible_from = ?2 WHERE version = ?1";
            tx.execute(note, [version, from])?;
        }
        tx.commit()?;
    }
}

/// What the file at `path` says, without changing it. One that is not there is empty.
///
/// # Errors
/// It cannot be read.
pub(in crate::store) fn check(path: &Path) -> Result<Check> {
    let mut found = Found {
        version: 0,
        compatible_from: 0,
    };
    if path.exists() {
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let there = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'schema_version'";
        if conn.query_row(there, [], |row| row.get::<_, i64>(0))? > 0 {
            found = self::found(&conn)?;
        }
    }
    Ok(Check::new(found, STEPS))
}

fn found(conn: &Connection) -> Result<Found> {
    let newest = if keeps(conn)? {
        "SELECT version, COALESCE(compatible_from, version) FROM schema_version
         ORDER BY version DESC LIMIT 1"
    } else {
        "SELECT version, version FROM schema_version ORDER BY version DESC LIMIT 1"
    };
    let found = conn.query_row(newest, [], |row| {
        Ok(Found {
            version: row.get(0)?,
            compatible_from: row.get(1)?,
        })
    });
    let empty = Found {
        version: 0,
        compatible_from: 0,
    };
    Ok(found.optional()?.unwrap_or(empty))
}

fn keeps(conn: &Connection) -> Result<bool> {
    Ok(conn.query_row(KEEPS, [], |row| row.get::<_, i64>(0))? > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn memory(steps: &[Step]) -> Connection {
        let mut conn = Connection::open_in_memory().expect("memory");
        run(&mut conn, steps).expect("steps");
        conn
    }

    #[test]
    fn migrating_twice_is_harmless_and_a_newer_file_is_refused() {
        let mut conn = memory(STEPS);
        run(&mut conn, STEPS).expect("second");
        conn.execute("INSERT INTO schema_version (version) VALUES (99)", [])
            .expect("insert");
        let refused = run(&mut conn, STEPS).expect_err("newer");
        assert!(refused.to_string().contains("version 99"), "{refused}");
    }

    #[test]
    fn a_newer_file_that_spares_this_release_is_used_as_it_is() {
        let mut conn = memory(STEPS);
        let known = STEPS.len();
        let from = i64::try_from(known).expect("few");
        conn.execute("INSERT INTO schema_version VALUES (99, ?1)", [from])
            .expect("insert");
        run(&mut conn, STEPS).expect("compatible");
        let refused = run(&mut conn, &STEPS[..known - 1]).expect_err("an older one");
        assert!(refused.to_string().contains("version 99"), "{refused}");
    }

    /// Name, type, whether it must be given, and whether it has a default, of each column.
    fn columns(conn: &Connection) -> BTreeMap<(String, String), (String, bool, bool)> {
        let mut statement = conn
            .prepare(
                "SELECT t.name, c.name, c.type, c.\"notnull\", c.dflt_value IS NOT NULL
                 FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'",
            )
            .expect("a look");
        let rows = statement.query_map([], |row| {
            Ok((
                (row.get(0)?, row.get(1)?),
                (row.get(2)?, row.get(3)?, row.get(4)?),
            ))
        });
        rows.expect("rows").map(|row| row.expect("a row")).collect()
    }

    /// Unique indexes, which refuse what was taken before, by their table.
    fn unique(conn: &Connection) -> Vec<(String, String)> {
        let sql = "SELECT t.name, i.name FROM sqlite_schema t, pragma_index_list(t.name) i
             WHERE t.type = 'table' AND i.\"unique\" = 1";
        let mut statement = conn.prepare(sql).expect("a look");
        let names = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        names
            .expect("rows")
            .map(|name| name.expect("a name"))
            .collect()
    }

    #[test]
    fn a_step_that_says_so_only_adds() {
        for (index, _) in STEPS.iter().enumerate().filter(|(_, s)| s.only_adds()) {
            let (before, after) = (memory(&STEPS[..index]), memory(&STEPS[..=index]));
            let (old, new) = (columns(&before), columns(&after));
            for (column, is) in &old {
                assert_eq!(
                    new.get(column),
                    Some(is),
                    "{column:?} in step {}",
                    index + 1
                );
            }
            let tables: Vec<&String> = old.keys().map(|(table, _)| table).collect();
            for ((table, column), (_, must, default)) in &new {
                let added = !old.contains_key(&(table.clone(), column.clone()));
                if added && tables.contains(&table) {
                    assert!(!must || *default, "{table}.{column} must be given");
                }
            }
            let known = unique(&before);
            for (table, index) in unique(&after) {
                let added = !known.contains(&(table.clone(), index.clone()));
                assert!(!added || !tables.contains(&&table), "{index} refuses more");
            }
        }
    }

    /// Rows as a release before the first step that only adds writes and reads them.
    #[test]
    fn rows_of_the_release_before_stay_and_more_of_them_may_come() {
        let first = STEPS.iter().position(|step| step.only_adds());
        let first = first.expect("such a step");
        let mut conn = memory(&STEPS[..first]);
        let write = |conn: &Connection, name: &str| {
            conn.execute_batch(&format!(
                "INSERT INTO organizations (name, created_at) VALUES ('{name}', 1);
                 INSERT INTO keys (hash, organization, name, tags, created_at)
                     VALUES (CAST('{name}' AS BLOB), '{name}', 'key', '{{}}', 1)"
            ))
            .expect("written");
        };
        let read = |conn: &Connection| {
            let sql = "SELECT COUNT(*) FROM organizations o JOIN keys k ON k.organization = o.name
                 WHERE k.tags = '{}'";
            conn.query_row(sql, [], |row| row.get::<_, i64>(0))
                .expect("read")
        };
        write(&conn, "before");
        run(&mut conn, &STEPS[..=first]).expect("migrated");
        assert_eq!(read(&conn), 1);
        // The old release starts again and writes; the one before it may not.
        run(&mut conn, &STEPS[..first]).expect("it is spared");
        run(&mut conn, &STEPS[..first - 1]).expect_err("it is not");
        write(&conn, "after");
        assert_eq!(read(&conn), 2);
    }
}
