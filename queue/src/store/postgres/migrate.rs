//! Brings a database to the newest schema. Forward only, each step in a transaction of
//! its own, one replica at a time; a newer schema is used as it is, if it allows that
//! ([`schema`](crate::store::schema)).
//!
//! A step must leave what the release before it does working: the replicas of that one
//! still serve while the first of the next one starts, and may start again themselves.

use tokio_postgres::{Client, Transaction};

use crate::store::schema::{Check, Found, Step, Verdict, adds, alters, compatible_from};
use crate::store::{Error, Result};

/// One script per version, in order; a published one is never changed.
pub(super) const STEPS: &[Step] = &[
    alters(include_str!("schema_1.sql")),
    alters(include_str!("schema_2.sql")),
    alters(include_str!("schema_3.sql")),
    alters(include_str!("schema_5.sql")),
    alters(include_str!("schema_6.sql")),
    adds(include_str!("compatible_from.sql")),
    adds(include_str!("schema_8.sql")),
];

/// Oldest server that the store was written for; older ones are out of support.
const OLDEST: i64 = 130_000;

/// Lock of whoever migrates: "provision" in ASCII, cut to eight bytes.
const LOCK: i64 = 0x7072_6f76_6973_696f;

/// Whether the database keeps from when on its schema may be used.
const KEEPS: &str = "SELECT EXISTS (SELECT 1 FROM information_schema.columns
     WHERE table_schema = current_schema() AND table_name = 'schema_migrations'
         AND column_name = 'compatible_from')";

/// Runs what is missing of `steps`.
///
/// # Errors
/// The server is too old, or its schema too new.
pub(super) async fn run(client: &mut Client, steps: &[Step]) -> Result<()> {
    old_enough(client).await?;
    loop {
        let tx = client.transaction().await?;
        // Ends with the transaction: a pooler may stand between.
        tx.batch_execute(&format!(
            "SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock({LOCK});
             CREATE TABLE IF NOT EXISTS schema_migrations (
                 version     BIGINT PRIMARY KEY,
                 applied_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
             )"
        ))
        .await?;
        let check = Check::new(found(&tx).await?, steps);
        if check.verdict() == Verdict::Newer {
            tracing::warn!(
                schema.version = check.found.version,
                schema.known = check.known,
                "the schema is of a newer release and may be used by this one"
            );
        }
        let Some(step) = check.next(steps)? else {
            return Ok(());
        };
        let version = check.found.version + 1;
        tx.batch_execute(step.sql).await?;
        tx.batch_execute(&format!(
            "INSERT INTO schema_migrations (version) VALUES ({version})"
        ))
        .await?;
        if keeps(&tx).await? {
            let from = compatible_from(steps, version);
            tx.batch_execute(&format!(
                "UPDATE schema_migrations SET compatible_from = {from} WHERE version = {version}"
            ))
            .await?;
        }
        tx.commit().await?;
    }
}

/// What the database says, without changing it.
///
/// # Errors
/// The server is too old, or fails.
pub(super) async fn check(client: &mut Client) -> Result<Check> {
    old_enough(client).await?;
    let tx = client.transaction().await?;
    let there = "SELECT to_regclass('schema_migrations') IS NOT NULL";
    let there: bool = tx.query_typed_one(there, &[]).await?.try_get(0)?;
    let found = if there {
        found(&tx).await?
    } else {
        Found {
            version: 0,
            compatible_from: 0,
        }
    };
    Ok(Check::new(found, STEPS))
}

async fn found(tx: &Transaction<'_>) -> Result<Found> {
    let newest = if keeps(tx).await? {
        "SELECT version, COALESCE(compatible_from, version) FROM schema_migrations
         ORDER BY version DESC LIMIT 1"
    } else {
        "SELECT version, version FROM schema_migrations ORDER BY version DESC LIMIT 1"
    };
    let rows = tx.query_typed(newest, &[]).await?;
    let mut found = Found {
        version: 0,
        compatible_from: 0,
    };
    if let Some(row) = rows.first() {
        found.version = row.try_get(0)?;
        found.compatible_from = row.try_get(1)?;
    }
    Ok(found)
}

async fn keeps(tx: &Transaction<'_>) -> Result<bool> {
    Ok(tx.query_typed_one(KEEPS, &[]).await?.try_get(0)?)
}

async fn old_enough(client: &Client) -> Result<()> {
    let asked = "SELECT CAST(current_setting('server_version_num') AS BIGINT)";
    let version: i64 = client.query_typed_one(asked, &[]).await?.try_get(0)?;
    if version >= OLDEST {
        return Ok(());
    }
    Err(Error::Invalid {
        what: format!(
            "the server is PostgreSQL {}; this release needs {} or newer",
            version / 10_000,
            OLDEST / 10_000
        ),
    })
}
