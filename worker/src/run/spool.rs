//! The output files are the spool of the log. This is its index, `keep/lines`: which bytes
//! became which lines, written before they are handed over. Whoever reads the log again
//! after a crash gets the same lines under the same numbers, and goes on behind them.
//!
//! ```text
//!   record = varint length | LineRecord
//!
//!   out/3-apply.stdout   |..stored, punched out..|..handed over..|..waiting..|
//!   keep/lines            source   run run run     run run        (nothing)
//! ```
//!
//! It is written to the page cache, like the output itself: both outlive every process,
//! neither a power cut. An index that cannot be written takes no more, and says so once.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use prost::Message as _;
use proto::v1::line_record::Record;
use proto::v1::{LineRecord, LineRun, LineSource, LinesPunched, LinesThinned};
use rustix::fs::FallocateFlags;

use super::files;
use crate::job_dir::JobDir;

/// One of the streams of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Which {
    pub(super) source: u32,
    pub(super) stderr: bool,
}

/// A place in a stream: the beginning of a line, and how many of its pieces are before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Spot {
    pub(super) offset: u64,
    pub(super) piece: u64,
}

/// Whether the index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    Yes,
    No,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Spool {
    out: PathBuf,
    index: Mutex<Index>,
}

#[derive(Debug)]
struct Index {
    file: Option<File>,
    sources: u32,
}

impl Spool {
    /// Of a job that begins.
    pub(super) fn begin(dir: &JobDir) -> Self {
        Self::over(dir, 0, open(&dir.lines(), 0))
    }

    /// Of a job whose worker is dead, and what its index says.
    pub(super) fn again(dir: &JobDir) -> (Self, Past) {
        let bytes = std::fs::read(dir.lines()).unwrap_or_default();
        let (past, sound) = Past::of(&bytes);
        let sources = u32::try_from(past.sources.len()).unwrap_or(u32::MAX);
        (Self::over(dir, sources, open(&dir.lines(), sound)), past)
    }

    /// Of a worker whose words are not part of the log.
    pub(super) fn none(dir: &JobDir) -> Self {
        Self {
            out: dir.out(),
            index: Mutex::new(Index {
                file: None,
                sources: 0,
            }),
        }
    }

    fn over(dir: &JobDir, sources: u32, file: io::Result<File>) -> Self {
        if let Err(error) = &file {
            tracing::error!(%error, "the index of the log cannot be opened");
        }
        Self {
            out: dir.out(),
            index: Mutex::new(Index {
                file: file.ok(),
                sources,
            }),
        }
    }

    /// Where the output files are.
    pub(super) fn out(&self) -> &Path {
        &self.out
    }

    /// Notes what comes next in the log; its number.
    pub(super) fn source(&self, source: LineSource) -> u32 {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let number = index.sources;
        index.sources += 1;
        index.append([Record::Source(source)]);
        number
    }

    /// Notes what is about to be handed over, or given back. Bytes of which that could not
    /// be noted must stay: whoever reads the log again would not know what they were.
    pub(super) fn note(&self, records: impl IntoIterator<Item = Record>) -> Noted {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.append(records)
    }

    /// Gives bytes of an output back to the file system; they read as NULs from then on.
    pub(super) fn punch(&self, name: &str, from: u64, to: u64) -> Result<(), files::Error> {
        let file = files::open_to_punch(&self.out, name)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let punched = rustix::fs::fallocate(&file, flags, from, to.saturating_sub(from));
        punched.map_err(|errno| files::Error::punch(&self.out.join(name), errno.into()))
    }
}

impl Index {
    /// One write: a crash cuts at most the tail.
    fn append(&mut self, records: impl IntoIterator<Item = Record>) -> Noted {
        let Some(file) = &mut self.file else {
            return Noted::No;
        };
        let mut bytes = Vec::new();
        for record in records {
            let record = LineRecord {
                record: Some(record),
            };
            record
                .encode_length_delimited(&mut bytes)
                .expect("invariant: a Vec grows as needed");
        }
        if let Err(error) = file.write_all(&bytes) {
            tracing::error!(%error, "the index of the log takes no more");
            self.file = None;
            return Noted::No;
        }
        Noted::Yes
    }
}

/// Opens the index for more, behind its sound records.
fn open(path: &Path, sound: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.set_len(sound)?;
    Ok(file)
}

/// What an index says.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) sources: Vec<LineSource>,
    pub(super) runs: Vec<LineRun>,
    pub(super) punched: HashMap<Which, LinesPunched>,
    pub(super) thinned: HashMap<Which, Vec<LinesThinned>>,
}

