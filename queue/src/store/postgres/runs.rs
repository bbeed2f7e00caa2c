//! Running a piece of work: in one transaction, and again where that makes sense.

use std::time::Duration;

use deadpool_postgres::Object;
use proto::timings;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Postgres;
use super::fate::{self, Fate};
use super::opening::Mode;
use super::session::{Commit, Session};
use crate::shared::jittered;
use crate::store::sql::rows::values;
use crate::store::sql::{Snapshot, Tx};
use crate::store::{Error, Event, Result};

/// How often a transition is run again because others were in its way.
const CLASHES: u32 = 20;

/// First wait before another try; it doubles.
const BACKOFF: Duration = Duration::from_millis(10);
/// Longest such wait.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// How a piece of work is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// It only reads.
    Read,
    /// It must not be done twice.
    Once,
    /// Doing it twice is harmless.
    Repeatable,
    /// The same, and nobody waits for a server that is away.
    Now,
}

/// Where a transaction has its time from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// An answer of the server that is not old, or else the server.
    Known,
    /// The server.
    Asked,
}

impl Postgres {
    /// Runs `work` in transactions until one is committed or there is an answer.
    pub(super) async fn run<T, F>(&self, run: Run, mut work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let mut tries = Tries::new(run);
        loop {
            let client = match self.inner.pool.get().await {
                Ok(client) => client,
                Err(error) => {
                    tries.another(error.into()).await?;
                    continue;
                }
            };
            // One that failed takes no chances. `Now` judges by the time, or asks whether the
            // server is there.
            let time = match run {
                Run::Read | Run::Once | Run::Repeatable if tries.none => Time::Known,
                Run::Read | Run::Once | Run::Repeatable | Run::Now => Time::Asked,
            };
            let attempt = self.clone().attempt(client, (run, time), work).await?;
            work = attempt.work;
            match attempt.end {
                End::Committed(value) => return Ok(value),
                End::Failed(error) => tries.another(error).await?,
                End::Unknown(value, events, mark) => {
                    if self.was_committed(mark).await? {
                        return Ok(self.done(value, events));
                    }
                }
            }
        }
    }

    /// One transaction, on a thread that may block. Once begun it is brought to its end,
    /// and told, also when the caller goes away.
    async fn attempt<T, F>(
        self,
        client: Object,
        (run, time): (Run, Time),
        mut work: F,
    ) -> Result<Attempt<T, F>>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (runtime, travel) = (Handle::current(), self.inner.travel.clone());
        let attempt = move || {
            let now = match time {
                Time::Known => self.inner.clock.fresh(),
                Time::Asked => None,
            };
            let end = match Session::begin(client, runtime, travel, run.mode(), now) {
                Ok(session) => self.transact(session, run.mark(), &mut work),
                Err(error) => End::Failed(error),
            };
            Attempt { end, work }
        };
        let done = tokio::task::spawn_blocking(attempt).await;
        done.map_err(|source| Error::Backend {
            doing: "ran a transition",
            source: Box::new(source),
        })
    }

    /// Tells what was committed: here at once, elsewhere soon.
    pub(super) fn done<T>(&self, value: T, events: Vec<Event>) -> T {
        for event in &events {
            // Nobody listening is no error.
            let _ = self.inner.events.send(event.clone());
        }
        if !events.is_empty() {
            self.inner.hints.tell(events);
        }
        value
    }

    /// What became of a transaction whose COMMIT got no answer. If its server process
    /// still lives, this waits for it; if it has not come to its mark, it never will: the
    /// mark is taken.
    pub(super) async fn was_committed(&self, mark: String) -> Result<bool> {
        let fence = move |tx: &mut Tx<'_>| {
            let fence = "INSERT INTO commits (id, fenced) VALUES (?1, 1) ON CONFLICT DO NOTHING";
            tx.db.prepare(fence).execute(values![mark])?;
            let found = tx.db.prepare("SELECT fenced FROM commits WHERE id = ?1");
            found.one(values![mark], |row| Ok(!row.get::<bool>(0)?))
        };
        Box::pin(self.run(Run::Repeatable, fence)).await
    }
}

impl Run {
    fn mode(self) -> Mode {
        match self {
            Self::Read => Mode::Read,
            Self::Once | Self::Repeatable | Self::Now => Mode::Write,
        }
    }

    fn mark(self) -> Option<String> {
        match self {
            Self::Once => Some(uuid::Uuid::new_v4().to_string()),
            Self::Read | Self::Repeatable | Self::Now => None,
        }
    }

    fn patience(self) -> Duration {
        match self {
            Self::Read | Self::Once | Self::Repeatable => timings::DATABASE,
            Self::Now => Duration::ZERO,
        }
    }
}

/// What one transaction came to, and the work for another.
struct Attempt<T, F> {
    end: End<T>,
    work: F,
}

enum End<T> {
    Committed(T),
    Failed(Error),
    /// COMMIT of the transaction with this mark got no answer.
    Unknown(T, Vec<Event>, String),
}

impl Postgres {
    fn transact<T>(
        &self,
        session: Session,
        mark: Option<String>,
        work: &mut impl FnMut(&mut Tx<'_>) -> Result<T>,
    ) -> End<T> {
        let now = if session.asked {
            self.inner.clock.said(session.begun_ms)
        } else {
            session.begun_ms
        };
        let mut tx = Tx::new(Snapshot {
            db: &session,
            now,
            timings: &self.inner.timings,
        });
        let result = work(&mut tx);
        let events = tx.events;
        match result {
            Err(error) => {
                session.rollback();
                End::Failed(error)
            }
            Ok(value) => match (session.commit(mark.as_deref()), mark) {
                (Commit::Done, _) => End::Committed(self.done(value, events)),
                (Commit::Unknown(_), Some(mark)) => End::Unknown(value, events, mark),
                (Commit::Refused(error) | Commit::Unknown(error), _) => End::Failed(error),
            },
        }
    }
}

/// Counts tries, and waits between them.
struct Tries {
    /// Whether there was none.
    none: bool,
    until: Instant,
    clashes: u32,
    backoff: Duration,
}

impl Tries {
    fn new(run: Run) -> Self {
        Self {
            none: true,
            until: Instant::now() + run.patience(),
            clashes: 0,
            backoff: BACKOFF,
        }
    }

    /// Waits when another try makes sense after `error`, else gives it back.
    async fn another(&mut self, error: Error) -> Result<()> {
        self.none = false;
        match fate::of(&error) {
            Fate::Answer => return Err(error),
            Fate::Again if self.clashes >= CLASHES => return Err(error),
            Fate::Again => self.clashes += 1,
            Fate::Lost if Instant::now() >= self.until => return Err(error),
            Fate::Lost => {}
        }
        tokio::time::sleep(jittered(self.backoff)).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Ok(())
    }
}
