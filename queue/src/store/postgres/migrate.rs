//! Brings a database to the newest schema. Forward only, each step in a transaction of
//! its own, one replica at a time; a database of a newer release is refused.
//!
//! A step must leave what the release before it does working: the replicas of that one
//! still serve while the first of the next one starts.

use tokio_postgres::Client;

use crate::store::{Error, Result};

/// One script per version, in order; a published one is never changed.
const STEPS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
];

/// Oldest server that the store was written for; older ones are out of support.
const OLDEST: i64 = 130_000;

/// Lock of whoever migrates: "provision" in ASCII, cut to eight bytes.
const LOCK: i64 = 0x7072_6f76_6973_696f;

/// Runs what is missing.
///
/// # Errors
/// The server is too old, or its schema too new.
pub(super) async fn run(client: &mut Client) -> Result<()> {
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
        let newest = "SELECT COALESCE(MAX(version), 0) FROM schema_migrations";
        let version: i64 = tx.query_typed_one(newest, &[]).await?.try_get(0)?;
        let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
        if version > known {
            return Err(Error::Invalid {
                what: format!(
                    "the database has schema version {version}; this release knows up to {known}"
                ),
            });
        }
        let step = usize::try_from(version).ok();
        let Some(step) = step.and_then(|version| STEPS.get(version)) else {
            return Ok(());
        };
        tx.batch_execute(step).await?;
        tx.batch_execute(&format!(
            "INSERT INTO schema_migrations (version) VALUES ({})",
            version + 1
        ))
        .await?;
        tx.commit().await?;
    }
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
