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
//! nothing makes one wait for the other, so who holds a row that another one holds is to
//! [blame](Failure::Blamed), and the transaction fails.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use corosensei::{Coroutine, CoroutineResult};
use proto::timings::Timings;

use super::bundles::Item;
use super::fate::Broken;
use super::pipeline::{Answer, Texts, Waiting};
use super::seat::{Answers, Round, Seat};
use super::session::Session;
use super::stacks::Stacks;
use crate::store::sql::rows::{Cell, Columns as _};
use crate::store::sql::{Snapshot, Tx};
use crate::store::{Error, Event, Result};

/// A transition and who waits for it. It may be run again, from the start.
pub(super) trait Member: Send + 'static {
    /// Runs it, and keeps what it answers; whether that is no error.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
}

/// Why a transaction must not be committed.
#[derive(Debug)]
pub(super) enum Failure {
    /// These have failed when they had changed something, or panicked, or hold rows that
    /// others held before: the others can do without them.
    Blamed(BTreeSet<usize>),
    /// Whoever it may be.
    Unknown(Error),
}

/// One that has come to its end.
pub(super) struct Ended<M> {
    /// Which of them it was.
    pub place: usize,
    pub member: M,
    /// What is to be told once it is durable; nothing where it is an error.
    pub events: Vec<Event>,
    /// What it still wants to be sent.
    left: Vec<Waiting>,
    spoils: bool,
}

/// What came of them. One that panicked is in neither list.
pub(super) struct Outcome<M> {
    pub ended: Vec<Ended<M>>,
    /// What goes before COMMIT, by whose it is; or why there must be none.
    pub last: std::result::Result<Vec<(usize, Round)>, Failure>,
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
    (texts, stacks): (&Arc<Texts>, &Stacks),
) -> Outcome<M> {
    let mut party = Party {
        places: Vec::with_capacity(members.len()),
        ended: Vec::new(),
        rounds: Vec::new(),
        holders: HashMap::new(),
        failed: None,
    };
    for (place, member) in members.into_iter().enumerate() {
        party.seat(
            (place, member),
            (now, timings.clone()),
            texts.clone(),
            stacks,
        );
    }
    while party.go_on(stacks) {
        party.exchange(session);
    }
    let Party {
        ended,
        rounds,
        failed,
        ..
    } = party;
    Outcome {
        ended,
        last: failed.map_or(Ok(rounds), Err),
    }
}

struct Party<M> {
    places: Vec<Place<M>>,
    ended: Vec<Ended<M>>,
    /// What they want to be sent, by whose it is.
    rounds: Vec<(usize, Round)>,
    /// Who holds which row.
    holders: HashMap<(Box<str>, Key), usize>,
    failed: Option<Failure>,
}

/// What tells a row from the others of its table: the first column of what holds it.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Null,
    Int(i64),
    Text(Box<str>),
    Blob(Box<[u8]>),
}

impl<M: Member> Party<M> {
    fn seat(
        &mut self,
        (place, member): (usize, M),
        (now, timings): (i64, Arc<Timings>),
        texts: Arc<Texts>,
        stacks: &Stacks,
    ) {
        let Ok(stack) = stacks.take() else {
            self.failed = Some(Failure::Unknown(Broken.into()));
            self.ended.push(Ended::of((place, member)));
            self.places.push(Place::Gone);
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
            let events = if good { tx.events } else { Vec::new() };
            let (left, changed) = seat.leave();
            Ended {
                place,
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
    fn go_on(&mut self, stacks: &Stacks) -> bool {
        let (mut waits, mut blamed) = (false, BTreeSet::new());
        for (at, place) in self.places.iter_mut().enumerate() {
            let Place::Runs(mut runs, answers) = std::mem::replace(place, Place::Gone) else {
                continue;
            };
            match catch_unwind(AssertUnwindSafe(|| runs.resume(answers))) {
                Ok(CoroutineResult::Yield(round)) => {
                    self.rounds.push((at, round));
                    *place = Place::Waits(runs);
                    waits = true;
                }
                Ok(CoroutineResult::Return(mut ended)) => {
                    stacks.keep(runs.into_stack());
                    let left = std::mem::take(&mut ended.left);
                    self.rounds.push((at, Round::last(left)));
                    if ended.spoils {
                        blamed.insert(at);
                    }
                    self.ended.push(ended);
                }
                // Said already, by the hook; its caller is told that it broke off.
                Err(_panic) => drop(blamed.insert(at)),
            }
        }
        // After a failure all fail, who were told of it.
        if self.failed.is_none() && !blamed.is_empty() {
            self.failed = Some(Failure::Blamed(blamed));
        }
        waits
    }

    /// Sends what they want to be sent, and gives each its answers. After a failure nothing
    /// more goes, and each is told that: then it comes to its end.
    fn exchange(&mut self, session: &Session) {
        let rounds = std::mem::take(&mut self.rounds);
        let answers = match self.failed {
            Some(_) => None,
            None => match self.answers(session, &rounds) {
                Ok(answers) => Some(answers),
                Err(failure) => {
                    self.failed = Some(failure);
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
    fn answers(
        &mut self,
        session: &Session,
        rounds: &[(usize, Round)],
    ) -> std::result::Result<Vec<Vec<Answer>>, Failure> {
        let items = items(rounds);
        let mut all: Vec<Vec<Answer>> = self.places.iter().map(|_| Vec::new()).collect();
        let mut met = BTreeSet::new();
        for (item, answer) in session.answers(&items).map_err(Failure::Unknown)? {
            let item = &items[item];
            if let Some(table) = &item.text.holds {
                let alone = self.holds(item.member, table, &answer);
                if !alone.map_err(Failure::Unknown)? {
                    met.insert(item.member);
                }
            }
            if let Some(place) = item.answer {
                let own = &mut all[item.member];
                if own.len() <= place {
                    own.resize_with(place + 1, Answer::default);
                }
                own[place] = answer;
            }
        }
        match met.is_empty() {
            true => Ok(all),
            false => Err(Failure::Blamed(met)),
        }
    }

    /// Notes who holds these rows; whether nobody else does.
    fn holds(&mut self, member: usize, table: &str, answer: &Answer) -> Result<bool> {
        let mut alone = true;
        for row in &answer.rows {
            let key = match row.cell(0)? {
                Cell::Null => Key::Null,
                Cell::Int(number) => Key::Int(number),
                Cell::Text(text) => Key::Text(text.into()),
                Cell::Blob(bytes) => Key::Blob(bytes.into()),
            };
            let holder = self.holders.entry((table.into(), key)).or_insert(member);
            alone &= *holder == member;
        }
        Ok(alone)
    }
}

/// All of these.
pub(super) fn items(rounds: &[(usize, Round)]) -> Vec<Item<'_>> {
    let rounds = rounds.iter();
    rounds
        .flat_map(|(member, round)| round.items(*member))
        .collect()
}

impl<M> Ended<M> {
    /// One that was not run.
    pub(super) fn of((place, member): (usize, M)) -> Self {
        Self {
            place,
            member,
            events: Vec::new(),
            left: Vec::new(),
            spoils: false,
        }
    }
}
