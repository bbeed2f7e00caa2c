//! Writes entries as a compressed tar into an unnamed temporary file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};

use proto::ids::Digest;
use proto::limits;
use sha2::Digest as _;

use super::{Archive, Entry, Kind, too_large};
use crate::failure::Failure;

/// Good compression at the speed of a disk.
const LEVEL: i32 = 6;

/// Packs `entries` in their order; `open` gives the bytes of each file.
///
/// # Errors
/// A file cannot be read or changes meanwhile, or there is no room for the archive.
pub fn write<R: io::Read>(
    entries: Vec<Entry>,
    skipped: Vec<String>,
    open: impl Fn(&Entry) -> Result<R, Failure>,
) -> Result<Archive, Failure> {
    let temp = std::env::temp_dir();
    let unwritable = |error: io::Error| Failure::file("write the archive in", &temp, &error);
    let file = temporary().map_err(unwritable)?;
    let hashed = Hashed::new(BufWriter::new(file));
    let packer = zstd::Encoder::new(hashed, LEVEL).map_err(unwritable)?;
    let mut tar = tar::Builder::new(packer);
    for entry in entries {
        append(&mut tar, &entry, &open)?;
    }
    let hashed = tar
        .into_inner()
        .and_then(zstd::Encoder::finish)
        .map_err(unwritable)?;
    let (digest, size, buffer) = hashed.finish();
    let mut file = buffer
        .into_inner()
        .map_err(|error| unwritable(error.into_error()))?;
    file.rewind().map_err(unwritable)?;
    if size > limits::ARCHIVE {
        return Err(too_large(format!(
            "{size} bytes packed, the limit is {}",
            limits::ARCHIVE
        )));
    }
    Ok(Archive {
        file,
        digest,
        size,
        skipped,
    })
}

fn append<W: Write, R: io::Read>(
    tar: &mut tar::Builder<W>,
    entry: &Entry,
    open: &impl Fn(&Entry) -> Result<R, Failure>,
) -> Result<(), Failure> {
    let mut header = tar::Header::new_gnu();
    let (kind, mode) = match entry.kind {
        Kind::Directory => (tar::EntryType::Directory, 0o755),
        Kind::File => (tar::EntryType::Regular, 0o644),
        Kind::Program => (tar::EntryType::Regular, 0o755),
    };
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_size(entry.size);
    let unpackable = |error: io::Error| Failure::file("pack", &entry.path, &error);
    if entry.kind == Kind::Directory {
        return tar
            .append_data(&mut header, &entry.path, io::empty())
            .map_err(unpackable);
    }
    let mut source = Exact {
        inner: open(entry)?,
        left: entry.size,
    };
    tar.append_data(&mut header, &entry.path, &mut source)
        .map_err(unpackable)
}

/// Ends after as many bytes as the header announces, and fails when there are fewer:
/// a file that changes meanwhile must not shift all that follows.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: io::Read> io::Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.inner.read(&mut buffer[..room])?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// An unnamed file, gone when it is closed.
fn temporary() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("provisionerd-{}", uuid::Uuid::new_v4()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

struct Hashed<W> {
    inner: W,
    hasher: sha2::Sha256,
    size: u64,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: sha2::Sha256::new(),
            size: 0,
        }
    }

    fn finish(self) -> (Digest, u64, W) {
        let digest = Digest::from_array(self.hasher.finalize().into());
        (digest, self.size, self.inner)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
