//! Transitions of one transaction, side by side.
//!
//! A transition is a plain function that stands still at each statement whose answer it
//! waits for. Here each runs on a stack of its own, and when all of them stand still, what
//! they wait for travels together: in one round trip, and with one statement for those who
//! ask the same ([`bundles`]). Then all go on.
//!
//! ```text
//!   finish    hold, look ─────┐ ┌── write, write, audit ──┐
//!   finish    hold, look ─────┤ ├── write, write, audit ──┤
//!   update    hold ───────────┤ ├── write ────────────────┤
//!                             └─┘                         └─ COMMIT
//! ```
//!
//! In transactions of their own they would keep apart by the rows that they hold. Here
//! nothing makes one wait for the other, so rows that two of them hold end it: they have
//! [`Met`].

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use proto::timings::Timings;

use super::bundles::{Item, sent_for};
use super::fate::Broken;
use super::pipeline::{Answer, Texts, Waiting};
use super::seat::{Answers, Round, Seat};
use super::session::Session;
use crate::store::sql::rows::{Cell, Columns as _};
use crate::store::sql::{Snapshot, Tx};
use crate::store::{Error, Event, Result};

/// What a transition may use of its stack: what a thread that may block has.
const STACK: usize = 2 << 20;

/// A transition and who waits for it. It may be run again, from the start.
pub(super) trait Member: Send + 'static {
    /// Runs it, and keeps what it answers; whether that is no error.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
}

/// Two transitions of a transaction held the same rows.
#[derive(Debug, thiserror::Error)]
#[error("transitions of one transaction met at a row of `{0}`")]
pub(super) struct Met(Box<str>);

/// A transition of those side by side has failed when it had changed something.
#[derive(Debug, thiserror::Error)]
#[error("a transition failed that had changed something")]
pub(super) struct Spoiled;

impl From<Met> for Error {
    fn from(source: Met) -> Self {
        Self::Backend {
            doing: "ran transitions together",
            source: Box::new(source),
        }
    }
}

impl From<Spoiled> for Error {
    fn from(source: Spoiled) -> Self {
        Self::Backend {
            doing: "ran transitions together",
            source: Box::new(source),
        }
    }
}

/// One that has come to its end.
pub(super) struct Ended<M> {
    pub member: M,
    /// What is to be told, once it is durable.
    pub events: Vec<Event>,
    /// What it still wants to be sent.
    left: Vec<Waiting>,
    spoils: bool,
}

/// What came of them. One that panicked is in neither list.
pub(super) struct Outcome<M> {
    pub ended: Vec<Ended<M>>,
    /// What goes before COMMIT, or why there must be none.
    pub last: Result<Vec<Item>>,
}

enum Place<M> {
    Runs(Coroutine<Answers, Round, Ended<M>>, Answers),
    Waits(Coroutine<Answers, Round, Ended<M>>),
    Gone,
}

/// Runs them to their ends in this transaction; to be called on a thread that may block.
pub(super) fn run<M: Member>(
    session: &Session,
    members: Vec<M>,
    (now, timings): (i64, &Arc<Timings>),
    texts: &Arc<Texts>,
) -> Outcome<M> {
    let mut party = Party {
        places: Vec::with_capacity(members.len()),
        ended: Vec::new(),
        items: Vec::new(),
        holders: HashMap::new(),
        failed: None,
    };
    for member in members {
        party.seat(member, (now, timings.clone()), texts.clone());
    }
    while party.go_on() {
        party.exchange(session);
    }
    let Party {
        ended,
        items,
        failed,
        ..
    } = party;
    Outcome {
        ended,
        last: failed.map_or(Ok(items), Err),
    }
}

struct Party<M> {
    places: Vec<Place<M>>,
    ended: Vec<Ended<M>>,
    /// What they want to be sent.
    items: Vec<Item>,
    /// Who holds which row.
    holders: HashMap<(Box<str>, Key), usize>,
    failed: Option<Error>,
}

/// What tells a row from the others of its table: the first column of what holds it.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Int(i64),
    Text(Box<str>),
}

