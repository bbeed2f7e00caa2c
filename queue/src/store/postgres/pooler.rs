//! Whether a proxy between gives one connection many sessions, by turns. Names of
//! prepared statements would mean something else there, and who forgets to say that one
//! stands between must not find out by a statement that does something else.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::SimpleQueryMessage;

use crate::store::{Error, Result};

/// A proxy that has one session only lets the second transaction wait.
const PATIENCE: Duration = Duration::from_secs(3);

/// Each way round, twice: a proxy may take the session that was free first, or last.
const ROUNDS: usize = 4;

/// What stands between a connection and its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing that was seen.
    OwnSessions,
    /// Something that shares them.
    SharedSessions,
}

/// Looks, with two connections of the pool; with one there is nothing to be seen.
///
/// # Errors
/// The server.
pub(super) async fn look(pool: &Pool) -> Result<Found> {
    if pool.status().max_size < 2 {
        return Ok(Found::OwnSessions);
    }
    let (first, second) = (pool.get().await?, pool.get().await?);
    match tokio::time::timeout(PATIENCE, compared(&first, &second)).await {
        Ok(found) => found,
        Err(_) => {
            // In the middle of something.
            drop((Object::take(first), Object::take(second)));
            Ok(Found::SharedSessions)
        }
    }
}

async fn compared(first: &Object, second: &Object) -> Result<Found> {
    let mut before = None;
    for round in 0..ROUNDS {
        let sessions = (begin(first).await?, begin(second).await?);
        let order = match round % 2 {
            0 => [first, second],
            _ => [second, first],
        };
        for client in order {
            client.batch_execute("COMMIT").await?;
        }
        if *before.get_or_insert_with(|| sessions.clone()) != sessions {
            return Ok(Found::SharedSessions);
        }
    }
    Ok(Found::OwnSessions)
}

/// Begins a transaction; in which session.
async fn begin(client: &Object) -> Result<String> {
    let answer = client
        .simple_query("BEGIN; SELECT pg_backend_pid()")
        .await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.map(str::to_owned).ok_or(Error::Closed)
}
