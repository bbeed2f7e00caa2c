//! Brings a database file to the newest schema, each step in a transaction of its own.
//! A file of a newer version is refused, never guessed at.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::{Error, Result};

/// One script per version, in order; a published one is never changed.
const STEPS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
];

/// Runs what is missing.
pub(super) fn run(conn: &mut Connection) -> Result<()> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT",
    )?;
    loop {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = tx.query_row(
            "SELECT COALESCE(MAX(version), 0) FROM schema_version",
            [],
            |row| row.get(0),
        )?;
        let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
        if version > known {
            return Err(Error::Invalid {
                what: format!(
                    "the database has schema version {version}; this release knows up to {known}"
                ),
            });
        }
        let step = usize::try_from(version)
            .ok()
            .and_then(|version| STEPS.get(version));
        let Some(step) = step else {
            return Ok(());
        };
        tx.execute_batch(step)?;
        tx.execute("INSERT INTO schema_version VALUES (?1)", [version + 1])?;
        tx.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_is_harmless_and_a_newer_file_is_refused() {
        let mut conn = Connection::open_in_memory().expect("memory");
        run(&mut conn).expect("first");
        run(&mut conn).expect("second");
        conn.execute("INSERT INTO schema_version VALUES (99)", [])
            .expect("insert");
        let refused = run(&mut conn).expect_err("newer");
        assert!(refused.to_string().contains("version 99"), "{refused}");
    }
}
