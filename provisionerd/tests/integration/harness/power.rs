//! A disk whose power can be cut: a file system in a file, seen only by the test's own
//! thread and what that thread starts. What was not synced lies in the page cache of that
//! file system and not in the file, so a copy of the file is what a power cut leaves.
//!
//! It is an ext4 without its kindness to those who forget to sync a file before they rename
//! it. Any sync commits the names of all files, so a directory that is never synced itself
//! goes unnoticed where a file is synced later.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// The kernel writes nothing back by itself before a test is over.
const OPTIONS: &str = "loop,commit=300,noauto_da_alloc";

/// A mounted disk.
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
}

/// Runs `test` with a disk of so many MiB at `directory`, its file at `image`; why it cannot
/// be made otherwise.
pub fn on_disk(
    image: &Path,
    directory: &Path,
    mib: u32,
    test: impl FnOnce(Disk) + Send,
) -> Result<(), String> {
    // A thread of its own, as for a small disk.
    std::thread::scope(|scope| {
        let ran = scope.spawn(move || {
            let disk = Disk::new(image, directory, mib)?;
            test(disk);
            Ok(())
        });
        ran.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Disk {
    fn new(image: &Path, at: &Path, mib: u32) -> Result<Self, String> {
        const NONE: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("mount namespace: {errno}"))?;
        // Else the mount would be seen by the whole host.
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
            .map_err(|errno| format!("mount namespace: {errno}"))?;
        let file = std::fs::File::create(image).map_err(|error| error.to_string())?;
        let bytes = u64::from(mib) << 20;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").arg("-q").arg(image))?;
        let disk = Self {
            image: image.to_owned(),
            at: at.to_owned(),
        };
        disk.mount(image)?;
        Ok(disk)
    }

    fn mount(&self, image: &Path) -> Result<(), String> {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", OPTIONS]).arg(image).arg(&self.at))
    }

    /// The power goes and comes back: everything that was not synced is gone. All processes
    /// that write to the disk must be dead.
    pub fn cut(&mut self) {
        let mut after = self.image.clone().into_os_string();
        after.push(".after");
        let after = PathBuf::from(after);
        std::fs::copy(&self.image, &after).expect("the disk is copied");
        umount2(&self.at, MntFlags::MNT_DETACH).expect("the disk was mounted");
        self.mount(&after).expect("the copy can be mounted");
        self.image = after;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace ends with its thread, and the mount with it.
        let _gone = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
