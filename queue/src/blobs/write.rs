//! Writes one blob file; each step blocks.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::sweep::is_older;
use super::{Error, TEMPORARY, Used, path_of};
use crate::store::model::BlobId;

/// States and archives are compressed once and read a few times: the fast end.
const ZSTD_LEVEL: i32 = 1;

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

/// A blob that comes in, and what is known of its bytes so far.
pub struct Incoming {
    id: BlobId,
    hasher: Sha256,
    received: u64,
    file: Compressed,
}

impl Incoming {
    /// Makes its file.
    pub fn create(directory: &Path, id: BlobId) -> Result<Self, Error> {
        Ok(Self {
            id,
            hasher: Sha256::new(),
            received: 0,
            file: Compressed::create(directory, id).map_err(Error::io("write"))?,
        })
    }

    /// Takes the next bytes.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.received += chunk.len() as u64;
        fits(self.id, self.received)?;
        self.hasher.update(chunk);
        self.file.write(chunk).map_err(Error::io("write"))
    }

    /// Checks what came, makes it durable and gives it its name.
    pub fn seal(mut self) -> Result<(), Error> {
        let found = Digest::from_array(self.hasher.finalize().into());
        check(self.id, self.received, found)?;
        self.file.seal().map_err(Error::io("write"))
    }
}

/// # Errors
/// More than was announced.
pub fn fits(id: BlobId, received: u64) -> Result<(), Error> {
    if received > id.size {
        return Err(Error::Mismatch {
            what: format!("more than the announced {} bytes", id.size),
        });
    }
    Ok(())
}

/// # Errors
/// Less than was announced, or something else.
pub fn check(id: BlobId, received: u64, found: Digest) -> Result<(), Error> {
    if received < id.size {
        return Err(Error::BrokenOff {
            received,
            size: id.size,
        });
    }
    if found != id.digest {
        return Err(Error::Mismatch {
            what: format!("announced sha256 {}, found {found}", id.digest),
        });
    }
    Ok(())
}

/// A file under its temporary name, removed unless it was renamed.
struct Compressed {
    encoder: Option<zstd::Encoder<'static, File>>,
    temporary: PathBuf,
    path: PathBuf,
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

    fn write(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        match &mut self.encoder {
            Some(encoder) => encoder.write_all(chunk),
            None => Err(ErrorKind::BrokenPipe.into()),
        }
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
