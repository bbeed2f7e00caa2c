//! Brings a database to the newest schema. Forward only, each step in a transaction of
//! its own, one replica at a time; a newer schema is used as it is, if it allows that
//! ([`schema`](crate::store::schema)).
//!
//! A step must leave what the release before it does working: the replicas of that one
//! still serve while the first of the next one starts, and may start again themselves.
//! Whoever waits for the lock of a table lets nobody else get one: a step waits briefly, and
//! again after a pause in which they do.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{Client, Row, Transaction};

use super::fate;
use crate::shared::jittered;

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
    adds(include_str!("schema_10.sql")),
];

/// Oldest server that the store was written for; older ones are out of support.
const OLDEST: i64 = 130_000;

/// Lock of whoever migrates: "provision" in ASCII, cut to eight bytes.
const LOCK: i64 = 0x7072_6f76_6973_696f;

/// Whether the database keeps from when on its schema may be used.
const KEEPS: &str = "SELECT EXISTS (SELECT 1 FROM information_schema.columns
     WHERE table_schema = current_schema() AND table_name = 'schema_migrations'
         AND column_name = 'compatible_from')";

/// How long a step waits for locks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For one, while all who come later wait behind it.
    pub lock: Duration,
    /// Between two tries, for those.
    pub pause: Duration,
    /// In all.
    pub whole: Duration,
}

/// The last is what a person waits for a start.
pub(super) const PATIENCE: Patience = Patience {
    lock: Duration::from_secs(2),
    pause: Duration::from_secs(2),
    whole: Duration::from_mins(1),
};

/// Those in this database that hold locks of its tables, the oldest first: who they are and
/// for how many seconds.
const HOLDERS: &str = "SELECT a.pid, COALESCE(CAST(a.usename AS TEXT), ''),
         COALESCE(a.application_name, ''), COALESCE(a.state, ''),
         CAST(COALESCE(extract(epoch FROM clock_timestamp() - a.xact_start), 0) AS BIGINT)
     FROM pg_stat_activity a
     WHERE a.pid <> pg_backend_pid() AND a.pid IN
         (SELECT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
          JOIN pg_database d ON d.oid = l.database
          WHERE l.granted AND d.datname = current_database()
              AND c.relnamespace = CAST(current_schema() AS REGNAMESPACE))
     ORDER BY a.xact_start NULLS LAST, a.pid LIMIT 3";

/// Runs what is missing of `steps`.
///
/// # Errors
/// The server is too old, its schema too new, or somebody holds a table.
pub(super) async fn run(client: &mut Client, steps: &[Step]) -> Result<()> {
    run_with(client, steps, PATIENCE).await
}

/// The same, for a test with less patience.
pub(super) async fn run_with(
    client: &mut Client,
    steps: &[Step],
    patience: Patience,
) -> Result<()> {
    old_enough(client).await?;
    let mut begun = Instant::now();
    loop {
        match one(client, steps, patience).await {
            Ok(Went::Nowhere) => return Ok(()),
            Ok(Went::Further) => begun = Instant::now(),
            Err(error) if !fate::met_a_lock(&error) => return Err(error),
            Err(_) if begun.elapsed() + patience.pause >= patience.whole => {
                return Err(Error::MigrationBlocked {
                    limit: patience.whole,
                    holders: holders(client).await?,
                });
            }
            Err(error) => {
                tracing::info!(error = %crate::refusal::chain(&error),
                    "a step of the schema waits for others to let go of a table");
                tokio::time::sleep(jittered(patience.pause)).await;
            }
        }
    }
}

/// What a try has come to.
enum Went {
    /// One step.
    Further,
    /// There is none left.
    Nowhere,
}

/// Runs the next step, if there is one.
async fn one(client: &mut Client, steps: &[Step], patience: Patience) -> Result<Went> {
    let tx = client.transaction().await?;
    // Who waits for another one that migrates is in nobody's way. The settings end with the
    // transaction: a pooler may stand between.
    let (whole, lock) = (patience.whole.as_millis(), patience.lock.as_millis());
    tx.batch_execute(&format!(
        "SET LOCAL lock_timeout = {whole}; SELECT pg_advisory_xact_lock({LOCK});
         SET LOCAL lock_timeout = {lock};
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
        return Ok(Went::Nowhere);
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
    Ok(Went::Further)
}

/// Who holds what a step waits for, in words.
async fn holders(client: &Client) -> Result<String> {
    let found = client.query_typed(HOLDERS, &[]).await?;
    let holders = found.iter().map(holder).collect::<Result<Vec<_>>>()?;
    Ok(match holders.as_slice() {
        [] => "by nobody that this user may see".to_owned(),
        holders => format!("by {}", holders.join(", ")),
    })
}

fn holder(row: &Row) -> Result<String> {
    let (pid, user, application): (i32, &str, &str) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (state, seconds): (&str, i64) = (row.try_get(3)?, row.try_get(4)?);
    let known = [user, application, state]
        .into_iter()
        .map(crate::refusal::shown);
    let known = known.filter(|word| !word.is_empty());
    let known = known.collect::<Vec<_>>().join(", ");
    Ok(format!("session {pid} ({known}, for {seconds} s)"))
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
