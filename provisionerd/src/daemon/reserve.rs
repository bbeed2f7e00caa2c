//! Space held back before the world changes: a disk that fills up meanwhile costs neither
//! the final state nor the job's ending.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use proto::limits;
use proto::v1::BlobRef;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use worker::job_dir::JobDir;

/// How much is held back for a job that starts from `state`: its last one is about as large.
#[must_use]
pub fn size(state: Option<&BlobRef>) -> u64 {
    limits::STATE_RESERVE + state.map_or(0, |state| state.size.min(limits::STATE))
}

/// Takes the space. A file system that cannot promise space is no obstacle. Blocks.
///
/// # Errors
/// The disk is full.
pub fn take(dir: &JobDir, size: u64) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.reserve())?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => {
            give_back(dir);
            Err(error.into())
        }
    }
}

/// Gives the space back; whatever is written next may need it.
pub fn give_back(dir: &JobDir) {
    match std::fs::remove_file(dir.reserve()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(error = %error, "held back space cannot be freed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_large_state_has_room_for_its_successor() {
        let state = |size| BlobRef {
            sha256: Vec::new(),
            size,
        };
        assert_eq!(size(None), limits::STATE_RESERVE);
        let large = state(50 * limits::MIB);
        assert_eq!(size(Some(&large)), limits::STATE_RESERVE + 50 * limits::MIB);
        let absurd = size(Some(&state(u64::MAX)));
        assert_eq!(absurd, limits::STATE_RESERVE + limits::STATE);
    }

    #[test]
    fn the_space_is_really_taken_and_given_back() {
        let jobs = tempfile::tempdir().expect("dir");
        let dir = JobDir::create(jobs.path(), "a").expect("job directory");
        take(&dir, 1024 * 1024).expect("taken");
        let taken = std::fs::metadata(dir.reserve()).expect("reserve");
        assert_eq!(taken.len(), 1024 * 1024);
        assert!(taken.blocks() * 512 >= taken.len());
        give_back(&dir);
        give_back(&dir);
        assert!(!dir.reserve().exists());
        assert!(take(&dir, u64::MAX / 4).is_err());
        assert!(!dir.reserve().exists());
    }
}
