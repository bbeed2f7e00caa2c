//! Unpacks a template archive into an empty directory.
//!
//! Whatever is not a plain file or a directory inside that directory, or exceeds a
//! limit, fails the whole archive by name. Nothing is cut short, and what is knowingly
//! left out (`steering`) is told in a notice.
//!
//! ```text
//! reader ─ packed meter ─ gzip | zstd | nothing ─ unpacked meter ─ entries ─ tree
//! ```

mod entries;
mod error;
mod meter;
mod name;
mod pax;
mod steering;
mod tree;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

pub use error::Error;

use std::io::Read;
use std::path::Path;

use proto::v1::Limits;

use entries::{Entries, Entry, Kind};
use meter::{Meter, Tap};
use name::Name;
use steering::{Notices, Verdict};
use tree::Tree;

/// What an archive brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries in the archive, those left out included.
    pub entries: u64,
    /// Regular files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// One line for each thing that was knowingly left out; belongs in the job's log.
    pub notices: Vec<String>,
}

/// Unpacks a plain, gzip or zstd compressed tar into `into`, an existing empty
/// directory. On an error the directory holds a part of the archive and must be
/// thrown away. Blocks: call it off the async threads.
pub fn unpack(reader: impl Read, into: &Path, limits: &Limits) -> Result<Summary, Error> {
    let tap = Tap::new(limits);
    let stream = meter::open(reader, &tap)?;
    let mut unpacking = Unpacking {
        tree: Tree::open(into, limits.archive_entries)?,
        limits,
        summary: Summary::default(),
        notices: Notices::default(),
        tap: &tap,
    };
    let mut entries = Entries::new(stream);
    while let Some(entry) = entries.next().map_err(|error| tap.explain(error))? {
        unpacking.take(&entry, &mut entries)?;
    }
    entries.finish().map_err(|error| tap.explain(error))?;
    unpacking.tree.check_configuration()?;
    let Unpacking {
        mut summary,
        notices,
        ..
    } = unpacking;
    summary.notices = notices.into_lines();
    Ok(summary)
}

/// One archive on its way to disk.
struct Unpacking<'a> {
    tree: Tree,
    limits: &'a Limits,
    summary: Summary,
    notices: Notices,
    tap: &'a Tap,
}

impl Unpacking<'_> {
    fn take<R: Read>(&mut self, entry: &Entry, from: &mut Entries<Meter<R>>) -> Result<(), Error> {
        self.summary.entries += 1;
        if self.summary.entries > self.limits.archive_entries {
            return Err(Error::TooManyEntries {
                limit: self.limits.archive_entries,
            });
        }
        let name = Name::parse(&entry.name)?;
        if entry.mode & 0o6000 != 0 {
            return Err(Error::SetUid { name: name.shown() });
        }
        self.check_size(entry, &name)?;
        match steering::by_name(&name) {
            Verdict::Keep => self.keep(entry, &name, from),
            Verdict::LeaveOut(reason) => {
                self.notices.add(reason, entry.size);
                from.skip(entry.size)
                    .map_err(|error| self.tap.explain(error))
            }
            Verdict::Refuse(reason) => Err(Error::Steering {
                name: name.shown(),
                reason,
            }),
        }
    }

    fn check_size(&self, entry: &Entry, name: &Name) -> Result<(), Error> {
        if entry.size > self.limits.archive_entry_bytes {
            return Err(Error::EntryTooLarge {
                name: name.shown(),
                size: entry.size,
                limit: self.limits.archive_entry_bytes,
            });
        }
        if self.summary.bytes.saturating_add(entry.size) > self.limits.archive_unpacked_bytes {
            return Err(Error::TooLarge {
                what: "unpacked",
                limit: self.limits.archive_unpacked_bytes,
            });
        }
        Ok(())
    }

    fn keep<R: Read>(
        &mut self,
        entry: &Entry,
        name: &Name,
        from: &mut Entries<Meter<R>>,
    ) -> Result<(), Error> {
        match entry.kind {
            Kind::Directory => self.tree.directory(name),
            Kind::File => {
                let mut file = self.tree.file(name, entry.mode)?;
                from.copy(entry.size, &mut file)
                    .map_err(|error| self.tap.explain_copy(error, name))?;
                self.summary.files += 1;
                self.summary.bytes += entry.size;
                Ok(())
            }
        }
    }
}
