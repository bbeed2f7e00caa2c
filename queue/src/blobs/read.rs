//! Reads one blob file, on a thread that may block.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use bytes::Bytes;
use proto::limits;
use tokio::sync::mpsc;

use super::Error;

/// Parsers read byte by byte; the decoder gives blocks of this size.
const BUFFER: usize = 128 * 1024;

/// Sends the bytes from `offset` on until the end, an error, or until nobody listens.
pub fn read(path: &Path, offset: u64, chunks: &mpsc::Sender<Result<Bytes, Error>>) {
    if let Err(source) = send_all(path, offset, chunks) {
        let _gone = chunks.blocking_send(Err(Error::io("read")(source)));
    }
}

/// The uncompressed bytes of a file.
pub fn open(path: &Path) -> std::io::Result<impl Read + use<>> {
    let bytes = zstd::Decoder::new(File::open(path)?)?;
    Ok(BufReader::with_capacity(BUFFER, bytes))
}

fn send_all(
    path: &Path,
    offset: u64,
    chunks: &mpsc::Sender<Result<Bytes, Error>>,
) -> std::io::Result<()> {
    let mut bytes = open(path)?;
    // A compressed stream has no positions: what was sent before is decoded again.
    let skipped = std::io::copy(&mut bytes.by_ref().take(offset), &mut std::io::sink())?;
    if skipped < offset {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    loop {
        let mut chunk = Vec::with_capacity(limits::BLOB_CHUNK);
        let limit = limits::BLOB_CHUNK as u64;
        if bytes.by_ref().take(limit).read_to_end(&mut chunk)? == 0 {
            return Ok(());
        }
        if chunks.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
}
