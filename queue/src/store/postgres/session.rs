//! One transaction on one connection.
//!
//! It runs on a thread that may block: transitions are plain functions, and each of their
//! statements waits there for its answer. The runtime's threads never wait for one.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio::runtime::Handle;

use super::fate::{self, Broken, Fate, Silent};
use super::pipeline::{self, Answer, Naming, Outgoing, Texts, Waiting};
use crate::store::sql::asked::{self, Asked};
use crate::store::sql::rows::{Columns as _, Db, FromCell as _, Value};
use crate::store::{Error, Result};

/// A statement that takes longer has a dead server, or one that is no use.
const STATEMENT: Duration = Duration::from_secs(30);

/// The same of an import, whose last statements look at all rows.
const IMPORT_STATEMENT: Duration = Duration::from_hours(1);

/// Statements that wait for one to travel with; the next one does not wait any longer.
const WAITING: usize = 16;

/// The server's clock, in Unix milliseconds.
const CLOCK: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

/// What begins a transaction that writes, and what is set for it and only for it. A wait
/// for a row ends before callers give up, and a transaction of a process that was stopped
/// in the middle lets go of its rows. Transitions look rows up by index, one after the
/// other. The planner, which knows little of a table that changes all the time, would now
/// and then read all of it for a join; a plan that it has made once is as good later.
const WRITE: (&str, &str) = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT), \
         set_config('lock_timeout', '5s', true), \
         set_config('idle_in_transaction_session_timeout', '15s', true), \
         set_config('enable_seqscan', 'off', true), \
         set_config('enable_hashjoin', 'off', true), \
         set_config('enable_mergejoin', 'off', true), \
         set_config('jit', 'off', true), \
         set_config('plan_cache_mode', 'force_generic_plan', true)",
);

/// What begins one that reads: one snapshot for all of its statements.
const READ: (&str, &str) = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", CLOCK);

/// What begins one that fills empty tables from a stream that may be slow.
const IMPORT: (&str, &str) = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
         SET LOCAL lock_timeout = '5s'; \
         SET LOCAL statement_timeout = 0; \
         SET LOCAL idle_in_transaction_session_timeout = 0",
    CLOCK,
);

/// Whether a transaction may change rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
    Import,
}

/// How statements travel.
#[derive(Debug, Clone)]
pub(super) struct Travel {
    pub naming: Naming,
    pub texts: Arc<Texts>,
}

/// An open transaction. Dropped without [`Session::commit`] or [`Session::rollback`] it
/// takes its connection with it, and the server rolls back.
pub(super) struct Session {
    client: Option<Object>,
    runtime: Handle,
    travel: Travel,
    /// The server's clock when it began, in Unix milliseconds.
    pub(super) begun_ms: i64,
    /// Whether a statement failed: the server would take COMMIT for ROLLBACK.
    broken: Cell<bool>,
    /// How long a statement may take.
    limit: Duration,
    /// Go before the next one that is waited for.
    waiting: RefCell<Vec<Waiting>>,
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
    pub(super) fn begin(
        client: Object,
        runtime: Handle,
        travel: Travel,
        mode: Mode,
    ) -> Result<Self> {
        let mut session = Self {
            client: Some(client),
            runtime,
            travel,
            begun_ms: 0,
            broken: Cell::new(false),
            limit: match mode {
                Mode::Read | Mode::Write => STATEMENT,
                Mode::Import => IMPORT_STATEMENT,
            },
            waiting: RefCell::default(),
        };
        let (begin, set) = match mode {
            Mode::Read => READ,
            Mode::Write => WRITE,
            Mode::Import => IMPORT,
        };
        let set = session.outgoing(set, &[]);
        let answers = session.exchange(vec![set], Some(begin), None)?;
        let answers = session.whole(answers)?;
        let row = answers.last().and_then(|answer| answer.rows.first());
        let clock = row.ok_or(Error::Closed)?.cell(0)?;
        session.begun_ms = i64::from_cell(clock).ok_or(Error::Closed)?;
        Ok(session)
    }

    /// Ends it for good, and leaves a mark of it, if there is one.
    pub(super) fn commit(self, mark: Option<&str>) -> Commit {
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
        let waiting = self.waiting.take();
        let waiting = waiting.iter().map(Waiting::outgoing).collect();
        match self.exchange(waiting, None, Some(&commit)) {
            Ok(answers) => self.ended(answers),
            // No answer at all: COMMIT may have been sent.
            Err(error) if fate::of(&error) == Fate::Lost => Commit::Unknown(error),
            Err(error) => Commit::Refused(error),
        }
    }

