//! Counts what goes into and comes out of decompression, and ends a stream that grows
//! past a limit while it grows. Readers can only return `io::Error`, so the limit that
//! tripped is noted on the tap beside them.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use proto::limits::{ARCHIVE_RATIO, MIB};
use proto::v1::Limits;

use super::Error;
use super::name::Name;

/// Read at once from the archive.
const BUFFER: usize = 64 * 1024;

/// Largest zstd window, as a power of two: what `zstd --ultra -22` makes (128 MiB).
const ZSTD_WINDOW_LOG: u32 = 27;

/// The limit that ended a stream.
#[derive(Clone, Copy)]
enum Trip {
    Packed,
    Unpacked,
    Ratio,
}

/// Counters shared by the two meters of one archive.
#[derive(Clone)]
pub(super) struct Tap(Rc<Counters>);

struct Counters {
    packed: Cell<u64>,
    unpacked: Cell<u64>,
    packed_limit: u64,
    unpacked_limit: u64,
    compressed: Cell<Compression>,
    tripped: Cell<Option<Trip>>,
    source_failed: Cell<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Tap {
    pub(super) fn new(limits: &Limits) -> Self {
        // Headers and padding are not content: at most 1 KiB for each entry, and its
        // long name.
        let overhead = limits.archive_entries.saturating_mul(4 * 1024);
        Self(Rc::new(Counters {
            packed: Cell::new(0),
            unpacked: Cell::new(0),
            packed_limit: limits.archive_bytes,
            unpacked_limit: limits.archive_unpacked_bytes.saturating_add(overhead),
            compressed: Cell::new(Compression::None),
            tripped: Cell::new(None),
            source_failed: Cell::new(false),
        }))
    }

    fn trip(&self, trip: Trip) -> io::Error {
        self.0.tripped.set(Some(trip));
        io::Error::other("a limit of the archive was reached")
    }

    /// Turns an error of the stream into ours: a tripped limit, a failing source, or
    /// damage.
    pub(super) fn explain(&self, error: Error) -> Error {
        let Error::Read { source } = error else {
            return error;
        };
        match self.0.tripped.get() {
            Some(Trip::Packed) => Error::TooLarge {
                what: "packed",
                limit: self.0.packed_limit,
            },
            Some(Trip::Unpacked) => Error::TooLarge {
                what: "unpacked",
                limit: self.0.unpacked_limit,
            },
            Some(Trip::Ratio) => Error::TooCompressible {
                ratio: ARCHIVE_RATIO,
            },
            None if self.0.source_failed.get() => Error::Read { source },
            None => Error::Corrupt {
                reason: match self.0.compressed.get() {
                    Compression::None => source.to_string(),
                    Compression::Gzip => format!("gzip: {source}"),
                    Compression::Zstd => format!("zstd: {source}"),
                },
            },
        }
    }

    /// The same for a copy, whose write side has already been told apart.
    pub(super) fn explain_copy(&self, error: Error, name: &Name) -> Error {
        match error {
            Error::Write { source, .. } => Error::Write {
                name: name.shown(),
                source,
            },
            other => self.explain(other),
        }
    }
}

/// What a meter stands before.
#[derive(Clone, Copy)]
enum Side {
    Packed,
    Unpacked,
}

/// A reader that counts and ends at its limit.
pub(super) struct Meter<R> {
    inner: R,
    tap: Tap,
    side: Side,
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let counters = &self.tap.0;
        match self.side {
            Side::Packed => {
                let read = self.inner.read(buffer).inspect_err(|error| {
                    if error.kind() != io::ErrorKind::Interrupted {
                        counters.source_failed.set(true);
                    }
                })?;
                let packed = counters.packed.get() + read as u64;
                counters.packed.set(packed);
                if packed > counters.packed_limit {
                    return Err(self.tap.trip(Trip::Packed));
                }
                Ok(read)
            }
            Side::Unpacked => {
                let read = self.inner.read(buffer)?;
                let unpacked = counters.unpacked.get() + read as u64;
                counters.unpacked.set(unpacked);
                if unpacked > counters.unpacked_limit {
                    return Err(self.tap.trip(Trip::Unpacked));
                }
                let allowed = counters.packed.get().saturating_mul(ARCHIVE_RATIO);
                if unpacked > allowed.saturating_add(MIB) {
                    return Err(self.tap.trip(Trip::Ratio));
                }
                Ok(read)
            }
        }
    }
}

/// Finds out the compression by its magic bytes and opens the stream of tar blocks.
pub(super) fn open<'r>(
    reader: impl Read + 'r,
    tap: &Tap,
) -> Result<Meter<Box<dyn Read + 'r>>, Error> {
    let packed = Meter {
        inner: reader,
        tap: tap.clone(),
        side: Side::Packed,
    };
    let mut packed = BufReader::with_capacity(BUFFER, packed);
    let read = |source| tap.explain(Error::Read { source });
    let head = packed.fill_buf().map_err(read)?;
    let compression = sniff(head)?;
    tap.0.compressed.set(compression);
    let inner: Box<dyn Read + 'r> = match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(read)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(read)?;
            Box::new(decoder)
        }
    };
    Ok(Meter {
        inner,
        tap: tap.clone(),
        side: Side::Unpacked,
    })
}

fn sniff(head: &[u8]) -> Result<Compression, Error> {
    let format = match head {
        [] => {
            return Err(Error::Corrupt {
                reason: "it is empty".to_owned(),
            });
        }
        [0x1f, 0x8b, ..] => return Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            return Ok(Compression::Zstd);
        }
        [b'P', b'K', 3 | 5, 4 | 6, ..] => "a zip file",
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', ..] => "compressed by bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "compressed by xz",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z file",
        _ => return Ok(Compression::None),
    };
    Err(Error::Format { format })
}
