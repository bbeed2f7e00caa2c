//! The directory of one daemon: its lock, its identity and the directories of its jobs.
//!
//! ```text
//!   <data>/lock       held while the daemon lives; proves that an earlier one is dead
//!   <data>/instance   random id, part of the daemon's identity at the queue
//!   <data>/jobs/NAME  one per job, see `worker::job_dir`
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use proto::limits;
use rustix::fs::FlockOperation;
use worker::job_dir::{self, JobDir};

/// Digits of a job's id that name its directory: TMPDIR lies below it and must stay
/// short, which a whole UUID would not.
const NAME_DIGITS: usize = 8;
/// Attempts of one job whose directories can exist at once: each waits for its finish.
const NAMESAKES: u32 = 10;

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon lives on it.
    #[error("the data directory {path} is in use by another daemon", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Plugin sockets below it would have too long names.
    #[error(
        "the data directory {path} has {length} bytes, over the limit of {limit}: plugins \
         put unix sockets below it; choose a shorter --data-dir",
        path = path.display()
    )]
    TooLong {
        /// The directory.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// What is left of [`limits::TMPDIR_PATH`] for it.
        limit: usize,
    },
    /// The file system refused.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A data directory that is ours while this value lives.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    instance: String,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing, takes its lock and reads its identity.
    ///
    /// # Errors
    /// See [`Error`]; each is one clear line for the operator.
    pub fn open(path: &Path) -> Result<Self, Error> {
        make(path)?;
        let root = fs::canonicalize(path).map_err(refused("open", path))?;
        check_length(&root)?;
        let lock = lock(&root)?;
        let instance = instance(&root)?;
        make(&root.join("jobs"))?;
        Ok(Self {
            root,
            instance,
            _lock: lock,
        })
    }

    /// The random id of this directory.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Where the directories of jobs are.
    #[must_use]
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// A fresh directory for `job_id`.
    ///
    /// # Errors
    /// The file system refuses, or too many attempts of the job still wait here.
    pub fn create_job(&self, job_id: &str) -> Result<JobDir, job_dir::Error> {
        let jobs = self.jobs();
        let digits: String = job_id.chars().filter(char::is_ascii_hexdigit).collect();
        let name = &digits[digits.len().saturating_sub(NAME_DIGITS)..];
        let mut made = JobDir::create(&jobs, name);
        for namesake in 1..NAMESAKES {
            match made {
                Err(job_dir::Error::Io { ref source, .. })
                    if source.kind() == io::ErrorKind::AlreadyExists =>
                {
                    made = JobDir::create(&jobs, &format!("{name}-{namesake}"));
                }
                Ok(_) | Err(_) => break,
            }
        }
        made
    }

    /// What earlier daemons left here.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn leftovers(&self) -> io::Result<Vec<JobDir>> {
        let entries = fs::read_dir(self.jobs())?;
        entries
            .map(|entry| Ok(JobDir::open(entry?.path()).ok()))
            .filter_map(Result::transpose)
            .collect()
    }
}

fn make(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(refused("create", path))
}

fn check_length(root: &Path) -> Result<(), Error> {
    let below = "/jobs/".len() + NAME_DIGITS + "-9".len() + "/tmp".len();
    let limit = limits::TMPDIR_PATH - below;
    let length = root.as_os_str().len();
    if length <= limit {
        return Ok(());
    }
    Err(Error::TooLong {
        path: root.to_owned(),
        length,
        limit,
    })
}

fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(refused("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked {
            path: root.to_owned(),
        }),
        Err(errno) => Err(refused("lock", &path)(errno.into())),
    }
}

/// Reads the id, or makes one: whole or not at all, so that a crash leaves no empty one.
fn instance(root: &Path) -> Result<String, Error> {
    let path = root.join("instance");
    match fs::read_to_string(&path) {
        Ok(text) if uuid::Uuid::parse_str(text.trim()).is_ok() => return Ok(text.trim().into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused("read", &path)(error)),
    }
    let id = uuid::Uuid::new_v4().to_string();
    let fresh = root.join("instance.new");
    write_synced(&fresh, &id).map_err(refused("write", &fresh))?;
    fs::rename(&fresh, &path).map_err(refused("write", &path))?;
    Ok(id)
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn refused(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_on_the_directory_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let first = DataDir::open(dir.path()).expect("first");
        assert!(matches!(
            DataDir::open(dir.path()),
            Err(Error::Locked { .. })
        ));
        let id = first.instance().to_owned();
        drop(first);
        assert_eq!(DataDir::open(dir.path()).expect("again").instance(), id);
    }

    #[test]
    fn a_directory_too_deep_for_plugin_sockets_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("dir");
        let deep = dir.path().join("d".repeat(60));
        let refused = DataDir::open(&deep).expect_err("too long").to_string();
        assert!(refused.contains("over the limit of 50"), "{refused}");
    }

    #[test]
    fn the_longest_directory_that_is_accepted_holds_every_job() {
        let dir = tempfile::tempdir().expect("dir");
        let base = dir.path().as_os_str().len() + 1;
        let deep = dir.path().join("d".repeat(50 - base));
        let data = DataDir::open(&deep).expect("fits");
        let id = "0198c0de-0000-7000-8000-0123456789ab";
        for _ in 0..NAMESAKES {
            data.create_job(id).expect("fits as well");
        }
        assert!(data.create_job(id).is_err());
        assert_eq!(data.leftovers().expect("list").len(), 10);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_one_clear_line() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("file");
        let refused = DataDir::open(&file.join("data")).expect_err("a file");
        assert!(
            refused.to_string().starts_with("cannot create "),
            "{refused}"
        );
    }
}
