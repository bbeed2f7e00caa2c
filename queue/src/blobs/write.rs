//! Writes one blob, on a thread that may block.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use proto::ids::Digest;
use proto::limits;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::sweep::is_older;
use super::{Error, TEMPORARY, Used, path_of};
use crate::store::model::BlobId;

/// States and archives are compressed once and read a few times: the fast end.
const ZSTD_LEVEL: i32 = 1;

/// Where the bytes are now.
#[derive(Debug)]
pub enum Written {
    /// Small enough for a row.
    Small(Vec<u8>),
    /// Durable in their file.
    File,
}

/// A put that has not written for this long belongs to a process that died.
const ABANDONED: Duration = Duration::from_hours(24);

/// Makes the directory and removes temporary files of a process that died.
pub fn prepare(directory: &Path, used: Used) -> std::io::Result<()> {
    make(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(entry.path())? {
            let file = file?;
            if !file.file_name().to_string_lossy().starts_with(TEMPORARY) {
                continue;
            }
            let dead = match used {
                Used::Alone => true,
                Used::ByReplicas => is_older(&file.path(), ABANDONED)?,
            };
            if dead {
                std::fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

/// Receives all chunks of `id`, checks them and makes them durable.
pub fn write(
    directory: &Path,
    id: BlobId,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<Written, Error> {
    let mut hasher = Sha256::new();
    let mut received = 0_u64;
    let mut target = Target::new(directory, id)?;
    while let Some(chunk) = chunks.blocking_recv() {
        received += chunk.len() as u64;
        if received > id.size {
            return Err(Error::Mismatch {
                what: format!("more than the announced {} bytes", id.size),
            });
        }
        hasher.update(&chunk);
        target.write(&chunk).map_err(Error::io("write"))?;
    }
    if received < id.size {
        return Err(Error::BrokenOff {
            received,
            size: id.size,
        });
    }
    let found = Digest::from_array(hasher.finalize().into());
    if found != id.digest {
        return Err(Error::Mismatch {
            what: format!("announced sha256 {}, found {found}", id.digest),
        });
    }
    target.seal().map_err(Error::io("write"))
}

enum Target {
    Small(Vec<u8>),
    File(Box<Compressed>),
}

/// A file under its temporary name, removed unless it was renamed.
struct Compressed {
    encoder: Option<zstd::Encoder<'static, File>>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Target {
    fn new(directory: &Path, id: BlobId) -> Result<Self, Error> {
        if id.size <= limits::BLOB_INLINE as u64 {
            return Ok(Self::Small(Vec::new()));
        }
        let file = Compressed::create(directory, id).map_err(Error::io("write"))?;
        Ok(Self::File(Box::new(file)))
    }

    fn write(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Small(bytes) => {
                bytes.extend_from_slice(chunk);
                Ok(())
            }
            Self::File(file) => match &mut file.encoder {
                Some(encoder) => encoder.write_all(chunk),
                None => Err(ErrorKind::BrokenPipe.into()),
            },
        }
    }

    fn seal(self) -> std::io::Result<Written> {
        match self {
            Self::Small(bytes) => Ok(Written::Small(bytes)),
            Self::File(mut file) => {
                file.seal()?;
                Ok(Written::File)
            }
        }
    }
}

impl Compressed {
    fn create(directory: &Path, id: BlobId) -> std::io::Result<Self> {
        let path = path_of(directory, id.digest);
        let parent = path.parent().unwrap_or(directory);
        if make(parent)? {
            File::open(directory)?.sync_all()?;
        }
        let temporary = parent.join(format!("{TEMPORARY}{}", uuid::Uuid::new_v4()));
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        let encoder = Some(zstd::Encoder::new(file, ZSTD_LEVEL)?);
        Ok(Self {
            encoder,
            temporary,
            path,
        })
    }

    /// File, name, directory: in this order, so that a row never names what a power
    /// cut may take away.
    fn seal(&mut self) -> std::io::Result<()> {
        if let Some(encoder) = self.encoder.take() {
            encoder.finish()?.sync_all()?;
        }
        std::fs::rename(&self.temporary, &self.path)?;
        let parent = self.path.parent().unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }
}

impl Drop for Compressed {
    fn drop(&mut self) {
        // After the rename there is nothing under this name; before it, the put failed.
        let _gone = std::fs::remove_file(&self.temporary);
    }
}

/// Makes a private directory; `true` when it is new.
pub fn make(path: &Path) -> std::io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
