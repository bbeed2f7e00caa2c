//! Files that a job may have written, and files written for it. What is read is opened
//! without following links, as a regular file, up to a size; what is written appears
//! whole, under a temporary name in the target's own directory, readable to us alone.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use proto::v1::JobError;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// A file of the job cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot {verb} {path}")]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} holds {size} bytes, the limit is {limit}")]
    TooLarge {
        path: PathBuf,
        size: u64,
        limit: u64,
    },
    #[error("{path} is no regular file")]
    NotRegular { path: PathBuf },
}

impl Error {
    pub(super) fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            verb,
            path: path.to_owned(),
            source,
        }
    }

    /// Bytes of a file could not be given back.
    pub(super) fn punch(path: &Path, source: io::Error) -> Self {
        Self::io("punch a hole into", path, source)
    }

    /// Nothing has this name.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        let cause =
            std::error::Error::source(&error).map_or_else(String::new, |e| format!(": {e}"));
        let message = format!("{error}{cause}");
        match &error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Self::capacity("DISK_FULL", message)
                    .hint("Free space in the daemon's data directory.")
            }
            Error::Io { .. } => Self::internal("WORKER_IO", message),
            Error::TooLarge { .. } => Self::capacity("FILE_TOO_LARGE", message),
            Error::NotRegular { .. } => Self::user("FILE_NOT_REGULAR", message)
                .hint("The template or its commands replaced a file that the engine needs."),
        }
    }
}

/// Opens `path`, relative to `base`, without following any link on the way.
pub(super) fn open(base: &Path, path: &str) -> Result<File, Error> {
    open_as(base, path, OFlags::RDONLY)
}

/// The same for giving bytes back to the file system.
pub(super) fn open_to_punch(base: &Path, path: &str) -> Result<File, Error> {
    open_as(base, path, OFlags::WRONLY)
}

fn open_as(base: &Path, path: &str, access: OFlags) -> Result<File, Error> {
    let full = base.join(path);
    let fail = |source: rustix::io::Errno| Error::io("open", &full, source.into());
    let directory = rustix::fs::open(
        base,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(fail)?;
    let file = openat2(
        &directory,
        path,
        access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
    .map_err(|errno| match errno {
        rustix::io::Errno::LOOP => Error::NotRegular { path: full.clone() },
        errno => fail(errno),
    })?;
    let file = File::from(file);
    let regular = file
        .metadata()
        .map_err(|source| Error::io("read", &full, source))?
        .is_file();
    if regular {
        Ok(file)
    } else {
        Err(Error::NotRegular { path: full })
    }
}

/// Reads a whole file as [`open`] opens it, refusing more than `limit` bytes.
pub(super) fn read(base: &Path, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
    let file = open(base, path)?;
    read_open(&file, &base.join(path), limit)
}

/// Reads an opened file from its start, refusing more than `limit` bytes.
pub(super) fn read_open(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let fail = |source| Error::io("read", path, source);
    let size = file.metadata().map_err(fail)?.len();
    let too_large = |size| Error::TooLarge {
        path: path.to_owned(),
        size,
        limit,
    };
    if size > limit {
        return Err(too_large(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Whether a write must outlast a crash of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Can be made again.
    Volatile,
    /// Synced before it gets its name.
    Synced,
}

/// Writes `bytes` to `path` so that nobody sees a part of them; mode 0600.
/// A write that fails leaves nothing behind: half a file would fill a full disk further.
pub(super) fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), Error> {
    let temporary = temporary_name(path);
    replace(path, &temporary, bytes, durability).map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, source)
    })
}

fn replace(path: &Path, temporary: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let _ = fs::remove_file(temporary);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(bytes)?;
    if durability == Durability::Synced {
        file.sync_data()?;
    }
    fs::rename(temporary, path)?;
    match durability {
        Durability::Volatile => Ok(()),
        Durability::Synced => sync_directory(path),
    }
}

/// A name is as durable as its directory: without this a crash of the host may bring
/// back the file that was there before, or none.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file or link; one that is not there is as good as removed.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// Frees what a file below `out/` takes; the jail lets us write there, not remove.
pub(super) fn empty(path: &Path) -> Result<(), Error> {
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(0))
        .map_err(|source| Error::io("empty", path, source))
}

/// In the target's own directory: Landlock without REFER refuses to rename across two.
fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_planted_by_a_template_is_not_followed() {
        let dir = tempfile::tempdir().expect("dir");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("state")).expect("link");
        let refused = read(dir.path(), "state", 1024).expect_err("link");
        assert!(matches!(refused, Error::NotRegular { .. }), "{refused:?}");
        std::os::unix::fs::symlink("/etc", dir.path().join("d")).expect("link");
        assert!(read(dir.path(), "d/passwd", 1 << 20).is_err());
    }

    #[test]
    fn a_pipe_planted_by_a_template_does_not_block() {
        let dir = tempfile::tempdir().expect("dir");
        let pipe = dir.path().join("state");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        assert!(matches!(
            read(dir.path(), "state", 1024),
            Err(Error::NotRegular { .. })
        ));
    }

    #[test]
    fn a_file_over_the_limit_is_refused_with_both_sizes() {
        let dir = tempfile::tempdir().expect("dir");
        fs::write(dir.path().join("big"), [0; 11]).expect("write");
        let refused = read(dir.path(), "big", 10).expect_err("too large");
        assert!(refused.to_string().contains("11 bytes, the limit is 10"));
    }

    #[test]
    fn a_written_file_is_ours_alone_and_replaces_a_link() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("vars.json");
        std::os::unix::fs::symlink("/dev/null", &path).expect("link");
        write(&path, b"{}", Durability::Volatile).expect("written");
        let meta = fs::symlink_metadata(&path).expect("meta");
        assert!(meta.is_file());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_write_that_fails_leaves_no_half_file() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("state");
        fs::create_dir_all(path.join("in the way")).expect("directory");
        for durability in [Durability::Volatile, Durability::Synced] {
            write(&path, b"{}", durability).expect_err("a directory is in the way");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_missing_file_is_told_apart() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(read(dir.path(), "no", 1).expect_err("missing").is_missing());
    }
}
