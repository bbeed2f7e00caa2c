//! Room for a quickstart: looked for before anything is made, so that a full disk gets one
//! clear line and no queue that cannot commit. Queues and daemons of their own start on a
//! full disk too: what waits there may still be sent.

use std::path::Path;

use proto::limits;

use crate::failure::Failure;

/// Says at once what would otherwise fail in many places.
///
/// # Errors
/// The file system of the data directory is full.
pub(super) fn check(data_dir: &Path) -> Result<(), Failure> {
    // What is not there yet will be made below what is.
    let there = data_dir.ancestors().find(|path| path.exists());
    let Some(disk) = there.and_then(|path| rustix::fs::statvfs(path).ok()) else {
        return Ok(());
    };
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    enough(data_dir, bytes(disk.f_blocks), bytes(disk.f_bavail))
}

fn enough(data_dir: &Path, size: u64, free: u64) -> Result<(), Failure> {
    let needed = limits::STATE_RESERVE;
    // One that could never hold as much is refused as that; some do not say their size.
    if size <= needed || free > needed {
        return Ok(());
    }
    let message = format!(
        "the file system of the data directory {} has {free} bytes left; \
         a job that changes the world holds back {needed}",
        data_dir.display()
    );
    Err(Failure::capacity("DISK_FULL", message)
        .hint("free some space or choose a --data-dir on another file system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_one_clear_line() {
        let of = |size, free| enough(Path::new("/data"), size, free);
        let failure = of(1 << 30, limits::STATE_RESERVE).expect_err("full");
        assert_eq!(failure.code, "DISK_FULL");
        assert!(failure.message.contains("/data has 16777216 bytes left"));
        of(1 << 30, limits::STATE_RESERVE + 1).expect("room");
        of(limits::STATE_RESERVE, 0).expect("has another refusal");
        of(0, 0).expect("does not say");
    }

    #[test]
    fn a_directory_that_is_not_there_is_on_the_disk_of_what_is() {
        check(Path::new("/tmp/not/there/yet")).expect("the tests have room");
        check(Path::new("relative")).expect("nothing is known of it");
    }
}
