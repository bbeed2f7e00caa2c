//! The thread that owns the one writing connection: group commit.
//!
//! Whatever commands wait share a transaction; see [`Batches`]. Answers and events leave only
//! after COMMIT; when COMMIT fails, every command of the batch is answered with that. A
//! command that fails must leave nothing behind, and few do: the batch is run without a care
//! for that, and once more with a savepoint around each command when one of them has failed.
//! Savepoints cost a copy of each page that a command changes.
//!
//! ```text
//!   BEGIN  a  b  c  d  COMMIT                      all went well
//!   BEGIN  a  b  c! ROLLBACK                       c fails
//!   BEGIN  [a]  [b]  [c!]  [d]  COMMIT             each alone; c leaves nothing
//! ```

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use proto::timings::Timings;
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::batches::Batches;
use super::checkpoint::Log;
use crate::store::clock::Clock;
use crate::store::sql::{Snapshot, Tx};
use crate::store::{Error, Event, Result};

/// Commands that may wait; callers beyond wait for a place.
const QUEUE: usize = 1_024;

/// Work for one transaction, which may have to begin anew.
trait Command: Send {
    /// Runs, from the start each time; says whether to keep what it wrote.
    fn run(&mut self, tx: &mut Tx<'_>) -> Fate;

    /// Whether its last run gave an error.
    fn has_failed(&self) -> bool;

    /// Whether it changes nothing.
    fn only_looks(&self) -> bool;

    /// Answers what the last run gave, once the fate of its transaction is known. One that
    /// was not run drops its caller.
    fn answer(self: Box<Self>, committed: Committed);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Undo,
}

/// What a command does to the database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// It may change rows.
    Write,
    /// It reads what the ones before it have written, and changes nothing.
    Look,
}

/// A command and who waits for it.
struct Asked<T, F> {
    command: F,
    does: Does,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Command for Asked<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Fate {
        let result = (self.command)(tx);
        let fate = if result.is_ok() || self.only_looks() {
            Fate::Keep
        } else {
            Fate::Undo
        };
        self.result = Some(result);
        fate
    }

    fn has_failed(&self) -> bool {
        matches!(self.result, Some(Err(_)))
    }

    fn only_looks(&self) -> bool {
        self.does == Does::Look
    }

    fn answer(self: Box<Self>, committed: Committed) {
        let Some(result) = self.result else { return };
        // A caller that went away does not want the answer.
        let _ = self.reply.send(match committed {
            Committed::Yes => result,
            Committed::No(source) => result.and_then(|_| Err(not_committed(source))),
        });
    }
}

/// Whether the transaction is durable.
#[derive(Clone)]
enum Committed {
    Yes,
    No(Arc<rusqlite::Error>),
}

#[derive(Debug)]
pub(super) struct Writer {
    commands: mpsc::Sender<Box<dyn Command>>,
}

impl Writer {
    pub(super) fn start(
        (conn, log): (Connection, Log),
        clock: Clock,
        timings: Arc<Timings>,
        events: broadcast::Sender<Event>,
    ) -> Result<Self> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let worker = Worker {
            conn,
            log,
            clock,
            timings,
            events,
        };
        thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || worker.run(queue))
            .map_err(|source| Error::Backend {
                doing: "started its writer thread",
                source: Box::new(source),
            })?;
        Ok(Self { commands })
    }

    /// Returns when the thread has ended, by a panic: it lives as long as this handle.
    pub(super) async fn ended(&self) {
        self.commands.closed().await;
    }

    pub(super) async fn run<T, F>(&self, does: Does, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let asked = Box::new(Asked {
            command,
            does,
            result: None,
            reply,
        });
        self.commands.send(asked).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| not_run())?
    }
}

/// Its transaction broke before the command's turn; the log says how.
#[derive(Debug, thiserror::Error)]
#[error("the transaction broke before the command's turn")]
struct NotRun;

fn not_run() -> Error {
    Error::Backend {
        doing: "began a command",
        source: Box::new(NotRun),
    }
}

fn not_committed(source: Arc<rusqlite::Error>) -> Error {
    Error::Backend {
        doing: "committed",
        source: Box::new(source),
    }
}

