//! The directory of one daemon: its lock, its identity and the directories of its jobs.
//!
//! ```text
//!   <data>/lock       held while the daemon lives; proves that an earlier one is dead
//!   <data>/instance   random id, part of the daemon's identity at the queue
//!   <data>/jobs/NAME  one per job, see `worker::job_dir`
//!   <data>/retained/  directories of jobs whose state could not be told, for a person
//! ```

mod short;

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
/// Longest path from the directory of jobs to a TMPDIR.
const BELOW_JOBS: usize = "/".len() + NAME_DIGITS + "-9".len() + "/tmp".len();

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon lives on it.
    #[error("the data directory {path} is in use by another daemon", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Its file system could not hold even what one job needs.
    #[error(
        "the file system of the data directory {path} has {size} bytes in all; \
         a job that changes the world holds back {needed}",
        path = path.display()
    )]
    TooSmall {
        /// The directory.
        path: PathBuf,
        /// Bytes of its file system, used ones included.
        size: u64,
        /// [`limits::STATE_RESERVE`].
        needed: u64,
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
    short: Option<short::Link>,
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
        large_enough(&root)?;
        let lock = lock(&root)?;
        let instance = instance(&root)?;
        let jobs = root.join("jobs");
        make(&jobs)?;
        let short = if jobs.as_os_str().len() + BELOW_JOBS > limits::TMPDIR_PATH {
            let link = short::Link::make(&jobs, &instance);
            Some(link.map_err(refused("make a short name in /tmp for", &jobs))?)
        } else {
            None
        };
        Ok(Self {
            root,
            instance,
            short,
            _lock: lock,
        })
    }

    /// The random id of this directory.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the directories of jobs are.
    #[must_use]
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// The TMPDIR of a job of ours by a name short enough for plugin sockets.
    #[must_use]
    pub fn tmpdir(&self, dir: &JobDir) -> PathBuf {
        match &self.short {
            Some(link) => link.path().join(dir.name()).join("tmp"),
            None => dir.tmp(),
        }
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

/// A disk that is full now may have room again, and what waits on it must be sent; one
/// that can never hold a job's reserve is refused before a job is lost on it.
fn large_enough(root: &Path) -> Result<(), Error> {
    let Ok(disk) = rustix::fs::statvfs(root) else {
        return Ok(());
    };
    let size = disk.f_blocks.saturating_mul(disk.f_frsize);
    // Some file systems do not say how large they are.
    if size == 0 || size > limits::STATE_RESERVE {
        return Ok(());
    }
    Err(Error::TooSmall {
        path: root.to_owned(),
        size,
        needed: limits::STATE_RESERVE,
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
    File::open(root)
        .and_then(|root| root.sync_all())
        .map_err(refused("write", &path))?;
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
    fn the_tmpdir_of_a_job_is_short_enough_for_sockets_wherever_the_directory_is() {
        let dir = tempfile::tempdir().expect("dir");
        let id = "0198c0de-0000-7000-8000-0123456789ab";
        for depth in [10, 60, 200] {
            let data = DataDir::open(&dir.path().join("d".repeat(depth))).expect("opened");
            for _ in 0..NAMESAKES {
                let job = data.create_job(id).expect("created");
                let tmp = data.tmpdir(&job);
                assert!(
                    tmp.as_os_str().len() <= limits::TMPDIR_PATH,
                    "{}",
                    tmp.display()
                );
                std::os::unix::net::UnixListener::bind(tmp.join("p".repeat(30))).expect("socket");
            }
            assert!(data.create_job(id).is_err(), "namesakes are bounded");
            assert_eq!(data.leftovers().expect("list").len(), 10);
        }
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
