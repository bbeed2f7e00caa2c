//! One output file as the log shows it: which of its bytes become which lines. The same
//! bytes always become the same lines, so that a log can be read again.

use std::collections::VecDeque;
use std::fs::File;
use std::io;

use proto::limits::MIB;
use proto::v1::line_record::Record;
use proto::v1::{LinesPunched, LinesThinned, LogLevel, LogLine, LogSource, Phase};

use super::clock;
use super::events;
use super::marks::{Mark, Marks};
use super::pieces::{self, Origin};
use super::spool::{Noted, Spool, Spot, Which};
use super::tail::{Piece, Tail, Writer};

/// Stored bytes that are given back at once: each hole costs a system call and a record.
const HOLE: u64 = MIB;

/// An output file that was opened.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) file: File,
    /// Below `out/`.
    pub(super) name: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) which: Which,
    phase: Phase,
    pub(super) name: String,
    pub(super) tail: Tail,
    /// Pieces of the next line that were handed over before.
    skip: u64,
    /// What is left out of what comes.
    pub(super) thinned: VecDeque<LinesThinned>,
    marks: Option<Marks>,
    stored: u64,
    punched: u64,
}

/// What one line of a file is in the log: none, one, or several pieces.
#[derive(Debug)]
pub(super) struct Shown {
    /// Where it stands.
    from: u64,
    to: u64,
    skip: u64,
    origin: Origin,
    /// Stands for what is left out from here on.
    gap: Option<String>,
    text: Option<String>,
    goes_on: bool,
}

impl Stream {
    /// From `spot` on.
    pub(super) fn new(open: Open, which: Which, phase: Phase, spot: Spot) -> Self {
        Self {
            which,
            phase,
            name: open.name,
            tail: Tail::at(open.file, spot.offset),
            skip: spot.piece,
            thinned: VecDeque::new(),
            marks: None,
            stored: spot.offset,
            punched: spot.offset,
        }
    }

    /// The ledger reads the same file.
    pub(super) fn marked(mut self, marks: Marks) -> Self {
        self.marks = Some(marks);
        self
    }

    /// An earlier worker has left out these parts.
    pub(super) fn thinned(mut self, parts: impl IntoIterator<Item = LinesThinned>) -> Self {
        self.thinned.extend(parts);
        self
    }

    /// The next line, `None` when there is none yet, or no more.
    pub(super) fn next(&mut self, writer: Writer) -> io::Result<Option<Shown>> {
        let from = self.tail.offset();
        let Some(piece) = self.tail.next(writer)? else {
            return Ok(None);
        };
        let (bytes, goes_on) = match &piece {
            Piece::Line(line) => (line, false),
            Piece::Part(part) => (part, true),
        };
        let event = self.parse(&piece);
        let (gap, drops) = self.left_out(from, event.level, bytes);
        Ok(Some(Shown {
            from,
            to: self.tail.offset(),
            skip: std::mem::take(&mut self.skip),
            origin: Origin {
                time_ms: event.time_ms.unwrap_or_else(clock::now_ms),
                phase: self.phase,
                source: LogSource::Engine,
                level: event.level,
            },
            gap,
            text: (!drops).then_some(event.message),
            goes_on,
        }))
    }

    fn parse(&self, piece: &Piece) -> events::Event {
        parse(self.which, self.phase, piece)
    }

    /// What stands for the part that begins at `from`, and whether the line there goes.
    fn left_out(&mut self, from: u64, level: LogLevel, bytes: &[u8]) -> (Option<String>, bool) {
        while self.thinned.pop_front_if(|part| part.to <= from).is_some() {}
        let Some(part) = self.thinned.front().filter(|part| part.from <= from) else {
            return (None, false);
        };
        let gap = (part.from == from && part.lines > 0).then(|| {
            format!(
                "{} lines ({} bytes) up to level {} are left out of the following {} bytes of \
                 output: too much of it was waiting to be stored",
                part.lines,
                part.bytes,
                word(part.level()),
                part.to - part.from
            )
        });
        // What was given back to the file system reads as NULs.
        let goes = level <= part.level() || bytes.first() == Some(&0);
        (gap, goes)
    }

