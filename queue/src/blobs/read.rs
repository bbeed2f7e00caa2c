//! Reads one blob file, on a thread that may block.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use bytes::Bytes;
use proto::limits;
use tokio::sync::mpsc;

use super::Error;

/// Sends the bytes from `offset` on until the end, an error, or until nobody listens.
pub fn read(path: &Path, offset: u64, chunks: &mpsc::Sender<Result<Bytes, Error>>) {
    if let Err(source) = send_all(path, offset, chunks) {
        let _gone = chunks.blocking_send(Err(Error::io("read")(source)));
    }
}

fn send_all(
    path: &Path,
    offset: u64,
    chunks: &mpsc::Sender<Result<Bytes, Error>>,
) -> std::io::Result<()> {
    let mut bytes = zstd::Decoder::new(File::open(path)?)?;
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
