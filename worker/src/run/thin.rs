//! What is left out of the log when far more is printed than can be stored: the first
//! limit's worth of waiting output stays whole; behind it debug lines go, and behind twice
//! the limit everything below a warning. What goes is counted before the log comes to it,
//! and its bytes are given back to the file system where they fill blocks.
//!
//! ```text
//!   |..handed over..|....... limit: whole .......|.. limit: no debug ..|.. warnings ..▶
//!                   ▲ position                   ▲ from                ▲ end of the file
//! ```
//!
//! Events of the ledger keep their bytes: a collector may have to read them again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use proto::limits::MIB;
use proto::v1::line_record::Record;
use proto::v1::{LinesThinned, LogLevel, Phase};

use super::events::Kind;
use super::spool::{Noted, Spool, Which};
use super::stream::{self, Stream};
use super::tail::{Piece, Tail, Writer};

/// Bytes looked at in one go: a fraction of a second.
const STEP: u64 = 16 * MIB;

/// Bytes in a row that are worth a hole.
const HOLE: u64 = 64 * 1024;

/// A part to look at.
#[derive(Debug)]
struct Part {
    file: File,
    which: Which,
    phase: Phase,
    from: u64,
    /// The last line begins before this.
    upto: u64,
    /// No line ends behind this.
    end: u64,
    /// It may begin in the middle of a line.
    ragged: bool,
    level: LogLevel,
}

/// What goes of a part.
#[derive(Debug, Default)]
struct Found {
    from: u64,
    to: u64,
    lines: u64,
    bytes: u64,
    holes: Vec<(u64, u64)>,
}

/// Looks at one more part of what waits in `stream` beyond `limit`. Cancel safe: a part
/// that was not noted is looked at again.
pub(super) async fn step(
    stream: &mut Stream,
    phase: Phase,
    spool: &Spool,
    limit: u64,
    ledger: u64,
) {
    let part = match next_part(stream, phase, limit, ledger) {
        Ok(Some(part)) => part,
        Ok(None) => return,
        Err(error) => return tracing::warn!(%error, "waiting output cannot be looked at"),
    };
    let (level, asked) = (part.level, part.from);
    let looked = tokio::task::spawn_blocking(move || look(part)).await;
    let Ok(Ok(found)) = looked else {
        return tracing::warn!("waiting output cannot be read");
    };
    if found.to <= found.from {
        return;
    }
    let position = stream.tail.offset();
    let continues = stream.thinned.back().is_some_and(|last| {
        last.to == asked && found.from == asked && last.level() == level && last.from > position
    });
    let thinned = LinesThinned {
        source: stream.which.source,
        stderr: stream.which.stderr,
        from: found.from,
        to: found.to,
        level: level.into(),
        lines: found.lines,
        bytes: found.bytes,
        continues,
    };
    // Noted first: a hole that nobody knows of would be shown as a line.
    let noted = spool.note([Record::Thinned(thinned)]);
    let holes = found.holes.iter().filter(|_| noted == Noted::Yes);
    for (from, to) in holes {
        if let Err(error) = spool.punch(&stream.name, *from, *to) {
            tracing::debug!(%error, "output that is left out keeps its place on the disk");
            break;
        }
    }
    match stream.thinned.back_mut().filter(|_| continues) {
        Some(last) => {
            last.to = thinned.to;
            last.lines += thinned.lines;
            last.bytes += thinned.bytes;
        }
        None => stream.thinned.push_back(thinned),
    }
}

fn next_part(stream: &Stream, phase: Phase, limit: u64, ledger: u64) -> io::Result<Option<Part>> {
    let position = stream.tail.offset();
    let whole = position.saturating_add(limit);
    let end = stream.tail.end()?;
    let known = stream.thinned.back().map_or(0, |last| last.to);
    let from = known.max(whole);
    let told = stream.told(end, ledger).map_or(0, |mark| mark.offset);
    let end = told.min(end);
    if end <= from {
        return Ok(None);
    }
    let twice = whole.saturating_add(limit);
    let step = from.saturating_add(STEP);
    let (level, upto) = match from < twice {
        true => (LogLevel::Debug, step.min(twice)),
        false => (LogLevel::Info, step),
    };
    Ok(Some(Part {
        file: stream.tail.reopen()?,
        which: stream.which,
        phase,
        from,
        upto,
        end,
        ragged: known < whole,
        level,
    }))
}

/// Reads whole lines only, so that the part ends where a line does.
fn look(part: Part) -> io::Result<Found> {
    let mut from = part.from;
    if part.ragged {
        let Some(begin) = next_line(&part.file, from, part.end)? else {
            return Ok(Found::default());
        };
        from = begin;
    }
    let mut found = Found {
        from,
        to: from,
        ..Found::default()
    };
    let mut tail = Tail::at(part.file, from);
    let mut hole: Option<(u64, u64)> = None;
    while let Some(piece) = tail.next(Writer::Alive)? {
        let (start, end) = (found.to, tail.offset());
        if start >= part.upto || end > part.end {
            break;
        }
        found.to = end;
        let event = stream::parse(part.which, part.phase, &piece);
        let goes = event.level <= part.level;
        if goes {
            found.lines += u64::from(matches!(piece, Piece::Line(_)));
            found.bytes += end - start;
        }
        match (&mut hole, goes && !matches!(event.kind, Kind::Hook(..))) {
            (Some(hole), true) => hole.1 = end,
            (None, true) => hole = Some((start, end)),
            (_, false) => found.holes.extend(hole.take().and_then(worth)),
        }
    }
    found.holes.extend(hole.and_then(worth));
    Ok(found)
}

/// The last line feed stays: what is left of the part is one line of NULs.
fn worth((from, to): (u64, u64)) -> Option<(u64, u64)> {
    (to - from >= HOLE).then_some((from, to - 1))
}

/// Where the next line begins, between `from` and `upto`.
fn next_line(file: &File, from: u64, upto: u64) -> io::Result<Option<u64>> {
    let mut chunk = vec![0; 64 * 1024];
    let mut at = from;
    while at < upto {
        let read = file.read_at(&mut chunk, at)?;
        if read == 0 {
            return Ok(None);
        }
        if let Some(feed) = chunk[..read].iter().position(|byte| *byte == b'\n') {
            return Ok(Some(at + feed as u64 + 1).filter(|begin| *begin < upto));
        }
        at += read as u64;
    }
    Ok(None)
}