    /// Everything before `offset` is stored.
    pub(super) fn stored(&mut self, offset: u64) {
        self.stored = self.stored.max(offset);
    }

    /// Gives back what is stored and what the ledger has, `journalled` included.
    pub(super) fn punch(&mut self, spool: &Spool, journalled: u64) {
        if self.stored - self.punched < HOLE {
            return;
        }
        let Some(mark) = self.told(self.stored, journalled) else {
            return;
        };
        if mark.offset < self.punched + HOLE {
            return;
        }
        let noted = spool.note([Record::Punched(LinesPunched {
            source: self.which.source,
            stderr: self.which.stderr,
            offset: mark.offset,
            ledger_seq: mark.ledger_seq,
        })]);
        if noted == Noted::No {
            return;
        }
        // A file system without holes keeps the bytes until the job's end.
        if let Err(error) = spool.punch(&self.name, self.punched, mark.offset) {
            tracing::debug!(%error, "stored output keeps its place on the disk");
        }
        self.punched = mark.offset;
    }

    /// How far up to `offset` the ledger has what it needs.
    pub(super) fn told(&self, offset: u64, journalled: u64) -> Option<Mark> {
        match &self.marks {
            Some(marks) => marks.up_to(offset, journalled),
            None => Some(Mark {
                offset,
                ledger_seq: 0,
            }),
        }
    }
}

/// A piece as an event, with the level at which the log shows it.
pub(super) fn parse(which: Which, phase: Phase, piece: &Piece) -> events::Event {
    let mut event = match piece {
        Piece::Line(line) if which.stderr => events::parse_stderr(line),
        Piece::Line(line) => events::parse(line),
        Piece::Part(part) => events::raw(part),
    };
    if phase == Phase::Apply && matches!(event.kind, events::Kind::Planned(_)) {
        event.level = LogLevel::Debug;
    }
    event
}

impl Shown {
    /// Its lines, each with the spots before and behind it.
    pub(super) fn lines(&self) -> impl Iterator<Item = (LogLine, Spot, Spot)> {
        let gap = Origin {
            source: LogSource::Gap,
            level: LogLevel::Warn,
            ..self.origin.clone()
        };
        let gap = self.gap.iter().map(move |text| gap.line(text));
        let text = self.text.iter();
        let text = text.flat_map(|text| pieces::split(&self.origin, text, self.goes_on));
        let mut lines = gap.chain(text).zip(0..).peekable();
        std::iter::from_fn(move || {
            let (line, piece) = lines.next()?;
            let behind = match lines.peek() {
                Some(_) => self.spot(piece + 1),
                None => Spot {
                    offset: self.to,
                    piece: 0,
                },
            };
            Some((line, self.spot(piece), behind))
        })
        .skip(usize::try_from(self.skip).unwrap_or(usize::MAX))
    }

    fn spot(&self, piece: u64) -> Spot {
        Spot {
            offset: self.from,
            piece,
        }
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Unspecified | LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job_dir::JobDir;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn bytes_of_which_no_index_knows_that_they_are_stored_stay() {
        let jobs = tempfile::tempdir().expect("dir");
        let dir = JobDir::create(jobs.path(), "a").expect("job directory");
        let name = "1-plan.stdout";
        let path = dir.out().join(name);
        let size = 2 * HOLE;
        std::fs::write(&path, vec![b'x'; usize::try_from(size).expect("small")]).expect("output");
        let blocks = || std::fs::metadata(&path).expect("output").blocks();
        let before = blocks();
        let which = Which {
            source: 0,
            stderr: false,
        };
        let open = Open {
            file: File::open(&path).expect("output"),
            name: name.to_owned(),
        };
        let mut stream = Stream::new(open, which, Phase::Plan, Spot::default());
        stream.stored(size);
        stream.punch(&Spool::none(&dir), 0);
        assert_eq!(blocks(), before);
        stream.punch(&Spool::begin(&dir), 0);
        assert!(blocks() < before, "with an index they go");
    }
}
