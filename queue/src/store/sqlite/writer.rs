//! The thread that owns the one writing connection: group commit.
//!
//! It takes whatever commands wait, up to [`BATCH`], into one transaction. Each of several
//! runs in a savepoint; a failed one is rolled back alone. Answers and events leave only after
//! COMMIT; when COMMIT fails, every command of the batch is answered with that.

use std::sync::Arc;
use std::thread;

use proto::timings::Timings;
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::checkpoint::Log;
use crate::store::clock::Clock;
use crate::store::sql::{Snapshot, Tx};
use crate::store::{Error, Event, Result};

/// Commands that share one COMMIT at most.
const BATCH: usize = 64;

/// Commands that may wait; callers beyond wait for a place.
const QUEUE: usize = 1_024;

/// Sends a command's answer, once the fate of its transaction is known.
type Answer = Box<dyn FnOnce(Committed) + Send>;

/// Runs in a savepoint; says whether to keep it.
type Command = Box<dyn FnOnce(&mut Tx<'_>) -> (Fate, Answer) + Send>;

enum Fate {
    Keep,
    Undo,
}

/// Whether the transaction is durable.
#[derive(Clone)]
enum Committed {
    Yes,
    No(Arc<rusqlite::Error>),
}

#[derive(Debug)]
pub(super) struct Writer {
    commands: mpsc::Sender<Command>,
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

    pub(super) async fn run<T, F>(&self, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let boxed: Command = Box::new(move |tx| {
            let result = command(tx);
            let fate = if result.is_ok() {
                Fate::Keep
            } else {
                Fate::Undo
            };
            let answer: Answer = Box::new(move |committed| {
                // A caller that went away does not want the answer.
                let _ = reply.send(match committed {
                    Committed::Yes => result,
                    Committed::No(source) => result.and_then(|_| Err(not_committed(source))),
                });
            });
            (fate, answer)
        });
        self.commands.send(boxed).await.map_err(|_| Error::Closed)?;
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

impl Worker {
    fn run(self, mut queue: mpsc::Receiver<Command>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = queue.try_recv()
            {
                batch.push(next);
            }
            self.transact(batch);
            self.log.look(&self.conn);
        }
    }

    fn transact(&self, batch: Vec<Command>) {
        let now = self.clock.now_ms();
        let mut answers = Vec::with_capacity(batch.len());
        let mut events = Vec::new();
        let committed = match self.fill(batch, now, &mut answers, &mut events) {
            Ok(()) => Committed::Yes,
            Err(source) => {
                if !self.conn.is_autocommit()
                    && let Err(error) = self.conn.execute_batch("ROLLBACK")
                {
                    tracing::error!(error = &error as &dyn std::error::Error, "rollback failed");
                }
                events.clear();
                tracing::error!(error = &source as &dyn std::error::Error, "commit failed");
                Committed::No(Arc::new(source))
            }
        };
        // Before the answers: who has one and looks for its event finds it.
        for event in events {
            // Nobody listening is no error.
            let _ = self.events.send(event);
        }
        for answer in answers {
            answer(committed.clone());
        }
    }

    /// Runs the batch from BEGIN to COMMIT. On an error of the transaction itself,
    /// commands not run yet are dropped with their replies; see [`NotRun`].
    fn fill(
        &self,
        batch: Vec<Command>,
        now: i64,
        answers: &mut Vec<Answer>,
        events: &mut Vec<Event>,
    ) -> rusqlite::Result<()> {
        self.statement("BEGIN IMMEDIATE")?;
        let alone = batch.len() == 1;
        for command in batch {
            if !alone {
                self.statement("SAVEPOINT command")?;
            }
            let mut tx = Tx::new(Snapshot {
                db: &self.conn,
                now,
                timings: &self.timings,
            });
            let (fate, answer) = command(&mut tx);
            answers.push(answer);
            match fate {
                Fate::Keep => events.append(&mut tx.events),
                // Its transaction is nobody else's.
                Fate::Undo if alone => return self.statement("ROLLBACK"),
                Fate::Undo => self.statement("ROLLBACK TO command")?,
            }
            if !alone {
                self.statement("RELEASE command")?;
            }
        }
        self.conn
            .prepare_cached("UPDATE meta SET high_water = MAX(high_water, ?1)")?
            .execute([now])?;
        self.statement("COMMIT")
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached(sql)?
            .execute([])
            .map(|_changed| ())
    }
}
