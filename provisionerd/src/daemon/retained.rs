//! Directories that hold the only trace of what an apply made: they are moved aside, never
//! removed, until a person has looked. What bounds them is that a daemon with
//! [`limits::RETAINED`] of them takes no more jobs.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use proto::limits;
use proto::v1::FinishJobRequest;
use worker::job_dir::JobDir;

use super::context::Lease;

/// A job's directory that waits for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The directory.
    pub path: PathBuf,
    /// For what.
    pub waits: Waits,
}

/// What a directory waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Its finish was not taken by the queue, or its job runs: the daemon sees to it, at its
    /// next start at the latest.
    ForQueue,
    /// It could not be told in full: a person looks into it and removes it.
    ForPerson,
}

/// All directories of jobs in the data directory of a daemon, by path. The daemon may live.
///
/// # Errors
/// A directory cannot be read.
pub fn list(data: &Path) -> io::Result<Vec<Kept>> {
    let mut all = Vec::new();
    for (name, waits) in [("jobs", Waits::ForQueue), ("retained", Waits::ForPerson)] {
        let entries = match fs::read_dir(data.join(name)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            all.push(Kept { path, waits });
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// Says at a daemon's start what waits; whether the daemon may take jobs.
///
/// # Errors
/// [`Full`], with the place to look at.
pub fn survey(data: &Path) -> Result<(), Full> {
    let all = list(data).unwrap_or_else(|error| {
        tracing::error!(error = %error, "directories of earlier jobs cannot be listed");
        Vec::new()
    });
    let count = |waits| all.iter().filter(|kept| kept.waits == waits).count();
    let (queue, person) = (count(Waits::ForQueue), count(Waits::ForPerson));
    if queue > 0 {
        tracing::warn!(
            jobs.unsent = queue,
            "jobs of an earlier daemon are seen to first"
        );
    }
    for kept in all.iter().filter(|kept| kept.waits == Waits::ForPerson) {
        tracing::error!(path = %kept.path.display(), "a job's files wait for a person to look at");
    }
    full(data, person)
}

fn full(data: &Path, count: usize) -> Result<(), Full> {
    if count < limits::RETAINED {
        return Ok(());
    }
    Err(Full {
        path: data.join("retained"),
        count,
        limit: limits::RETAINED,
    })
}

/// Too much waits for a person. A host that fills this up loses track of what it makes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{path} holds {count} directories of jobs whose states could not be told, the limit is \
     {limit}: look into them and remove them",
    path = path.display()
)]
pub struct Full {
    /// The place.
    pub path: PathBuf,
    /// How many there are.
    pub count: usize,
    /// [`limits::RETAINED`].
    pub limit: usize,
}

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

/// Whether the daemon of `dir` may take another job.
///
/// # Errors
/// [`Full`].
pub fn room(data: &Path) -> Result<(), Full> {
    let kept = list(data).unwrap_or_default();
    let person = kept.iter().filter(|it| it.waits == Waits::ForPerson);
    full(data, person.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_listed_and_too_much_of_it_stops_a_daemon() {
        let data = tempfile::tempdir().expect("dir");
        assert_eq!(list(data.path()).expect("list"), []);
        fs::create_dir_all(data.path().join("jobs/abc")).expect("job");
        for n in 1..limits::RETAINED {
            fs::create_dir_all(data.path().join(format!("retained/job-{n}"))).expect("kept");
        }
        let all = list(data.path()).expect("list");
        assert_eq!(all.len(), limits::RETAINED);
        assert_eq!(all[0].waits, Waits::ForQueue);
        assert_eq!(survey(data.path()), Ok(()));
        fs::create_dir_all(data.path().join("retained/last")).expect("kept");
        let full = survey(data.path()).expect_err("full");
        assert_eq!(room(data.path()).as_ref(), Err(&full));
        let told = full.to_string();
        assert!(told.contains("holds 100 directories"), "{told}");
        assert!(told.contains("the limit is 100"), "{told}");
    }
}
