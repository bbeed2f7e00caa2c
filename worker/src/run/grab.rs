//! The state file as it is right now, taken as bytes the moment it is whole.
//!
//! An engine that writes a large state after each of many resources leaves it whole for
//! some ten milliseconds at a time, and dies when it likes. Reading takes a few of them;
//! parsing, hashing and syncing take many times that and are paced. So each whole file is
//! grabbed at once, put below `keep/` as it is, and judged when its turn comes: by this
//! worker, or, when it dies too, by the collector.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Instant, SystemTime};

use super::checkpoint::STATE_FILE;
use super::files::{self, Durability};

/// Where a grabbed state waits, below `keep/`. Begins as all copies do, so that a collector
/// finds it.
pub(super) const GRABBED_FILE: &str = "checkpoint-grabbed.tfstate";

/// A state ends in a brace and a line end.
const END: usize = 8;

/// Tells whether a file was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Of a file by its name, `None` when there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        path.symlink_metadata().ok().map(|meta| Self::from(&meta))
    }
}

impl From<&Metadata> for Stamp {
    fn from(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// Bytes that look like a whole state.
#[derive(Debug)]
pub(super) struct Grab {
    pub(super) bytes: Vec<u8>,
    pub(super) stamp: Stamp,
    /// When reading began.
    pub(super) read_at: Instant,
    /// Modification time of the file.
    pub(super) written_at: SystemTime,
}

/// What one look at the file found.
#[derive(Debug)]
pub(super) enum Found {
    /// It is gone, or was written to meanwhile: look again.
    Moving,
    /// It stands still and is no state: look again when it changes.
    Unusable(Stamp),
    /// To be judged.
    Whole(Grab),
}

/// Looks at the state file in `work`; one that does not end as a state does is not read.
pub(super) fn grab(work: &Path, limit: u64) -> Found {
    let read_at = Instant::now();
    match read(work, limit, read_at) {
        Ok(found) => found,
        Err(_) => Found::Moving,
    }
}

fn read(work: &Path, limit: u64, read_at: Instant) -> Result<Found, files::Error> {
    let path = work.join(STATE_FILE);
    let fail = |source| files::Error::io("read", &path, source);
    let file = files::open(work, STATE_FILE)?;
    let before = file.metadata().map_err(fail)?;
    let mut end = [0; END];
    let from = before.len().saturating_sub(END as u64);
    let read = file.read_at(&mut end, from).map_err(fail)?;
    if !end[..read].trim_ascii_end().ends_with(b"}") {
        return Ok(Found::Unusable(Stamp::from(&before)));
    }
    let bytes = files::read_open(&file, &path, limit)?;
    let after = file.metadata().map_err(fail)?;
    let stamp = Stamp::from(&after);
    if Stamp::from(&before) != stamp || bytes.len() as u64 != stamp.size {
        return Ok(Found::Moving);
    }
    Ok(Found::Whole(Grab {
        bytes,
        stamp,
        read_at,
        written_at: after.modified().map_err(fail)?,
    }))
}

impl Grab {
    /// Puts it where it outlives this worker. Not synced: the world that a dead host
    /// leaves is told by the ledger.
    pub(super) fn put_down(&self, keep: &Path) -> Result<(), files::Error> {
        files::write(&keep.join(GRABBED_FILE), &self.bytes, Durability::Volatile)
    }
}

/// Takes away what was put down; there may be nothing.
pub(super) fn pick_up(keep: &Path) -> io::Result<()> {
    match std::fs::remove_file(keep.join(GRABBED_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Found {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join(STATE_FILE), text).expect("state");
        grab(dir.path(), 64)
    }

    #[test]
    fn what_ends_as_a_state_is_taken_and_nothing_else_is() {
        for text in ["{\"version\":4}\n", "{}", "{}\n\n"] {
            let Found::Whole(grab) = found(text) else {
                panic!("{text:?} was not taken");
            };
            assert_eq!(grab.bytes, text.as_bytes());
        }
        for text in ["", "\n", "{\"version\":4,", "{\"a\":\"}\""] {
            assert!(matches!(found(text), Found::Unusable(_)), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_gone_or_too_large_is_looked_at_again() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(matches!(grab(dir.path(), 64), Found::Moving));
        assert!(matches!(
            found(&format!("{{{}}}", " ".repeat(64))),
            Found::Moving
        ));
    }

    #[test]
    fn what_was_put_down_is_whole_and_is_picked_up_once() {
        let keep = tempfile::tempdir().expect("dir");
        let Found::Whole(grab) = found("{}\n") else {
            panic!("not taken");
        };
        grab.put_down(keep.path()).expect("put down");
        let path = keep.path().join(GRABBED_FILE);
        assert_eq!(std::fs::read(&path).expect("there"), b"{}\n");
        pick_up(keep.path()).expect("picked up");
        pick_up(keep.path()).expect("nothing is there");
        assert!(!path.exists());
    }
}