impl Past {
    /// What the index of `dir` says to somebody who only looks.
    pub(super) fn read(dir: &JobDir) -> Self {
        Self::of(&std::fs::read(dir.lines()).unwrap_or_default()).0
    }

    fn of(bytes: &[u8]) -> (Self, u64) {
        let mut past = Self::default();
        let mut rest = bytes;
        let mut sound = 0;
        while !rest.is_empty() {
            let record = LineRecord::decode_length_delimited(&mut rest);
            let Some(record) = record.ok().and_then(|record| record.record) else {
                break;
            };
            past.add(record);
            sound = bytes.len() - rest.len();
        }
        (past, sound as u64)
    }

    fn add(&mut self, record: Record) {
        match record {
            Record::Source(source) => self.sources.push(source),
            Record::Run(run) => self.runs.push(run),
            Record::Punched(punched) => {
                let which = Which {
                    source: punched.source,
                    stderr: punched.stderr,
                };
                self.punched.insert(which, punched);
            }
            Record::Thinned(thinned) => {
                let which = Which {
                    source: thinned.source,
                    stderr: thinned.stderr,
                };
                let parts = self.thinned.entry(which).or_default();
                match parts.last_mut() {
                    Some(last) if thinned.continues => {
                        last.to = thinned.to;
                        last.lines += thinned.lines;
                        last.bytes += thinned.bytes;
                    }
                    Some(_) | None => parts.push(thinned),
                }
            }
        }
    }

    /// How far a stream was handed over.
    pub(super) fn end_of(&self, which: Which) -> Spot {
        let mut runs = self.runs.iter().rev();
        let last = runs.find(|run| run.source == which.source && run.stderr == which.stderr);
        last.map_or_else(Spot::default, |run| Spot {
            offset: run.end_offset,
            piece: run.end_piece,
        })
    }

    /// The last line that has a number.
    pub(super) fn last_seq(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.seq + run.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> LineSource {
        LineSource {
            text: text.to_owned(),
            ..LineSource::default()
        }
    }

    fn run(seq: u64, count: u64) -> Record {
        Record::Run(LineRun {
            seq,
            count,
            end_offset: seq * 10,
            ..LineRun::default()
        })
    }

    #[test]
    fn an_index_torn_at_any_byte_holds_the_records_before_it_and_goes_on() {
        let jobs = tempfile::tempdir().expect("dir");
        let dir = JobDir::create(jobs.path(), "a").expect("job directory");
        let spool = Spool::begin(&dir);
        assert_eq!(spool.source(source("one")), 0);
        let one = std::fs::metadata(dir.lines()).expect("index").len();
        spool.note([run(1, 2)]);
        let two = std::fs::metadata(dir.lines()).expect("index").len();
        assert_eq!(spool.source(source("two")), 1);
        spool.note([run(3, 4)]);
        let whole = std::fs::read(dir.lines()).expect("index");
        for cut in one..two {
            std::fs::write(dir.lines(), &whole[..usize::try_from(cut).expect("small")])
                .expect("cut");
            let (spool, past) = Spool::again(&dir);
            assert_eq!((past.sources.len(), past.last_seq()), (1, 0), "{cut}");
            assert_eq!(spool.source(source("again")), 1);
            assert_eq!(Past::read(&dir).sources.len(), 2, "{cut}");
        }
        std::fs::write(dir.lines(), &whole).expect("whole");
        let past = Past::read(&dir);
        assert_eq!(past.last_seq(), 6);
        let which = Which {
            source: 0,
            stderr: false,
        };
        assert_eq!(past.end_of(which).offset, 30);
    }

    #[test]
    fn punched_bytes_are_given_back_and_the_rest_is_there() {
        use std::os::unix::fs::MetadataExt as _;
        let jobs = tempfile::tempdir().expect("dir");
        let dir = JobDir::create(jobs.path(), "a").expect("job directory");
        let path = dir.out().join("1-plan.stdout");
        std::fs::write(&path, vec![b'x'; 1 << 20]).expect("output");
        let before = std::fs::metadata(&path).expect("output").blocks();
        Spool::none(&dir)
            .punch("1-plan.stdout", 0, (1 << 19) + 3)
            .expect("punched");
        let bytes = std::fs::read(&path).expect("output");
        assert!(bytes[..(1 << 19) + 3].iter().all(|byte| *byte == 0));
        assert!(bytes[(1 << 19) + 3..].iter().all(|byte| *byte == b'x'));
        let after = std::fs::metadata(&path).expect("output").blocks();
        assert!(after <= before / 2 + 8, "{before} blocks became {after}");
        assert!(Spool::none(&dir).punch("../journal", 0, 1).is_err());
    }
}