struct Worker {
    conn: Connection,
    log: Log,
    clock: Clock,
    timings: Arc<Timings>,
    events: broadcast::Sender<Event>,
}

/// How the commands of a transaction are kept apart.
#[derive(Clone, Copy)]
enum Apart {
    /// Not at all: the first failure ends it.
    No,
    /// Each in a savepoint.
    Savepoints,
}

impl Worker {
    fn run(self, queue: mpsc::Receiver<Box<dyn Command>>) {
        let mut batches = Batches::of(queue);
        #[allow(
            clippy::disallowed_methods,
            reason = "the writer's own thread; with nothing else to do meanwhile"
        )]
        while let Some(batch) = batches.next(Instant::now, thread::sleep) {
            self.transact(batch);
            self.log.look(&self.conn);
        }
    }

    fn transact(&self, mut batch: Vec<Box<dyn Command>>) {
        let now = self.clock.now_ms();
        let (events, committed) = match self.commit(&mut batch, now) {
            Ok(events) => (events, Committed::Yes),
            Err(source) => {
                if let Err(error) = self.roll_back() {
                    tracing::error!(error = &error as &dyn std::error::Error, "rollback failed");
                }
                tracing::error!(error = &source as &dyn std::error::Error, "commit failed");
                (Vec::new(), Committed::No(Arc::new(source)))
            }
        };
        // Before the answers: who has one and looks for its event finds it.
        for event in events {
            // Nobody listening is no error.
            let _ = self.events.send(event);
        }
        for command in batch {
            command.answer(committed.clone());
        }
    }

    /// Runs the batch from BEGIN to COMMIT, a second time when a command fails; what is to
    /// be told. On an error of the transaction itself, commands not run yet have no answer;
    /// see [`NotRun`].
    fn commit(&self, batch: &mut [Box<dyn Command>], now: i64) -> rusqlite::Result<Vec<Event>> {
        if let Some(events) = self.fill(batch, now, Apart::No)? {
            return Ok(events);
        }
        self.roll_back()?;
        if let [alone] = batch
            && alone.has_failed()
        {
            // Its transaction was nobody else's.
            return Ok(Vec::new());
        }
        let events = self.fill(batch, now, Apart::Savepoints)?;
        Ok(events.unwrap_or_default())
    }

    /// `None` when a command failed that could have left something.
    fn fill(
        &self,
        batch: &mut [Box<dyn Command>],
        now: i64,
        apart: Apart,
    ) -> rusqlite::Result<Option<Vec<Event>>> {
        let mut events = Vec::new();
        self.statement("BEGIN IMMEDIATE")?;
        for command in batch.iter_mut() {
            let mut tx = Tx::new(Snapshot {
                db: &self.conn,
                now,
                timings: &self.timings,
            });
            match apart {
                Apart::No => {
                    let fate = command.run(&mut tx);
                    // Some errors end the whole transaction: what came then would be
                    // written one by one.
                    if fate == Fate::Undo || self.conn.is_autocommit() {
                        return Ok(None);
                    }
                    events.append(&mut tx.events);
                }
                Apart::Savepoints => {
                    self.statement("SAVEPOINT command")?;
                    match command.run(&mut tx) {
                        Fate::Keep => events.append(&mut tx.events),
                        Fate::Undo => self.statement("ROLLBACK TO command")?,
                    }
                    self.statement("RELEASE command")?;
                }
            }
        }
        // Where nothing is to last, COMMIT waits for no disk.
        if !batch.iter().all(|command| command.only_looks()) {
            self.conn
                .prepare_cached("UPDATE meta SET high_water = MAX(high_water, ?1)")?
                .execute([now])?;
        }
        self.statement("COMMIT")?;
        Ok(Some(events))
    }

    /// Ends the transaction, if SQLite has not done so by itself.
    fn roll_back(&self) -> rusqlite::Result<()> {
        if self.conn.is_autocommit() {
            return Ok(());
        }
        self.statement("ROLLBACK")
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached(sql)?
            .execute([])
            .map(|_changed| ())
    }
}
