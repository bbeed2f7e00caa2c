//! The journal of a job: all that a daemon must not lose of it, in one append-only
//! file.
//!
//! ```text
//!   record = varint length | JournalRecord | first 8 bytes of its SHA-256
//! ```
//!
//! A write that stops half way is taken back, so that later records can be read; when
//! that fails too, the journal takes no more.
//!
//! A power cut may tear the tail: reading stops at the first record that is not whole
//! and sound, and whoever writes on cuts the file there. Appending reaches the page
//! cache, which outlives the daemon; [`Journal::sync`] reaches the disk and is called
//! at the gate, at a checkpoint and at the finish.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;
use proto::ids::Digest;
use proto::v1::JournalRecord;
use proto::v1::journal_record::Record;

mod past;

pub use past::Past;

/// Bytes of the digest behind each record: enough to notice damage, not an opponent.
const CHECK: usize = 8;

/// An open journal. One per job; whoever holds it is its only writer.
#[derive(Debug)]
pub struct Journal {
    file: Arc<File>,
    /// Where the sound records end; `None` when what lies behind them cannot be cut.
    sound: Mutex<Option<u64>>,
}

impl Journal {
    /// A new journal; the file may not exist yet.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self::over(file, 0))
    }

    fn over(file: File, sound: u64) -> Self {
        Self {
            file: Arc::new(file),
            sound: Mutex::new(Some(sound)),
        }
    }

    /// What a journal says that somebody else may be writing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> io::Result<Past> {
        Ok(Past::of(decode(&std::fs::read(path)?).0))
    }

    /// Reads what an earlier daemon wrote, cuts a torn tail off and opens for more.
    ///
    /// # Errors
    /// The file cannot be read or cut.
    pub fn open(path: &Path) -> io::Result<(Self, Past)> {
        let mut file = OpenOptions::new().read(true).append(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (records, sound) = decode(&bytes);
        let end = u64::try_from(sound).unwrap_or(u64::MAX);
        if sound < bytes.len() {
            tracing::warn!(
                journal.path = %path.display(),
                journal.cut_bytes = bytes.len() - sound,
                "journal has a torn tail; the records before it hold"
            );
            file.set_len(end)?;
            file.seek(SeekFrom::End(0))?;
        }
        Ok((Self::over(file, end), Past::of(records)))
    }

    /// Adds a record. It outlives this process at once and the machine after
    /// [`Journal::sync`].
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn append(&self, record: Record) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(
            &JournalRecord {
                record: Some(record),
                time_ms: unix_ms(),
            },
            &mut bytes,
        );
        // One write: a crash between two would leave a length without its record.
        self.add(&bytes, |mut file, bytes| file.write_all(bytes))
    }

    fn add(
        &self,
        bytes: &[u8],
        write: impl FnOnce(&File, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(end) = *sound else {
            return Err(io::Error::other("the journal has a torn record"));
        };
        let written = write(&self.file, bytes);
        *sound = match written {
            Ok(()) => Some(end + u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Err(_) => self.file.set_len(end).is_ok().then_some(end),
        };
        written
    }

    /// Waits until all records are on the disk.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub async fn sync(&self) -> io::Result<()> {
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || file.sync_data())
            .await
            .map_err(io::Error::other)?
    }

    /// [`Journal::append`], then [`Journal::sync`].
    ///
    /// # Errors
    /// The disk is full or broken.
    pub async fn commit(&self, record: Record) -> io::Result<()> {
        self.append(record)?;
        self.sync().await
    }
}

/// Wall clock, for records and log lines.
pub(super) fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

fn encode(record: &JournalRecord, out: &mut Vec<u8>) {
    let body = record.encode_to_vec();
    let check = Digest::of(&body);
    prost::encode_length_delimiter(body.len(), out).expect("invariant: a Vec grows as needed");
    out.extend_from_slice(&body);
    out.extend_from_slice(&check.as_bytes()[..CHECK]);
}

/// The sound records at the beginning of `bytes`, and where they end.
fn decode(bytes: &[u8]) -> (Vec<JournalRecord>, usize) {
    let mut records = Vec::new();
    let mut sound = 0;
    while let Some((record, size)) = next(&bytes[sound..]) {
        records.push(record);
        sound += size;
    }
    (records, sound)
}

fn next(bytes: &[u8]) -> Option<(JournalRecord, usize)> {
    let length = prost::decode_length_delimiter(bytes).ok()?;
    let start = prost::length_delimiter_len(length);
    let end = start.checked_add(length)?;
    let body = bytes.get(start..end)?;
    let check = bytes.get(end..end.checked_add(CHECK)?)?;
    if Digest::of(body).as_bytes()[..CHECK] != *check {
        return None;
    }
    Some((JournalRecord::decode(body).ok()?, end + CHECK))
}

#[cfg(test)]
mod tests;