    /// What the answers to COMMIT, and to what travelled before it, come to. An error that
    /// the server told of any of them undid it all, whatever it said to COMMIT.
    fn ended(mut self, answers: Answers) -> Commit {
        let mut lost = None;
        for answer in answers {
            let Err(source) = answer else { continue };
            let error = Error::from(source);
            if fate::of(&error) != Fate::Lost {
                self.rollback();
                return Commit::Refused(error);
            }
            lost.get_or_insert(error);
        }
        match lost {
            Some(error) => Commit::Unknown(error),
            None => {
                // The connection goes back to the pool.
                self.client.take();
                Commit::Done
            }
        }
    }

    /// Undoes it. A connection that cannot even do that is not used again.
    pub(super) fn rollback(mut self) {
        let undone = self.exchange(Vec::new(), None, Some("ROLLBACK"));
        if undone.is_ok_and(|answers| answers.iter().all(std::result::Result::is_ok)) {
            self.client.take();
        }
    }

    fn client(&self) -> Result<&Object> {
        self.client.as_ref().ok_or(Error::Closed)
    }

    fn outgoing<'v>(&self, sql: &str, values: &[Value<'v>]) -> Outgoing<'v> {
        Outgoing {
            text: self.travel.texts.of(sql),
            values: values.to_vec(),
        }
    }

    /// What waits and then `asked`, in one round trip; the answers to `asked`.
    fn answers(&self, asked: Vec<Outgoing<'_>>) -> Result<Vec<Answer>> {
        let waiting = self.waiting.take();
        let sent = waiting.iter().map(Waiting::outgoing).chain(asked);
        let answers = self.exchange(sent.collect(), None, None)?;
        let mut answers = self.whole(answers)?;
        answers.drain(..waiting.len());
        Ok(answers)
    }

    /// All of them, or the first error: those behind it only say that there was one.
    fn whole(&self, answers: Answers) -> Result<Vec<Answer>> {
        let whole: std::result::Result<Vec<Answer>, _> = answers.into_iter().collect();
        whole.map_err(|source| {
            self.broken.set(true);
            source.into()
        })
    }

    fn exchange(
        &self,
        sent: Vec<Outgoing<'_>>,
        before: Option<&str>,
        behind: Option<&str>,
    ) -> Result<Answers> {
        let client = self.client()?;
        let naming = self.travel.naming;
        let within = self.runtime.block_on(async {
            let travelling = async {
                let ready = pipeline::ready(client, naming, sent).await?;
                Ok::<_, tokio_postgres::Error>(ready.go(client, before, behind).await)
            };
            // Made inside: a timer needs the runtime around it.
            tokio::time::timeout(self.limit, travelling).await
        });
        let error = match within {
            Ok(Ok(answers)) => return Ok(answers),
            Ok(Err(source)) => source.into(),
            Err(_) => Silent.into(),
        };
        self.broken.set(true);
        Err(error)
    }
}

type Answers = Vec<std::result::Result<Answer, tokio_postgres::Error>>;

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // Out of the pool: nobody knows what the connection is in the middle of.
            drop(Object::take(client));
        }
    }
}

impl Db for Session {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let answers = self.answers(vec![self.outgoing(sql, values)])?;
        Ok(answers.last().map_or(0, |answer| answer.changed))
    }

    fn run(&self, sql: &str, values: &[Value<'_>]) -> Result<()> {
        let waiting = Waiting::of(self.travel.texts.of(sql), values);
        self.waiting.borrow_mut().push(waiting);
        if self.waiting.borrow().len() >= WAITING {
            self.answers(Vec::new())?;
        }
        Ok(())
    }

    fn ask(&self, asked: &mut [&mut dyn Asked]) -> Result<()> {
        let sent = asked
            .iter()
            .map(|one| self.outgoing(one.sql(), one.values()));
        let answers = self.answers(sent.collect())?;
        for (one, answer) in asked.iter_mut().zip(answers) {
            asked::show(&answer.rows, *one)?;
        }
        Ok(())
    }

    #[cfg(test)]
    fn visited(&self) -> Result<u64> {
        let rows = "SELECT CAST(SUM(pg_stat_get_xact_tuples_returned(c.oid)) AS BIGINT)
             FROM pg_class c WHERE c.oid = CAST('jobs' AS regclass) OR c.oid IN
                 (SELECT indexrelid FROM pg_index WHERE indrelid = CAST('jobs' AS regclass))";
        let answers = self.answers(vec![self.outgoing(rows, &[])])?;
        let row = answers.first().and_then(|answer| answer.rows.first());
        let rows: i64 = row.expect("one row").get(0);
        Ok(u64::try_from(rows).expect("no negative count"))
    }
}
