//! Directories that hold the only trace of what an apply made: they are moved aside, never
//! removed, until a person has looked.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use proto::v1::FinishJobRequest;
use worker::job_dir::JobDir;

use super::context::Lease;

/// Where the directory will be, `None` when it lies outside of a data directory.
fn place(dir: &JobDir, name: &str) -> Option<PathBuf> {
    let data = dir.root().parent()?.parent()?;
    Some(data.join("retained").join(name))
}

/// Decides that the directory is kept, also by a later daemon, and lets the job's error
/// name the place.
pub fn mark(dir: &JobDir, lease: &Lease, finish: &mut FinishJobRequest) {
    let Some(path) = keep(dir, lease) else {
        return;
    };
    if let Some(error) = &mut finish.error {
        let at = format!("the job's files are kept on the daemon's host in {path}");
        error.hint = match error.hint.is_empty() {
            true => at,
            false => format!("{}; {at}", error.hint),
        };
    }
}

/// Decides that the directory is kept; where it will be.
pub fn keep(dir: &JobDir, lease: &Lease) -> Option<String> {
    let name = format!("{}-{}", lease.job_id, lease.attempt);
    let place = place(dir, &name)?;
    let marked = fs::write(dir.retain(), &name).and_then(|()| File::open(dir.root())?.sync_all());
    let path = place.display().to_string();
    match marked {
        Ok(()) => tracing::error!(
            path,
            "what this job left could not be told in full; its files are kept"
        ),
        Err(error) => tracing::error!(path, error = %error, "a job's files cannot be kept"),
    }
    Some(path)
}

/// Moves a marked directory aside; whether it was marked. Blocks.
///
/// # Errors
/// The file system refuses: the directory stays where it is.
pub fn take(dir: &JobDir) -> io::Result<Option<PathBuf>> {
    let name = match fs::read_to_string(dir.retain()) {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let place = place(dir, &name).ok_or(io::ErrorKind::NotFound)?;
    let parent = place.parent().ok_or(io::ErrorKind::NotFound)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)?;
    fs::rename(dir.root(), &place)?;
    Ok(Some(place))
}
