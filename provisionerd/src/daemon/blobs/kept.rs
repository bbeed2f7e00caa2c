//! Files that a worker says it keeps for the queue. A worker is not trusted with the names
//! of files.

use std::fs::File;

use proto::ids::Digest;
use proto::limits;
use proto::v1::{BlobRef, LocalCheckpoint};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use sha2::Digest as _;
use worker::job_dir::JobDir;

use super::{Error, read_chunks};

/// Opens a file that a worker says it keeps: below `keep/`, no link anywhere on the
/// way, a regular file of exactly the announced size.
///
/// # Errors
/// [`Error::NotKept`] for anything else.
pub fn open_kept(dir: &JobDir, name: &str, blob: &BlobRef) -> Result<File, Error> {
    let not_kept = || Error::NotKept {
        name: name.to_owned(),
        size: blob.size,
    };
    let name_in_keep = name.strip_prefix("keep/").unwrap_or(name);
    let keep = File::open(dir.keep())?;
    let file: File = rustix::fs::openat2(
        &keep,
        name_in_keep,
        // Not blocking: opening a FIFO would wait for its writer.
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(|_| not_kept())?
    .into();
    let metadata = file.metadata()?;
    let fits = metadata.is_file() && metadata.len() == blob.size && blob.size <= limits::BLOB;
    if fits { Ok(file) } else { Err(not_kept()) }
}

/// Whether a kept file is there and holds what was said of it. Blocks: reads all of it.
///
/// # Errors
/// [`Error::NotKept`], [`Error::Damaged`], or the disk.
pub fn check_kept(dir: &JobDir, kept: &LocalCheckpoint) -> Result<(), Error> {
    let blob = kept.checkpoint.as_ref().and_then(|it| it.blob.clone());
    let blob = blob.unwrap_or_default();
    let digest = Digest::try_from(blob.sha256.as_ref()).map_err(|_| Error::Name)?;
    let mut file = open_kept(dir, &kept.file, &blob)?;
    let mut hasher = sha2::Sha256::new();
    read_chunks(&mut file, |chunk| {
        hasher.update(&chunk);
        true
    })?;
    if Digest::from_array(hasher.finalize().into()) == digest {
        return Ok(());
    }
    Err(Error::Damaged {
        digest: digest.to_string(),
    })
}
