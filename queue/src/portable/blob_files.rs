//! Blobs that are files, as they are carried: compressed, and checked on arrival.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use proto::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::{Error, Result};
use crate::blobs::{Seal, Sealing, TEMPORARY, make, path_of, place};
use crate::store::sql::codec;
use crate::store::sql::rows::{Db, values};

/// What one read takes from a file that is checked.
const BUFFER: usize = 128 * 1024;

/// Keeps blobs from being removed until the seal is dropped.
///
/// # Errors
/// The directory cannot be used.
pub fn keep(directory: &Path) -> Result<Seal> {
    let seal = Sealing::open(directory).and_then(|sealing| sealing.hold());
    seal.map_err(|source| Error::Open(crate::Error::data_dir(directory, source)))
}

/// Refuses a directory that is not the one the database knows.
///
/// # Errors
/// It is not, or it cannot be read.
pub fn must_belong(directory: &Path, db: &dyn Db) -> Result<()> {
    let place = db.prepare("SELECT id FROM blob_place");
    let known: Option<String> = place.first(values![], |row| row.get(0))?;
    let found = place::id(directory)
        .map_err(|source| Error::Open(crate::Error::data_dir(directory, source)))?;
    if known.is_none_or(|known| known == found) {
        return Ok(());
    }
    Err(Error::Open(crate::Error::BlobPlace {
        path: directory.to_owned(),
    }))
}

/// Blobs that the rows name and that are files.
///
/// # Errors
/// The database.
pub fn named(db: &dyn Db) -> Result<Vec<Digest>> {
    let query = db.prepare("SELECT digest FROM blobs WHERE content IS NULL ORDER BY digest");
    Ok(query.all(values![], |row| codec::digest(row, 0))?)
}

/// A blob's file, and its size.
///
/// # Errors
/// It is not there.
pub fn open(directory: &Path, digest: Digest) -> Result<(u64, File)> {
    let opened = File::open(path_of(directory, digest)).and_then(|file| {
        let size = file.metadata()?.len();
        Ok((size, file))
    });
    opened.map_err(|_| Error::Blob(digest))
}

/// Whether the file of a blob is there.
pub fn is_there(directory: &Path, digest: Digest) -> bool {
    path_of(directory, digest).is_file()
}

/// Takes a blob's `size` compressed bytes: durable under its name, once they are what it
/// says.
///
/// # Errors
/// They are not, or the disk.
pub fn adopt(directory: &Path, digest: Digest, size: u64, bytes: &mut dyn Read) -> Result<()> {
    let path = path_of(directory, digest);
    if is_whole(&path, digest) {
        return Ok(());
    }
    let (new, written) = New::write(&path, bytes).map_err(Error::io("write a blob file"))?;
    if written < size {
        return Err(Error::archive("it breaks off within a blob"));
    }
    if !is_whole(&new.0, digest) {
        return Err(Error::Blob(digest));
    }
    new.seal(&path).map_err(Error::io("write a blob file"))
}

/// Whether a file decompresses to the blob of this name.
fn is_whole(path: &Path, digest: Digest) -> bool {
    hashed(path).is_ok_and(|found| found == digest)
}

fn hashed(path: &Path) -> std::io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut bytes = zstd::Decoder::new(File::open(path)?)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match bytes.read(&mut buffer)? {
            0 => return Ok(Digest::from_array(hasher.finalize().into())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// A file under its temporary name, removed unless it was renamed.
struct New(PathBuf);

impl New {
    /// The file, and how many bytes came.
    fn write(path: &Path, bytes: &mut dyn Read) -> std::io::Result<(Self, u64)> {
        let parent = path.parent().unwrap_or(Path::new("."));
        make_all(parent)?;
        let new = Self(parent.join(format!("{TEMPORARY}{}", uuid::Uuid::new_v4())));
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&new.0)?;
        let written = std::io::copy(bytes, &mut file)?;
        file.sync_all()?;
        Ok((new, written))
    }

    /// File, name, directory: in this order, as of every blob.
    fn seal(self, path: &Path) -> std::io::Result<()> {
        std::fs::rename(&self.0, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // After the rename there is nothing under this name.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// The same for a directory that may have to be made.
///
/// # Errors
/// It cannot be.
pub fn make_and_keep(directory: &Path) -> Result<Seal> {
    make_all(directory).map_err(|source| Error::Open(crate::Error::data_dir(directory, source)))?;
    keep(directory)
}

/// Makes a private directory, and those above it; each is synced into its own.
fn make_all(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_all(parent)?;
    }
    make(path)?;
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
