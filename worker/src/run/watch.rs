//! The ledger cursor: follows what a process prints as fast as it prints, whatever the
//! line cursor waits for. It keeps the errors and hands ledger entries to the daemon
//! at once.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use proto::v1::{Batch, FromWorker, LedgerEntry, Phase, from_worker};
use tokio::sync::watch;

use super::clock;
use super::diagnostic::Diagnostic;
use super::events::{self, Kind};
use super::intended::{self, SharedIntended};
use super::ledger::Ledger;
use super::marks::Marks;
use super::notices::Notice;
use super::pace::{self, Pace};
use super::tail::{Piece, Tail, Writer};
use super::wire::Outbox;

/// Errors kept for the verdict; all are in the log.
const ERRORS: usize = 100;

/// Lines handled before others get their turn.
const TURN: usize = 500;

/// The ledger as its writer and the checkpoints share it.
pub(super) type SharedLedger = Mutex<Ledger>;

/// Where entries go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Record<'a> {
    /// An apply.
    Ledger(&'a SharedLedger),
    /// A plan.
    Plan(&'a SharedIntended),
    /// Whatever changes nothing.
    Nothing,
}

impl Record<'_> {
    fn last_seq(self) -> u64 {
        match self {
            Self::Ledger(ledger) => lock(ledger).last_seq(),
            Self::Plan(_) | Self::Nothing => 0,
        }
    }
}

/// Who hears of what is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) record: Record<'a>,
    pub(super) phase: Phase,
    pub(super) daemon: &'a Outbox<FromWorker>,
    pub(super) marks: &'a Marks,
}

/// What an engine told.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Its errors.
    pub(super) errors: Vec<Diagnostic>,
    /// Why something of it could not be read: the ledger may then have gaps.
    pub(super) unread: Option<String>,
}

/// What is followed.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: File,
    /// Turns true once the process has ended.
    pub(super) ended: watch::Receiver<bool>,
    /// The kernel's word that the file moved.
    pub(super) notice: Option<Notice>,
}

/// Follows a file until the process has ended and all was read. What cannot be read is
/// tried again until then.
pub(super) async fn follow(source: Source, told: Told<'_>) -> Watched {
    let Told {
        record,
        phase,
        daemon,
        marks,
    } = told;
    let mut ended = source.ended;
    let mut tail = Tail::new(source.file);
    let mut watched = Watched::default();
    let mut pace = Pace::new(source.notice, pace::GAP);
    loop {
        let over = *ended.borrow_and_update();
        let writer = if over { Writer::Ended } else { Writer::Alive };
        let turn = take_turn(&mut tail, writer, record, &mut watched.errors);
        if !turn.entries.is_empty() {
            send(daemon, phase, turn.entries).await;
        }
        marks.set(tail.offset(), record.last_seq());
        watched.unread = match &turn.rest {
            Rest::Unread(error) => Some(error.to_string()),
            Rest::More | Rest::Nothing => None,
        };
        match turn.rest {
            Rest::More => tokio::task::yield_now().await,
            Rest::Nothing | Rest::Unread(_) if over => return watched,
            Rest::Nothing | Rest::Unread(_) => {
                // Cancel safe: both only wait.
                tokio::select! {
                    biased;
                    changed = ended.changed() => if changed.is_err() { return watched },
                    () = pace.next(turn.lines > 0) => {}
                }
            }
        }
    }
}

/// Locks a ledger; a panic elsewhere does not make its entries less true.
pub(super) fn lock(ledger: &SharedLedger) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Rest {
    More,
    Nothing,
    Unread(std::io::Error),
}

struct Turn {
    entries: Vec<LedgerEntry>,
    lines: usize,
    rest: Rest,
}

fn take_turn(
    tail: &mut Tail,
    writer: Writer,
    record: Record<'_>,
    errors: &mut Vec<Diagnostic>,
) -> Turn {
    let mut turn = Turn {
        entries: Vec::new(),
        lines: 0,
        rest: Rest::More,
    };
    while turn.lines < TURN {
        let piece = match tail.next(writer) {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                turn.rest = Rest::Nothing;
                return turn;
            }
            Err(error) => {
                turn.rest = Rest::Unread(error);
                return turn;
            }
        };
        turn.lines += 1;
        if let Piece::Line(line) = piece {
            turn.entries.extend(take_line(&line, record, errors));
        }
    }
    turn
}

fn take_line(line: &[u8], record: Record<'_>, errors: &mut Vec<Diagnostic>) -> Option<LedgerEntry> {
    let event = events::parse(line);
    if let Kind::Diagnostic(diagnostic) = event.kind {
        if diagnostic.is_error() && errors.len() < ERRORS {
            errors.push(*diagnostic);
        }
        return None;
    }
    match record {
        Record::Ledger(ledger) => lock(ledger).record(&event, clock::now_ms()),
        Record::Plan(intended) => {
            intended::lock(intended).record(event);
            None
        }
        Record::Nothing => None,
    }
}

async fn send(daemon: &Outbox<FromWorker>, phase: Phase, ledger: Vec<LedgerEntry>) {
    let batch = Batch {
        phase: phase.into(),
        lines: Vec::new(),
        ledger,
    };
    let message = Some(from_worker::Message::Batch(batch));
    daemon.send(FromWorker { message }).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link;

    #[tokio::test]
    async fn events_that_cannot_be_read_are_told_and_not_taken_for_their_end() {
        let (ours, _theirs) = tokio::net::UnixStream::pair().expect("pair");
        let (_, sender) = link::split::<FromWorker, FromWorker>(ours, 1 << 20);
        let (daemon, _writer) = Outbox::start(sender);
        let (_end, ended) = watch::channel(true);
        let dir = tempfile::tempdir().expect("dir");
        // Opens, and fails to be read.
        let unreadable = File::open(dir.path()).expect("open");
        let marks = Marks::default();
        let told = Told {
            record: Record::Nothing,
            phase: Phase::Apply,
            daemon: &daemon,
            marks: &marks,
        };
        let source = Source {
            file: unreadable,
            ended,
            notice: None,
        };
        let watched = follow(source, told).await;
        assert!(watched.unread.expect("reason").contains("directory"));
    }
}
