//! The file `exits`: every start and end of a process of the job, as frames, for a daemon
//! that was not there to hear of it. Written by the supervisor only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::frame::{self, Decoder};
use proto::limits;
use proto::v1::{ExitRecord, exit_record::Record};

/// Whether a record must be on disk before anybody hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The verdict of an apply hangs on it.
    Synced,
    /// The page cache will do.
    Cached,
}

/// Appends to the file.
#[derive(Debug)]
pub(super) struct Exits(File);

impl Exits {
    /// Opens or makes the file. A torn record at its end, of a supervisor that died
    /// writing it, is cut off: what follows it could not be read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (_, whole) = parse(&bytes);
        file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))?;
        Ok(Self(file))
    }

    /// Appends one record.
    pub(super) fn append(&mut self, record: Record, durability: Durability) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let record = ExitRecord {
            record: Some(record),
            time_ms: now.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0)),
        };
        let mut bytes = Vec::new();
        frame::encode(&record, &mut bytes);
        let sound = self.0.metadata()?.len();
        if let Err(error) = self.0.write_all(&bytes) {
            // Behind half a record no other could be read.
            self.0.set_len(sound)?;
            return Err(error);
        }
        match durability {
            Durability::Synced => self.0.sync_data(),
            Durability::Cached => Ok(()),
        }
    }
}

/// All whole records; a torn tail is left out. No file, no records.
pub(crate) fn read(path: &Path) -> io::Result<Vec<ExitRecord>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(parse(&bytes).0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The whole records and how many bytes they take.
fn parse(bytes: &[u8]) -> (Vec<ExitRecord>, usize) {
    let mut decoder = Decoder::new(limits::SUPERVISOR_FRAME);
    decoder.push(bytes);
    let mut records = Vec::new();
    let mut whole = 0;
    while let Ok(Some(record)) = decoder.take() {
        records.push(record);
        whole = bytes.len() - decoder.pending();
    }
    (records, whole)
}

#[cfg(test)]
mod tests {
    use proto::v1::ProcessExited;

    use super::*;

    fn exited(number: u32) -> Record {
        Record::Exited(ProcessExited {
            number,
            code: Some(0),
            ..ProcessExited::default()
        })
    }

    fn numbers(path: &Path) -> Vec<u32> {
        let records = read(path).expect("read").into_iter();
        let number = |record: ExitRecord| match record.record {
            Some(Record::Exited(exited)) => exited.number,
            other => panic!("{other:?}"),
        };
        records.map(number).collect()
    }

    #[test]
    fn records_survive_and_a_torn_tail_costs_only_itself() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("exits");
        assert!(numbers(&path).is_empty());
        let mut exits = Exits::open(&path).expect("open");
        for number in [1, 2, 300] {
            exits
                .append(exited(number), Durability::Synced)
                .expect("append");
        }
        drop(exits);
        let file = OpenOptions::new().write(true).open(&path).expect("open");
        let length = file.metadata().expect("metadata").len();
        file.set_len(length - 1).expect("tear");
        assert_eq!(numbers(&path), [1, 2]);
        let mut exits = Exits::open(&path).expect("open again");
        exits.append(exited(4), Durability::Cached).expect("append");
        assert_eq!(numbers(&path), [1, 2, 4]);
    }
}
