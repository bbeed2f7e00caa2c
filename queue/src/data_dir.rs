//! The queue's part of the data directory: made 0700, locked by one process, and the
//! admin token beside it.
//!
//! ```text
//! <data>/admin.token      0600, for the command line on this machine
//! <data>/queue/lock       flock, held while the queue lives
//! <data>/queue/queue.db   the store
//! <data>/queue/blobs/     see `blobs`
//! ```

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proto::secret::Secret;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::Error;

/// A locked data directory; dropping it gives the lock back.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    queue: PathBuf,
    /// Held, never read.
    _lock: File,
}

impl DataDir {
    /// Makes what is missing and takes the lock. Blocks on the disk.
    ///
    /// # Errors
    /// Not writable, no space, or locked by another process.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let queue = root.join("queue");
        for path in [root, &queue] {
            make_private(path).map_err(|source| Error::data_dir(path, source))?;
        }
        let path = queue.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::data_dir(&path, source))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Error::Locked { path: queue }),
            Err(errno) => return Err(Error::data_dir(&path, errno.into())),
        }
        Ok(Self {
            root: root.to_owned(),
            queue,
            _lock: lock,
        })
    }

    /// The database file of a directory that nobody has opened.
    #[must_use]
    pub fn database_below(root: &Path) -> PathBuf {
        root.join("queue").join("queue.db")
    }

    /// The directory of blob files of a directory that nobody has opened.
    #[must_use]
    pub fn blobs_below(root: &Path) -> PathBuf {
        root.join("queue").join("blobs")
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.queue.join("queue.db")
    }

    /// The directory of blob files.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.queue.join("blobs")
    }

    /// The admin token, `None` before the first start.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn admin_token(&self) -> Result<Option<Secret>, Error> {
        let path = self.token_path();
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Secret::from(text.trim().to_owned())).filter(not_empty)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::data_dir(&path, source)),
        }
    }

    /// Writes the admin token, whole or not at all.
    ///
    /// # Errors
    /// Not writable or no space.
    pub fn write_admin_token(&self, token: &Secret) -> Result<(), Error> {
        let path = self.token_path();
        let temporary = self.root.join("admin.token.new");
        let write = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            writeln!(file, "{}", token.expose())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().map_err(|source| Error::data_dir(&path, source))
    }

    /// Takes away an admin token that admits nobody.
    ///
    /// # Errors
    /// Not writable.
    pub fn remove_admin_token(&self) -> Result<(), Error> {
        let path = self.token_path();
        std::fs::remove_file(&path).map_err(|source| Error::data_dir(&path, source))
    }

    fn token_path(&self) -> PathBuf {
        self.root.join("admin.token")
    }
}

fn not_empty(secret: &Secret) -> bool {
    !secret.expose().is_empty()
}

/// Makes a directory that only its owner may enter; an existing one stays as it is.
fn make_private(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_queue() {
        let root = tempfile::tempdir().expect("tempdir");
        let first = DataDir::open(root.path()).expect("first");
        let second = DataDir::open(root.path()).expect_err("second");
        assert_eq!(second.code(), "DATA_DIR_IN_USE");
        drop(first);
        DataDir::open(root.path()).expect("after the first ended");
    }

    #[test]
    fn the_admin_token_is_private_and_survives() {
        let root = tempfile::tempdir().expect("tempdir");
        let dir = DataDir::open(root.path()).expect("open");
        assert_eq!(dir.admin_token().expect("none"), None);
        let token = Secret::from("pdt_x".to_owned());
        dir.write_admin_token(&token).expect("write");
        assert_eq!(dir.admin_token().expect("read"), Some(token));
        let mode = |path: &Path| path.metadata().expect("stat").permissions().mode() & 0o777;
        assert_eq!(mode(&dir.token_path()), 0o600);
        assert_eq!(mode(&root.path().join("queue")), 0o700);
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let root = tempfile::tempdir().expect("tempdir");
        std::fs::write(root.path().join("queue"), "a file").expect("write");
        let refused = DataDir::open(root.path()).expect_err("a file is no directory");
        assert_eq!(refused.code(), "DATA_DIR_NOT_WRITABLE");
        assert!(refused.to_string().contains("queue"), "{refused}");
    }
}
