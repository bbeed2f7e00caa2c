//! Whether the disk of a job takes any more. An engine on a full disk fails with whatever
//! it was doing, often without a word, since its words had to go to that disk as well.

use std::path::Path;

use proto::limits;
use proto::v1::JobError;
use rustix::fs::StatVfs;

/// The error of an engine that failed, told as the full disk it met, if it met one.
pub(super) fn blame(work: &Path, error: JobError) -> JobError {
    let Some(free) = too_little(work) else {
        return error;
    };
    let message = format!(
        "the disk of the daemon's host is full ({free} bytes free): {}",
        error.message
    );
    JobError::capacity("DISK_FULL", message).hint(
        "Give the daemon's data directory more room, or the template less to write, and build \
         again: what was saved is in the workspace's state, what was not is named.",
    )
}

/// The free bytes where they, or the names for files, have run out. What cannot be asked
/// is not full.
fn too_little(dir: &Path) -> Option<u64> {
    full(&rustix::fs::statvfs(dir).ok()?)
}

fn full(disk: &StatVfs) -> Option<u64> {
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let names_are_counted = disk.f_files > 0;
    let full = free < limits::DISK_ROOM || (names_are_counted && disk.f_favail == 0);
    full.then_some(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_without_blocks_and_without_names() {
        let mut disk = rustix::fs::statvfs("/").expect("a file system");
        (disk.f_frsize, disk.f_files, disk.f_favail) = (1, 10, 5);
        disk.f_bavail = limits::DISK_ROOM;
        assert_eq!(full(&disk), None);
        disk.f_bavail = limits::DISK_ROOM - 1;
        assert_eq!(full(&disk), Some(limits::DISK_ROOM - 1));
        disk.f_bavail = limits::DISK_ROOM;
        disk.f_favail = 0;
        assert_eq!(full(&disk), Some(limits::DISK_ROOM));
        // A file system that does not count names has none left over, and room for all.
        disk.f_files = 0;
        assert_eq!(full(&disk), None);
    }

    #[test]
    fn a_disk_with_room_is_not_blamed() {
        let dir = tempfile::tempdir().expect("dir");
        let error = JobError::provider("APPLY_FAILED", "no");
        assert_eq!(blame(dir.path(), error.clone()), error);
        assert_eq!(blame(Path::new("/no/such/dir"), error.clone()), error);
    }
}
