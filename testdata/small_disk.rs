//! A file system of a few mebibytes that only one test sees: a tmpfs in a mount namespace
//! of the test's own thread and of what that thread starts. It goes when they do. Sources
//! include this file by its path.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs `test` where `directory` is a file system of so many MiB; why it cannot be made
/// otherwise.
pub fn on_small_disk(directory: &Path, mib: u32, test: impl FnOnce() + Send) -> Result<(), String> {
    // A thread of its own: whoever runs after this test on the same thread keeps the
    // namespace it had.
    std::thread::scope(|scope| {
        let ran = scope.spawn(move || {
            mounted(directory, mib)
                .map_err(|errno| format!("a tmpfs cannot be mounted: {errno}"))?;
            test();
            Ok(())
        });
        ran.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn mounted(directory: &Path, mib: u32) -> nix::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Else the mount would be seen by the whole host.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let size = format!("size={mib}m");
    let options = Some(size.as_str());
    mount(
        Some("tmpfs"),
        directory,
        Some("tmpfs"),
        MsFlags::empty(),
        options,
    )
}
