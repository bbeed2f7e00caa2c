//! The file of a backup: a tar archive that needs no seeking, so it may be a pipe.
//!
//! ```text
//! header.json              what follows, and who wrote it
//! blobs/ab/cdef….zst       each blob that is a file, as it lies on disk
//! rows/TABLE/000001.zst    rows, each with its length before it
//! end.json                 how many of each; without it the archive is torn
//! ```

use std::collections::BTreeMap;
use std::io::{Read, Write};

use prost::Message as _;
use proto::ids::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::row::{Row, Table};
use super::{Error, Header, Progress, Result, Sink, Totals};
use crate::blobs;

const HEADER: &str = "header.json";
const END: &str = "end.json";

/// Rows are written once and read rarely.
const ZSTD_LEVEL: i32 = 3;

/// Largest entry that is held in memory, unpacked: many batches of a source, and more than
/// any row has.
pub(super) const LARGEST: u64 = 256 * 1024 * 1024;

/// Writes an archive.
pub struct Writer<W: Write> {
    tar: tar::Builder<W>,
    batches: u64,
    largest: u64,
}

impl<W: Write> Writer<W> {
    /// An archive that goes to `out`, of entries that a reader with this limit takes.
    pub fn new(out: W, largest: u64) -> Self {
        Self {
            tar: tar::Builder::new(out),
            batches: 0,
            largest,
        }
    }

    fn json(&mut self, name: &str, document: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec_pretty(document)
            .map_err(|error| Error::io("write the backup")(error.into()))?;
        self.entry(name, text.len() as u64, &mut text.as_slice())
    }

    fn entry(&mut self, name: &str, size: u64, bytes: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(0);
        let written = self.tar.append_data(&mut header, name, bytes.take(size));
        written.map_err(Error::io("write the backup"))
    }

    /// An entry of rows, if there are any; `bytes` is empty after it.
    fn batch(&mut self, table: &Table, bytes: &mut Vec<u8>) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let packed = packed(bytes).map_err(Error::io("write the backup"))?;
        bytes.clear();
        self.batches += 1;
        let name = format!("rows/{}/{:06}.zst", table.name, self.batches);
        self.entry(&name, packed.len() as u64, &mut packed.as_slice())
    }
}

impl<W: Write> Sink for Writer<W> {
    fn begin(&mut self, header: &Header) -> Result<()> {
        self.json(HEADER, header)
    }

    fn blob(&mut self, digest: Digest, size: u64, file: &mut dyn Read) -> Result<()> {
        let name = digest.to_string();
        let (first, rest) = name.split_at(2);
        self.entry(&format!("blobs/{first}/{rest}.zst"), size, file)
    }

    fn rows(&mut self, table: &Table, rows: Vec<Row>) -> Result<()> {
        let mut bytes = Vec::new();
        for row in rows {
            let row = row.encode_length_delimited_to_vec();
            if row.len() as u64 > self.largest {
                return Err(Error::RowTooLarge {
                    table: table.name.clone(),
                    bytes: row.len() as u64,
                    limit: self.largest,
                });
            }
            if (bytes.len() + row.len()) as u64 > self.largest {
                self.batch(table, &mut bytes)?;
            }
            bytes.extend(row);
        }
        self.batch(table, &mut bytes)
    }

    fn end(&mut self, totals: &Totals) -> Result<()> {
        self.json(END, totals)?;
        let flushed = self.tar.finish().and_then(|()| self.tar.get_mut().flush());
        flushed.map_err(Error::io("write the backup"))
    }
}

/// With a checksum: tar has none of its contents.
fn packed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// What an entry is, by its name.
enum Entry {
    Header,
    Blob(Digest),
    Rows(String),
    End,
}

/// Gives what an archive holds to a sink; no entry but a blob is larger than `largest`.
///
/// # Errors
/// The archive is torn, damaged or none of ours, or the sink refuses.
pub fn read(
    from: impl Read,
    largest: u64,
    sink: &mut dyn Sink,
    progress: Progress<'_>,
) -> Result<Totals> {
    let mut archive = tar::Archive::new(from);
    let mut tables = BTreeMap::new();
    let mut so_far = Totals::default();
    let entries = archive.entries().map_err(unreadable)?;
    for entry in entries {
        let mut entry = entry.map_err(unreadable)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let size = entry.size();
        match kind(&name)? {
            Entry::Header if tables.is_empty() => {
                let header: Header = document(&mut entry, largest)?;
                sink.begin(&header)?;
                let listed = header.tables.into_iter();
                tables = listed.map(|it| (it.name.clone(), it)).collect();
            }
            Entry::Header => return Err(Error::archive("it has two headers")),
            _ if tables.is_empty() => return Err(Error::archive("it does not begin as one")),
            Entry::Blob(digest) => {
                sink.blob(digest, size, &mut entry)?;
                so_far.blobs += 1;
                so_far.blob_bytes += size;
            }
            Entry::Rows(table) => {
                let unknown = || Error::archive(format!("its header has no table `{table}`"));
                let table = tables.get(&table).ok_or_else(unknown)?;
                let rows = rows(&mut entry, largest, &name)?;
                so_far.rows += rows.len() as u64;
                sink.rows(table, rows)?;
            }
            Entry::End => {
                let totals: Totals = document(&mut entry, largest)?;
                sink.end(&totals)?;
                return Ok(totals);
            }
        }
        progress(&so_far);
    }
    Err(Error::archive("it breaks off before its end"))
}

fn kind(name: &str) -> Result<Entry> {
    let foreign = || Error::archive(format!("`{name}` does not belong in one"));
    match name {
        HEADER => return Ok(Entry::Header),
        END => return Ok(Entry::End),
        _ => {}
    }
    let path = name.strip_suffix(".zst").ok_or_else(foreign)?;
    if let Some(digest) = path.strip_prefix("blobs/") {
        let digest = blobs::named(&digest.replacen('/', "", 1)).ok_or_else(foreign)?;
        return Ok(Entry::Blob(digest));
    }
    let rows = path.strip_prefix("rows/").ok_or_else(foreign)?;
    let (table, _batch) = rows.split_once('/').ok_or_else(foreign)?;
    Ok(Entry::Rows(table.to_owned()))
}

fn document<T: DeserializeOwned>(entry: &mut dyn Read, largest: u64) -> Result<T> {
    let bytes = bounded(entry, largest, "header or end")?;
    serde_json::from_slice(&bytes).map_err(|error| Error::archive(error.to_string()))
}

fn rows(entry: &mut dyn Read, largest: u64, name: &str) -> Result<Vec<Row>> {
    let mut decoder = zstd::Decoder::new(entry).map_err(unreadable)?;
    let bytes = bounded(&mut decoder, largest, name)?;
    let (mut bytes, mut rows) = (bytes.as_slice(), Vec::new());
    while !bytes.is_empty() {
        let row = Row::decode_length_delimited(&mut bytes)
            .map_err(|error| Error::archive(format!("`{name}`: {error}")))?;
        rows.push(row);
    }
    Ok(rows)
}

fn bounded(from: &mut dyn Read, largest: u64, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(largest + 1).read_to_end(&mut bytes);
    if read.map_err(unreadable)? as u64 > largest {
        return Err(Error::archive(format!(
            "`{name}` exceeds the limit of {largest} bytes"
        )));
    }
    Ok(bytes)
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(error: std::io::Error) -> Error {
    Error::archive(error.to_string())
}
