//! One transaction on one connection.
//!
//! It runs on a thread that may block: transitions are plain functions, and each of their
//! statements waits there for its answer. The runtime's threads never wait for one. BEGIN
//! travels with the first statement, and COMMIT with those that nobody waited for.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Waker};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use tokio::runtime::Handle;

use super::bundles::{Item, sent_for};
use super::fate::{self, Broken, Fate, Late, Silent};
use super::opening::{Mode, Opening};
use super::pipeline::{self, Answer, Naming, Outgoing, Text, Texts, Waiting};
use super::rows::Parameter;
use crate::store::sql::asked::{self, Asked};
use crate::store::sql::rows::{Columns as _, Db, FromCell as _, ToValue as _, Value};
use crate::store::{Error, Result};

/// A statement that takes longer has a dead server, or one that is no use.
const STATEMENT: Duration = Duration::from_secs(30);

/// The same of an import, whose last statements look at all rows.
const IMPORT_STATEMENT: Duration = Duration::from_hours(1);

/// Statements that wait for one to travel with; the next one does not wait any longer.
const WAITING: usize = 16;

/// A transaction whose time was counted on from an earlier answer begins at once, or not
/// with that time.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What a transaction leaves that must not be run twice.
const MARK: &str = "INSERT INTO commits (id, fenced) VALUES (?1, 0)";

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
    /// The time when it began, in Unix milliseconds.
    pub(super) begun_ms: i64,
    /// Whether the server was asked for it.
    pub(super) asked: bool,
    /// What goes before the first statement, until one went.
    pub(super) opening: Cell<Option<Opening>>,
    made: Instant,
    /// Whether a statement that went or waits may have changed anything.
    changes: Cell<bool>,
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
    /// Begins; to be called on a thread that may block. With a time that is good enough
    /// nothing travels yet; without one the server is asked.
    pub(super) fn begin(
        client: Object,
        runtime: Handle,
        travel: Travel,
        mode: Mode,
        now: Option<i64>,
    ) -> Result<Self> {
        let opening = Opening::of(mode, travel.naming);
        let mut session = Self {
            client: Some(client),
            runtime,
            travel,
            begun_ms: now.unwrap_or(0),
            asked: now.is_none(),
            opening: Cell::new(Some(opening)),
            made: Instant::now(),
            changes: Cell::new(false),
            broken: Cell::new(false),
            limit: match mode {
                Mode::Read | Mode::Write | Mode::Together => STATEMENT,
                Mode::Import => IMPORT_STATEMENT,
            },
            waiting: RefCell::default(),
        };
        if session.asked {
            session.opening.take();
            let set = session.outgoing(opening.set, &[]);
            let answers = session.travels(vec![set], Some(opening.begin), None)?;
            let answers = session.whole(answers)?;
            let row = answers.last().and_then(|answer| answer.rows.first());
            let clock = row.ok_or(Error::Closed)?.cell(0)?;
            session.begun_ms = i64::from_cell(clock).ok_or(Error::Closed)?;
        }
        Ok(session)
    }

    /// Ends it for good, and leaves a mark of it, if there is one. What has changed nothing
    /// leaves none, and its end is not waited for.
    pub(super) fn commit(self, mark: Option<&str>) -> Commit {
        self.commit_with(Vec::new(), mark)
    }

    /// The same, behind these last statements.
    pub(super) fn commit_with(self, last: Vec<Item<'_>>, mark: Option<&str>) -> Commit {
        if self.broken.get() {
            self.rollback();
            return Commit::Refused(Broken.into());
        }
        if !self.changes.get() && last.is_empty() {
            return self.leave();
        }
        let waiting = self.waiting.take();
        let values = mark.map(|mark| [mark.to_value()]);
        let mark = values.as_ref().map(|values| self.outgoing(MARK, values));
        let items = waiting.iter().map(|one| one.item(0, None));
        let items: Vec<_> = items.chain(last).collect();
        let (mut sent, _) = sent_for(&items);
        sent.extend(mark);
        match self.exchange(sent, Some("COMMIT")) {
            Ok((_, answers)) => self.ended(answers),
            // No answer at all: COMMIT may have been sent.
            Err(error) if fate::of(&error) == Fate::Lost => Commit::Unknown(error),
            Err(error) => Commit::Refused(error),
        }
    }

    /// Ends one that has changed nothing.
    fn leave(mut self) -> Commit {
        if self.opening.get().is_some() {
            self.client.take();
            return Commit::Done;
        }
        match self.travel.naming {
            // It has been sent when it was looked at once. The connection reads the answer,
            // and what comes next on it comes behind it.
            Naming::Prepared => {
                if let Some(client) = self.client.take() {
                    let mut commit = pin!(client.batch_execute("COMMIT"));
                    let _unanswered = commit.as_mut().poll(&mut Task::from_waker(Waker::noop()));
                }
                Commit::Done
            }
            Naming::Unnamed => match self.travels(Vec::new(), None, Some("COMMIT")) {
                Ok(answers) => self.ended(answers),
                Err(error) => Commit::Refused(error),
            },
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
        if self.opening.get().is_some() {
            self.client.take();
            return;
        }
        let undone = self.travels(Vec::new(), None, Some("ROLLBACK"));
        if undone.is_ok_and(|answers| answers.iter().all(std::result::Result::is_ok)) {
            self.client.take();
        }
    }

    fn client(&self) -> Result<&Object> {
        self.client.as_ref().ok_or(Error::Closed)
    }

    fn outgoing<'v>(&self, sql: &str, values: &[Value<'v>]) -> Outgoing<'v> {
        Outgoing {
            text: self.travel.texts.of(sql).one.clone(),
            values: values.iter().copied().map(Parameter::One).collect(),
        }
    }

    /// Sends these in one round trip, those of one text in one statement where that can be;
    /// the answers that are waited for, each with the place of its item.
    pub(super) fn answers(&self, items: &[Item<'_>]) -> Result<Vec<(usize, Answer)>> {
        let (sent, whose) = sent_for(items);
        self.changes
            .set(self.changes.get() || sent.iter().any(Outgoing::may_change));
        let (before, answers) = self.exchange(sent, None)?;
        let answers = self.whole(answers)?.into_iter().skip(before);
        let mut all = Vec::with_capacity(items.len());
        for (whose, answer) in whose.into_iter().zip(answers) {
            all.extend(whose.share(answer)?);
        }
        Ok(all)
    }

    /// What waits, and then these; the answers to these.
    fn ask_all(&self, asked: &[(Arc<Text>, &[Value<'_>])]) -> Result<Vec<Answer>> {
        let waiting = self.waiting.take();
        let waiting = waiting.iter().map(|one| one.item(0, None));
        let asked_items = asked
            .iter()
            .enumerate()
            .map(|(place, (text, values))| Item {
                member: 0,
                answer: Some(place),
                text,
                values: values.to_vec(),
            });
        let items: Vec<_> = waiting.chain(asked_items).collect();
        let mut answers: Vec<Answer> = asked.iter().map(|_| Answer::default()).collect();
        for (item, answer) in self.answers(&items)? {
            if let Some(place) = items[item].answer {
                answers[place] = answer;
            }
        }
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

    /// Sends these, behind what begins the transaction where nothing was sent yet; the
    /// answers, and how many of them are to that. What changes something only goes once the
    /// transaction has begun: if it had not, it would stand by itself.
    fn exchange(
        &self,
        mut sent: Vec<Outgoing<'_>>,
        behind: Option<&str>,
    ) -> Result<(usize, Answers)> {
        let Some(opening) = self.opening.get() else {
            return Ok((0, self.travels(sent, None, behind)?));
        };
        if self.made.elapsed() > AT_ONCE {
            self.broken.set(true);
            return Err(Late.into());
        }
        self.opening.set(None);
        let set = opening.sets.then(|| self.outgoing(opening.set, &[]));
        if behind.is_some() || sent.iter().any(Outgoing::may_change) {
            let begun = self.travels(set.into_iter().collect(), Some(opening.begin), None)?;
            self.whole(begun)?;
            return Ok((0, self.travels(sent, None, behind)?));
        }
        sent.splice(0..0, set);
        let answers = self.travels(sent, Some(opening.begin), behind)?;
        Ok((1 + usize::from(opening.sets), answers))
    }

    fn travels(
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
        let answers = self.ask_all(&[(self.travel.texts.of(sql), values)])?;
        Ok(answers.last().map_or(0, |answer| answer.changed))
    }

    fn run(&self, sql: &str, values: &[Value<'_>]) -> Result<()> {
        self.changes.set(true);
        let waiting = Waiting::of(self.travel.texts.of(sql), values);
        self.waiting.borrow_mut().push(waiting);
        if self.waiting.borrow().len() >= WAITING {
            self.ask_all(&[])?;
        }
        Ok(())
    }

    fn ask(&self, asked: &mut [&mut dyn Asked]) -> Result<()> {
        let questions = asked
            .iter()
            .map(|one| (self.travel.texts.of(one.sql()), one.values()));
        let answers = self.ask_all(&questions.collect::<Vec<_>>())?;
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
        let answers = self.ask_all(&[(self.travel.texts.of(rows), &[])])?;
        let row = answers.first().and_then(|answer| answer.rows.first());
        let rows = row.expect("one row").cell(0)?;
        let rows = i64::from_cell(rows).expect("a number");
        Ok(u64::try_from(rows).expect("no negative count"))
    }
}
