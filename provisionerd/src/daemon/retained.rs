//! Directories that hold the only trace of what an apply made: they are moved aside, never
//! removed, until a person has looked. What bounds them is that a daemon with
//! [`limits::RETAINED`] of them takes no more jobs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use proto::limits;
use proto::v1::FinishJobRequest;
use worker::job_dir::JobDir;

use super::context::Lease;
use super::reserve;

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

/// What becomes of a job's directory once its last word is stored. The decision to keep it
/// stands here even when no mark of it can be written.
#[derive(Debug, Default)]
pub struct Fate(AtomicBool);

impl Fate {
    fn keep(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn keeps(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Decides that the directory is kept, also by a later daemon, and lets the job's error
/// name the place.
pub fn mark(dir: &JobDir, lease: &Lease, fate: &Fate, finish: &mut FinishJobRequest) {
    let Some(path) = keep(dir, lease, fate) else {
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
pub fn keep(dir: &JobDir, lease: &Lease, fate: &Fate) -> Option<String> {
    let name = format!("{}-{}", lease.job_id, lease.attempt);
    let place = place(dir, &name)?;
    fate.keep();
    let noted = note(dir, &name).or_else(|_| {
        reserve::give_back(dir);
        note(dir, &name)
    });
    let path = place.display().to_string();
    match noted {
        Ok(()) => tracing::error!(
            path,
            "what this job left could not be told in full; its files are kept"
        ),
        Err(error) => tracing::error!(
            path,
            error = %error,
            "what this job left could not be told in full; only this daemon knows to keep its files"
        ),
    }
    Some(path)
}

/// That the mark exists is the decision. The name in it is for its place, and may be missing
/// on a full disk, which still has room for an empty file.
fn note(dir: &JobDir, name: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(dir.retain())?;
    let named = file
        .write_all(name.as_bytes())
        .and_then(|()| file.sync_all());
    if let Err(error) = named {
        tracing::warn!(error = %error, "a mark without a name");
    }
    File::open(dir.root())?.sync_all()
}

/// Moves a directory aside that is to be kept; `None` when it is not. Blocks.
///
/// # Errors
/// The file system refuses: the directory stays where it is.
pub fn take(dir: &JobDir, fate: &Fate) -> io::Result<Option<PathBuf>> {
    let name = match fs::read_to_string(dir.retain()) {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !fate.keeps() => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let own = dir.root().file_name().unwrap_or_default().to_string_lossy();
    let name = if is_name(&name) { &name } else { &*own };
    let place = place(dir, name).ok_or(io::ErrorKind::NotFound)?;
    let parent = place.parent().ok_or(io::ErrorKind::NotFound)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)?;
    fs::rename(dir.root(), &place)?;
    Ok(Some(place))
}

/// Of one directory, and not of the one that holds them all.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !text.is_empty() && text.chars().all(plain)
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

    fn job(data: &Path) -> (JobDir, Lease) {
        fs::create_dir_all(data.join("jobs")).expect("jobs");
        let dir = JobDir::create(&data.join("jobs"), "0195-job").expect("job directory");
        let lease = Lease {
            job_id: "0195-job".into(),
            lease_id: vec![1; 16],
            attempt: 2,
        };
        (dir, lease)
    }

    #[test]
    fn a_marked_directory_is_moved_aside_and_another_is_not() {
        let data = tempfile::tempdir().expect("dir");
        let (dir, lease) = job(data.path());
        assert_eq!(take(&dir, &Fate::default()).expect("taken"), None);
        keep(&dir, &lease, &Fate::default()).expect("a place");
        // A later daemon knows nothing but the mark.
        let place = take(&dir, &Fate::default()).expect("taken").expect("kept");
        assert_eq!(place, data.path().join("retained/0195-job-2"));
        assert!(place.join("keep").exists() && !dir.root().exists());
    }

    #[test]
    fn a_mark_without_a_name_or_with_another_places_keeps_the_directory_under_its_own() {
        for text in ["", "..", "../../etc", "a/b", "\0"] {
            let data = tempfile::tempdir().expect("dir");
            let (dir, _) = job(data.path());
            fs::write(dir.retain(), text).expect("mark");
            let place = take(&dir, &Fate::default()).expect("taken").expect("kept");
            assert_eq!(place, data.path().join("retained/0195-job"), "{text:?}");
        }
    }

    #[test]
    fn a_decision_that_could_not_be_written_down_still_keeps_the_directory() {
        let data = tempfile::tempdir().expect("dir");
        let (dir, lease) = job(data.path());
        // No file can be made there, as on a full disk.
        fs::create_dir(dir.retain()).expect("in the way");
        let fate = Fate::default();
        keep(&dir, &lease, &fate).expect("a place");
        fs::remove_dir(dir.retain()).expect("out of the way");
        let place = take(&dir, &fate).expect("taken").expect("kept");
        assert_eq!(place, data.path().join("retained/0195-job"));
    }

    #[test]
    fn a_directory_that_cannot_be_moved_aside_stays() {
        let data = tempfile::tempdir().expect("dir");
        let (dir, lease) = job(data.path());
        fs::write(data.path().join("retained"), "").expect("in the way");
        let fate = Fate::default();
        keep(&dir, &lease, &fate).expect("a place");
        take(&dir, &fate).expect_err("no place");
        assert!(dir.journal().parent().expect("parent").exists());
    }
}