impl<M: Member> Party<M> {
    fn seat(&mut self, member: M, (now, timings): (i64, Arc<Timings>), texts: Arc<Texts>) {
        let Ok(stack) = DefaultStack::new(STACK) else {
            // It is run by itself.
            self.failed.get_or_insert_with(|| Broken.into());
            let ended = Ended::of(member);
            self.ended.push(ended);
            return;
        };
        let body = move |yielder: &corosensei::Yielder<Answers, Round>, _: Answers| {
            let mut member = member;
            let seat = Seat::new(yielder, texts);
            let mut tx = Tx::new(Snapshot {
                db: &seat,
                now,
                timings: &timings,
            });
            let good = member.run(&mut tx);
            let events = tx.events;
            let (left, changed) = seat.leave();
            Ended {
                member,
                events,
                left,
                spoils: !good && changed,
            }
        };
        let runs = Coroutine::with_stack(stack, body);
        self.places.push(Place::Runs(runs, Some(Vec::new())));
    }

    /// Lets each go on until it waits; whether any does.
    fn go_on(&mut self) -> bool {
        let mut waits = false;
        for (at, place) in self.places.iter_mut().enumerate() {
            let Place::Runs(mut runs, answers) = std::mem::replace(place, Place::Gone) else {
                continue;
            };
            match catch_unwind(AssertUnwindSafe(|| runs.resume(answers))) {
                Ok(CoroutineResult::Yield(round)) => {
                    self.items.extend(round.items(at));
                    *place = Place::Waits(runs);
                    waits = true;
                }
                Ok(CoroutineResult::Return(mut ended)) => {
                    let left = std::mem::take(&mut ended.left);
                    let left = left.into_iter().map(|waiting| Item::left(at, waiting));
                    self.items.extend(left);
                    if ended.spoils {
                        self.failed.get_or_insert_with(|| Spoiled.into());
                    }
                    self.ended.push(ended);
                }
                // Said already, by the hook; its caller is told that it broke off.
                Err(_panic) => {
                    self.failed.get_or_insert_with(|| Spoiled.into());
                }
            }
        }
        waits
    }

    /// Sends what they want to be sent, and gives each its answers. After a failure nothing
    /// more goes, and each is told that: then it comes to its end.
    fn exchange(&mut self, session: &Session) {
        let items = std::mem::take(&mut self.items);
        let answers = match self.failed {
            Some(_) => None,
            None => match self.answers(session, &items) {
                Ok(answers) => Some(answers),
                Err(error) => {
                    self.failed = Some(error);
                    None
                }
            },
        };
        let mut answers = answers.map(Vec::into_iter);
        for place in &mut self.places {
            let own = answers.as_mut().map(|all| all.next().unwrap_or_default());
            *place = match std::mem::replace(place, Place::Gone) {
                Place::Waits(waits) => Place::Runs(waits, own),
                place @ (Place::Runs(..) | Place::Gone) => place,
            };
        }
    }

    /// What each has asked for.
    fn answers(&mut self, session: &Session, items: &[Item]) -> Result<Vec<Vec<Answer>>> {
        let (sent, whose) = sent_for(items);
        let came = session.answers(sent)?;
        let mut all: Vec<Vec<Answer>> = self.places.iter().map(|_| Vec::new()).collect();
        for (whose, answer) in whose.into_iter().zip(came) {
            for (item, answer) in whose.share(answer)? {
                let item = &items[item];
                if let Some(table) = &item.waiting.text.holds {
                    self.holds(item.member, table, &answer)?;
                }
                if let Some(place) = item.answer {
                    let own = &mut all[item.member];
                    if own.len() <= place {
                        own.resize_with(place + 1, Answer::default);
                    }
                    own[place] = answer;
                }
            }
        }
        Ok(all)
    }

    fn holds(&mut self, member: usize, table: &str, answer: &Answer) -> Result<()> {
        for row in &answer.rows {
            let key = match row.cell(0)? {
                Cell::Int(number) => Key::Int(number),
                Cell::Text(text) => Key::Text(text.into()),
                Cell::Null | Cell::Blob(_) => continue,
            };
            let holder = self.holders.entry((table.into(), key)).or_insert(member);
            if *holder != member {
                return Err(Met(table.into()).into());
            }
        }
        Ok(())
    }
}

impl<M> Ended<M> {
    /// One that was not run.
    pub(super) fn of(member: M) -> Self {
        Self {
            member,
            events: Vec::new(),
            left: Vec::new(),
            spoils: false,
        }
    }
}
