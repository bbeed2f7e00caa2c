//! The loop over tar blocks. Every block is accounted for: a header with a wrong
//! checksum, a missing end mark or anything after it is damage.

use std::fs::File;
use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::Error;
use super::name::shown;
use super::pax::{EXTENSION, Extended};

/// Size of a tar block.
const BLOCK: usize = 512;

/// What is taken from an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// One file or directory; its bytes are next in the stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) mode: u32,
}

/// What extension headers said about the entry to come.
#[derive(Default)]
struct Ahead {
    long_name: Option<Vec<u8>>,
    extended: Option<Extended>,
    any: bool,
}

/// Reads entries one by one. The caller takes or skips each entry's bytes.
pub(super) struct Entries<R> {
    stream: R,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream }
    }

    /// The next entry, or `None` at the end mark.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut ahead = Ahead::default();
        loop {
            let Some(header) = self.header()? else {
                if ahead.any {
                    return Err(corrupt("it ends after the extended header of an entry"));
                }
                return Ok(None);
            };
            if !self.extends(&header, &mut ahead)? {
                return entry(&header, ahead).map(Some);
            }
        }
    }

    /// Takes a header that describes the entry to come; false for an entry.
    fn extends(&mut self, header: &Header, ahead: &mut Ahead) -> Result<bool, Error> {
        match header.entry_type() {
            EntryType::XGlobalHeader => {
                let body = self.extension(header)?;
                // Ignored, which is right only while it says nothing that matters.
                if Extended::parse(&body)?.describes_content() {
                    return Err(corrupt("a global header names a path or a size"));
                }
                return Ok(true);
            }
            EntryType::XHeader => {
                let body = self.extension(header)?;
                let extended = Extended::parse(&body)?;
                if ahead.extended.replace(extended).is_some() {
                    return Err(corrupt("two extended headers for one entry"));
                }
            }
            EntryType::GNULongName => {
                let mut name = self.extension(header)?;
                if name.last() == Some(&0) {
                    name.pop();
                }
                if ahead.long_name.replace(name).is_some() {
                    return Err(corrupt("two long names for one entry"));
                }
            }
            // Belongs to a link, which is refused when it comes.
            EntryType::GNULongLink => drop(self.extension(header)?),
            _ => return Ok(false),
        }
        ahead.any = true;
        Ok(true)
    }

    /// Takes the bytes of an entry to `file`.
    pub(super) fn copy(&mut self, size: u64, file: &mut File) -> Result<(), Error> {
        let mut left = size;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let want = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.exact(&mut buffer[..want])?;
            file.write_all(&buffer[..want])
                .map_err(|source| Error::Write {
                    name: String::new(),
                    source,
                })?;
            left -= want as u64;
        }
        self.padding(size)
    }

    /// Passes over the bytes of an entry.
    pub(super) fn skip(&mut self, size: u64) -> Result<(), Error> {
        let skipped = io::copy(&mut (&mut self.stream).take(size), &mut io::sink())
            .map_err(|source| Error::Read { source })?;
        if skipped < size {
            return Err(torn());
        }
        self.padding(size)
    }

    /// After the end mark only zeros may follow (tar pads to its record size).
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) if buffer[..read].iter().all(|b| *b == 0) => {}
                Ok(_) => return Err(corrupt("there is data after its end mark")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { source }),
            }
        }
    }

    fn header(&mut self) -> Result<Option<Header>, Error> {
        let mut header = Header::new_old();
        self.exact(header.as_mut_bytes())?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum: u32 = bytes[..148]
            .iter()
            .chain(&bytes[156..])
            .map(|b| u32::from(*b))
            .sum();
        // The checksum field itself counts as eight spaces.
        if header.cksum().ok() != Some(sum + 8 * 32) {
            return Err(corrupt("a header does not match its checksum"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let size = declared_size(header)?;
        if size > EXTENSION {
            return Err(corrupt(&format!(
                "an extended header has {size} bytes; the limit is {EXTENSION}"
            )));
        }
        let mut body = vec![0; usize::try_from(size).expect("invariant: below EXTENSION")];
        self.exact(&mut body)?;
        self.padding(size)?;
        Ok(body)
    }

    fn padding(&mut self, size: u64) -> Result<(), Error> {
        let used = usize::try_from(size % BLOCK as u64).expect("invariant: below one block");
        let mut block = [0; BLOCK];
        if used > 0 {
            self.exact(&mut block[used..])?;
        }
        Ok(())
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        self.stream.read_exact(buffer).map_err(|source| {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                torn()
            } else {
                Error::Read { source }
            }
        })
    }
}

fn entry(header: &Header, ahead: Ahead) -> Result<Entry, Error> {
    let extended = ahead.extended.unwrap_or_default();
    let name = extended
        .path
        .or(ahead.long_name)
        .unwrap_or_else(|| header.path_bytes().into_owned());
    let size = declared_size(header)?;
    if extended.size.is_some_and(|other| other != size) {
        // Readers that believe one or the other would see different archives.
        return Err(corrupt("an entry has two sizes"));
    }
    let sparse = extended.sparse || header.entry_type() == EntryType::GNUSparse;
    let kind = if sparse {
        return Err(Error::Unsupported {
            name: shown(&name),
            kind: "sparse file".to_owned(),
        });
    } else {
        kind(header.entry_type(), &name)?
    };
    if kind == Kind::Directory && size != 0 {
        return Err(corrupt("a directory has content"));
    }
    let mode = header
        .mode()
        .map_err(|_| corrupt("an entry has no valid mode"))?;
    Ok(Entry {
        name,
        kind,
        size,
        mode,
    })
}

fn kind(entry_type: EntryType, name: &[u8]) -> Result<Kind, Error> {
    let link = |kind| Error::Link {
        name: shown(name),
        kind,
    };
    let device = |kind| Error::Device {
        name: shown(name),
        kind,
    };
    match entry_type {
        // Archives older than the directory type mark directories by the slash.
        EntryType::Regular if name.ends_with(b"/") => Ok(Kind::Directory),
        EntryType::Regular => Ok(Kind::File),
        EntryType::Directory => Ok(Kind::Directory),
        EntryType::Symlink => Err(link("symbolic link")),
        EntryType::Link => Err(link("hard link")),
        EntryType::Char => Err(device("character device")),
        EntryType::Block => Err(device("block device")),
        EntryType::Fifo => Err(device("fifo")),
        other => Err(Error::Unsupported {
            name: shown(name),
            kind: format!("{:?}", char::from(other.as_byte())),
        }),
    }
}

fn declared_size(header: &Header) -> Result<u64, Error> {
    header
        .entry_size()
        .map_err(|_| corrupt("an entry has no valid size"))
}

fn corrupt(reason: &str) -> Error {
    Error::Corrupt {
        reason: reason.to_owned(),
    }
}

fn torn() -> Error {
    corrupt("it ends before its end mark; a part is missing")
}
