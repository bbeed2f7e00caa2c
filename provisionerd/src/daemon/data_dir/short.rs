//! A short name for the directories of jobs.
//!
//! Plugins put unix sockets into TMPDIR, and the name of a socket holds 108 bytes
//! (unix(7)), of which they need about 40. A data directory below a home is often longer
//! than what is left, so engines see their TMPDIR through a symbolic link in `/tmp` then.
//! The link is named by the daemon's random instance id and belongs to its user; sticky
//! `/tmp` keeps others from replacing it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

/// Digits of the instance id in the link's name.
const DIGITS: usize = 8;

/// The link, removed when the daemon ends; one that a crash left is used again.
#[derive(Debug)]
pub(super) struct Link(PathBuf);

impl Link {
    /// Makes `/tmp/pd-INSTANCE` point to `jobs`.
    pub(super) fn make(jobs: &Path, instance: &str) -> io::Result<Self> {
        let digits: String = instance.chars().take(DIGITS).collect();
        Self::at(PathBuf::from(format!("/tmp/pd-{digits}")), jobs)
    }

    fn at(path: PathBuf, jobs: &Path) -> io::Result<Self> {
        match symlink(jobs, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| Self(path)),
        }
        let ours = fs::symlink_metadata(&path)?.uid() == rustix::process::geteuid().as_raw();
        if ours && fs::read_link(&path).is_ok_and(|target| target == jobs) {
            return Ok(Self(path));
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The link itself.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // One that stays is harmless and used again by the next daemon on this directory.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_a_crash_left_is_used_again_and_a_foreign_one_is_not() {
        let dir = tempfile::tempdir().expect("dir");
        let (path, jobs) = (dir.path().join("pd"), dir.path().join("jobs"));
        std::mem::forget(Link::at(path.clone(), &jobs).expect("made"));
        let again = Link::at(path.clone(), &jobs).expect("used again");
        assert!(Link::at(path.clone(), Path::new("/elsewhere")).is_err());
        drop(again);
        assert!(fs::symlink_metadata(&path).is_err(), "removed");
    }
}
