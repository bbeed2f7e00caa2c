//! Reads one blob file, chunk by chunk: each on a thread that may block, which is given
//! back while the peer takes the chunk.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proto::limits;
use tokio::sync::mpsc;

use super::Error;
use super::places::Places;

/// Parsers read byte by byte; the decoder gives blocks of this size.
const BUFFER: usize = 128 * 1024;

/// The uncompressed bytes of a file.
pub fn open(path: &Path) -> std::io::Result<impl Read + Send + use<>> {
    let bytes = zstd::Decoder::new(File::open(path)?)?;
    Ok(BufReader::with_capacity(BUFFER, bytes))
}

/// Sends the bytes from `offset` on until the end, an error, or until nobody listens.
pub async fn send_all(
    places: &Places,
    path: PathBuf,
    offset: u64,
    chunks: &mpsc::Sender<Result<Bytes, Error>>,
) {
    let opening = places.on_disk(move || skipped(&path, offset).map_err(Error::io("read")));
    let mut bytes = match opening.await {
        Ok(bytes) => bytes,
        Err(error) => {
            let _gone = chunks.send(Err(error)).await;
            return;
        }
    };
    loop {
        let reading = places.on_disk(move || {
            let chunk = chunk(&mut bytes).map_err(Error::io("read"))?;
            Ok((bytes, chunk))
        });
        let sent = match reading.await {
            Ok((_, chunk)) if chunk.is_empty() => return,
            Ok((rest, chunk)) => {
                bytes = rest;
                chunks.send(Ok(chunk)).await
            }
            Err(error) => {
                let _gone = chunks.send(Err(error)).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A compressed stream has no positions: what was sent before is decoded again.
fn skipped(path: &Path, offset: u64) -> std::io::Result<impl Read + Send + use<>> {
    let mut bytes = open(path)?;
    let skipped = std::io::copy(&mut bytes.by_ref().take(offset), &mut std::io::sink())?;
    if skipped < offset {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// At most `most` bytes from `offset` on.
pub fn part(path: &Path, offset: u64, most: usize) -> std::io::Result<Bytes> {
    let mut part = Vec::new();
    skipped(path, offset)?
        .take(most as u64)
        .read_to_end(&mut part)?;
    Ok(part.into())
}

/// The next bytes; none at the end.
fn chunk(bytes: &mut impl Read) -> std::io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(limits::BLOB_CHUNK);
    let limit = limits::BLOB_CHUNK as u64;
    bytes.take(limit).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}
