//! A transition's place among those that run side by side: to it, a transaction like any
//! other.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use corosensei::Yielder;

use super::bundles::Item;
use super::fate::Broken;
use super::pipeline::{Answer, Texts, Waiting};
use crate::store::Result;
use crate::store::sql::asked::{self, Asked};
use crate::store::sql::rows::{Db, Value};

/// Statements that wait for one to travel with, of one transition; the next one does not wait
/// any longer.
pub(super) const WAITING: usize = 256;

/// What it is given when it goes on; `None` when the transaction has failed.
pub(super) type Answers = Option<Vec<Answer>>;

/// What it stands still for: what is to go before, and what it asks.
pub(super) struct Round {
    before: Vec<Waiting>,
    asked: Vec<Waiting>,
}

impl Round {
    /// What is only to be sent.
    pub(super) fn last(before: Vec<Waiting>) -> Self {
        Self {
            before,
            asked: Vec::new(),
        }
    }

    /// As what this member wants to be sent.
    pub(super) fn items(&self, member: usize) -> impl Iterator<Item = Item<'_>> {
        let before = self.before.iter().map(move |one| one.item(member, None));
        let asked = self.asked.iter().enumerate();
        before.chain(asked.map(move |(place, one)| one.item(member, Some(place))))
    }
}

/// See the module.
pub(super) struct Seat<'y> {
    yielder: &'y Yielder<Answers, Round>,
    texts: Arc<Texts>,
    waiting: RefCell<Vec<Waiting>>,
    changed: Cell<bool>,
}

impl<'y> Seat<'y> {
    pub(super) fn new(yielder: &'y Yielder<Answers, Round>, texts: Arc<Texts>) -> Self {
        Self {
            yielder,
            texts,
            waiting: RefCell::default(),
            changed: Cell::new(false),
        }
    }

    /// What it has not sent, and whether it was going to change anything at all.
    pub(super) fn leave(self) -> (Vec<Waiting>, bool) {
        (self.waiting.into_inner(), self.changed.get())
    }

    fn round(&self, asked: Vec<Waiting>) -> Result<Vec<Answer>> {
        let before = self.waiting.take();
        let answers = self.yielder.suspend(Round { before, asked });
        answers.ok_or_else(|| Broken.into())
    }

    fn one(&self, sql: &str, values: &[Value<'_>]) -> Waiting {
        Waiting::of(self.texts.of(sql), values)
    }
}

impl Db for Seat<'_> {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        self.changed.set(true);
        let answers = self.round(vec![self.one(sql, values)])?;
        Ok(answers.last().map_or(0, |answer| answer.changed))
    }

    fn run(&self, sql: &str, values: &[Value<'_>]) -> Result<()> {
        self.changed.set(true);
        self.waiting.borrow_mut().push(self.one(sql, values));
        if self.waiting.borrow().len() >= WAITING {
            self.round(Vec::new())?;
        }
        Ok(())
    }

    fn ask(&self, asked: &mut [&mut dyn Asked]) -> Result<()> {
        let questions = asked.iter().map(|one| self.one(one.sql(), one.values()));
        let answers = self.round(questions.collect())?;
        for (one, answer) in asked.iter_mut().zip(answers) {
            asked::show(&answer.rows, *one)?;
        }
        Ok(())
    }

    #[cfg(test)]
    fn visited(&self) -> Result<u64> {
        unreachable!("only asked of transactions of one")
    }
}
