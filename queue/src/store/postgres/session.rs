//! One transaction on one connection.
//!
//! It runs on a thread that may block: transitions are plain functions, and each of their
//! statements waits there for its answer. The runtime's threads never wait for one.

use std::cell::Cell;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio::runtime::Handle;
use tokio_postgres::types::Type;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::fate::{self, Broken, Fate, Silent};
use super::rows::{translated, typed};
use crate::store::sql::rows::{Db, More, Row, Value};
use crate::store::{Error, Result};

/// A statement that takes longer has a dead server, or one that is no use.
const STATEMENT: Duration = Duration::from_secs(30);

/// The same of an import, whose last statements look at all rows.
const IMPORT_STATEMENT: Duration = Duration::from_hours(1);

/// What begins a transaction that writes. A wait for a row ends before callers give up,
/// and a transaction of a process that was stopped in the middle lets go of its rows.
/// Transitions look rows up by index, one after the other. The planner, which knows little
/// of a table that changes all the time, would now and then read all of it for a join.
const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '5s'; \
     SET LOCAL idle_in_transaction_session_timeout = '15s'; \
     SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
     SET LOCAL enable_mergejoin = off; SET LOCAL jit = off; \
     SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

/// What begins one that reads: one snapshot for all of its statements.
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

/// What begins one that fills empty tables from a stream that may be slow.
const IMPORT: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '5s'; \
     SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; \
     SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

/// Whether a transaction may change rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
    Import,
}

/// An open transaction. Dropped without [`Session::commit`] or [`Session::rollback`] it
/// takes its connection with it, and the server rolls back.
pub(super) struct Session {
    client: Option<Object>,
    runtime: Handle,
    /// The server's clock when it began, in Unix milliseconds.
    pub(super) begun_ms: i64,
    /// Whether a statement failed: the server would take COMMIT for ROLLBACK.
    broken: Cell<bool>,
    /// How long a statement may take.
    limit: Duration,
}

/// How COMMIT ended.
pub(super) enum Commit {
    /// Durable.
    Done,
    /// Surely not.
    Refused(Error),
    /// The connection broke before the answer.
    Unknown(Error),
}

impl Session {
    /// Begins; to be called on a thread that may block.
    pub(super) fn begin(client: Object, runtime: Handle, mode: Mode) -> Result<Self> {
        let mut session = Self {
            client: Some(client),
            runtime,
            begun_ms: 0,
            broken: Cell::new(false),
            limit: match mode {
                Mode::Read | Mode::Write => STATEMENT,
                Mode::Import => IMPORT_STATEMENT,
            },
        };
        let sql = match mode {
            Mode::Read => READ,
            Mode::Write => WRITE,
            Mode::Import => IMPORT,
        };
        let answer = session.block(session.client()?.simple_query(sql))?;
        let first = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        session.begun_ms = first.and_then(number).ok_or(Error::Closed)?;
        Ok(session)
    }

    /// Ends it for good, and leaves a mark of it, if there is one.
    pub(super) fn commit(mut self, mark: Option<&str>) -> Commit {
        if self.broken.get() {
            self.rollback();
            return Commit::Refused(Error::Backend {
                doing: "committed",
                source: Box::new(Broken),
            });
        }
        let commit = mark.map_or_else(
            || "COMMIT".to_owned(),
            |mark| format!("INSERT INTO commits (id, fenced) VALUES ('{mark}', 0); COMMIT"),
        );
        let committed = self
            .client()
            .and_then(|client| self.block(client.batch_execute(&commit)));
        match committed {
            Ok(()) => {
                // The connection goes back to the pool.
                self.client.take();
                Commit::Done
            }
            Err(error) if fate::of(&error) == Fate::Lost => Commit::Unknown(error),
            Err(error) => Commit::Refused(error),
        }
    }

    /// Undoes it. A connection that cannot even do that is not used again.
    pub(super) fn rollback(mut self) {
        let undone = self
            .client()
            .and_then(|client| self.block(client.batch_execute("ROLLBACK")));
        if undone.is_ok() {
            self.client.take();
        }
    }

    fn client(&self) -> Result<&Object> {
        self.client.as_ref().ok_or(Error::Closed)
    }

    fn block<T>(
        &self,
        answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let within = self.runtime.block_on(async {
            // Made inside: a timer needs the runtime around it.
            tokio::time::timeout(self.limit, answer).await
        });
        let error = match within {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(source)) => source.into(),
            Err(_) => Silent.into(),
        };
        self.broken.set(true);
        Err(error)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // Out of the pool: nobody knows what the connection is in the middle of.
            drop(Object::take(client));
        }
    }
}

fn number(row: &SimpleQueryRow) -> Option<i64> {
    row.get(0)?.parse().ok()
}

impl Db for Session {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let sql = translated(sql);
        let parameters: Vec<_> = values.iter().map(typed).collect();
        self.block(self.client()?.execute_typed(&sql, &parameters))
    }

    fn query(
        &self,
        sql: &str,
        values: &[Value<'_>],
        each: &mut dyn FnMut(Row<'_>) -> Result<More>,
    ) -> Result<()> {
        let sql = translated(sql);
        let parameters: Vec<(_, Type)> = values.iter().map(typed).collect();
        for row in self.block(self.client()?.query_typed(&sql, &parameters))? {
            match each(Row(&row))? {
                More::Yes => {}
                More::No => return Ok(()),
            }
        }
        Ok(())
    }

    #[cfg(test)]
    fn visited(&self) -> Result<u64> {
        let rows = "SELECT CAST(SUM(pg_stat_get_xact_tuples_returned(c.oid)) AS BIGINT)
             FROM pg_class c WHERE c.oid = CAST('jobs' AS regclass) OR c.oid IN
                 (SELECT indexrelid FROM pg_index WHERE indrelid = CAST('jobs' AS regclass))";
        let rows = self.block(self.client()?.query_one(rows, &[]))?;
        Ok(u64::try_from(rows.get::<_, i64>(0)).expect("no negative count"))
    }
}
