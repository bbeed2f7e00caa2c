//! The directory of one job: every path below it has a name here and nowhere else.
//!
//! ```text
//!   journal exits supervisor.lock reserve retain
//!   processes.log                                           no jail sees these
//!   keep/        archive, state, checkpoints, lines: worker rw, engine none
//!   out/         engine output, opened by the supervisor: worker rw, engine by fd only
//!   work/ home/ tmp/                                        worker and engine rw
//! ```
//!
//! What lies in `work/`, `home/` and `tmp/` was made by a template: it is removed without
//! following links and whatever its modes are.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proto::v1::Process;

/// The job directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Relative paths change meaning with the directory of each process.
    #[error("the job directory {path} is no absolute path")]
    Relative {
        /// The path that was given.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The paths of one job. Cheap to clone; nothing is removed on drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDir {
    root: PathBuf,
}

impl JobDir {
    /// Makes `<jobs>/<name>` and its directories, each 0700. The job directory itself
    /// may not exist yet.
    ///
    /// # Errors
    /// The path is relative, or the file system refuses.
    pub fn create(jobs: &Path, name: &str) -> Result<Self, Error> {
        let dir = Self::at(jobs.join(name))?;
        for path in [
            dir.root.clone(),
            dir.keep(),
            dir.out(),
            dir.work(),
            dir.home(),
            dir.tmp(),
        ] {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(|source| refused("create", &path, source))?;
        }
        Ok(dir)
    }

    /// The directory of a job that exists.
    ///
    /// # Errors
    /// The path is relative or is no directory.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = Self::at(root.into())?;
        let metadata =
            fs::symlink_metadata(&dir.root).map_err(|source| refused("open", &dir.root, source))?;
        if metadata.is_dir() {
            Ok(dir)
        } else {
            Err(refused(
                "open",
                &dir.root,
                io::ErrorKind::NotADirectory.into(),
            ))
        }
    }

    fn at(root: PathBuf) -> Result<Self, Error> {
        if !root.is_absolute() {
            return Err(Error::Relative { path: root });
        }
        Ok(Self { root })
    }

    /// The job directory itself: working directory of supervisor and worker.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The last word of its path: the job's name on this host.
    #[must_use]
    pub fn name(&self) -> &str {
        self.root
            .file_name()
            .and_then(std::ffi::OsStr::to_str)
            .unwrap_or_default()
    }

    /// Blobs and checkpoints; no engine sees it.
    #[must_use]
    pub fn keep(&self) -> PathBuf {
        self.root.join("keep")
    }

    /// The fetched template archive, below `keep/`.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.keep().join("archive")
    }

    /// The fetched state a build starts from, below `keep/`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.keep().join("state")
    }

    /// How the log's lines come out of the output files, below `keep/`.
    #[must_use]
    pub fn lines(&self) -> PathBuf {
        self.keep().join("lines")
    }

    /// Engine output.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.root.join("out")
    }

    /// What process `number` prints, below `out/`.
    #[must_use]
    pub fn stdout(&self, number: u32, process: Process) -> PathBuf {
        self.out().join(output_name(number, process, "stdout"))
    }

    /// What process `number` complains about, below `out/`.
    #[must_use]
    pub fn stderr(&self, number: u32, process: Process) -> PathBuf {
        self.out().join(output_name(number, process, "stderr"))
    }

    /// The unpacked template; working directory of engines.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// HOME of engines and of the worker.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// TMPDIR of engines and of the worker; the daemon gives engines a shorter name for it
    /// where plugin sockets need one.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// All the daemon must not lose of the job.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Starts and exits, written by the supervisor.
    #[must_use]
    pub fn exits(&self) -> PathBuf {
        self.root.join("exits")
    }

    /// Locked while a supervisor of this job lives.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.root.join("supervisor.lock")
    }

    /// Space held back so that a full disk cannot cost a state.
    #[must_use]
    pub fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// Names the place where the directory is kept for a person to look at, instead of being
    /// removed.
    #[must_use]
    pub fn retain(&self) -> PathBuf {
        self.root.join("retain")
    }

    /// Standard output and error of supervisor and worker.
    #[must_use]
    pub fn processes_log(&self) -> PathBuf {
        self.root.join("processes.log")
    }

    /// Removes everything, also below directories a template made read-only. Links are
    /// removed, never followed. A directory that is gone already is no error.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.root) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => unlock_dirs(&self.root)?,
        }
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(refused("remove", &self.root, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The word for `process` in file names and records.
#[must_use]
pub fn process_name(process: Process) -> &'static str {
    match process {
        Process::Unspecified => "unspecified",
        Process::Version => "version",
        Process::Init => "init",
        Process::Plan => "plan",
        Process::Show => "show",
        Process::Apply => "apply",
    }
}

fn output_name(number: u32, process: Process, stream: &str) -> String {
    format!("{number}-{}.{stream}", process_name(process))
}

/// Makes every directory below `root` writable for its owner: entries of a read-only
/// directory cannot be removed otherwise. A loop, not a recursion: a template can nest
/// directories deeper than a stack.
fn unlock_dirs(root: &Path) -> Result<(), Error> {
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
            .map_err(|source| refused("unlock", &dir, source))?;
        let entries = fs::read_dir(&dir).map_err(|source| refused("read", &dir, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| refused("read", &dir, source))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            }
        }
    }
    Ok(())
}

fn refused(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_job_directory_is_private_and_whole() {
        let jobs = tempfile::tempdir().expect("tempdir");
        let dir = JobDir::create(jobs.path(), "a").expect("create");
        for path in [dir.keep(), dir.out(), dir.work(), dir.home(), dir.tmp()] {
            let mode = fs::metadata(&path).expect("made").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
        assert_eq!(JobDir::open(dir.root()).expect("open"), dir);
        assert!(JobDir::create(jobs.path(), "a").is_err(), "made twice");
        assert!(JobDir::open(jobs.path().join("b")).is_err(), "not there");
    }

    #[test]
    fn a_relative_job_directory_is_refused() {
        assert!(JobDir::open("relative").is_err());
    }

    #[test]
    fn removing_takes_read_only_trees_and_leaves_what_links_point_to() {
        let jobs = tempfile::tempdir().expect("tempdir");
        let outside = jobs.path().join("outside");
        fs::create_dir(&outside).expect("outside");
        fs::write(outside.join("file"), "stays").expect("file");
        let dir = JobDir::create(jobs.path(), "a").expect("create");
        let deep = dir.work().join("one/two");
        fs::create_dir_all(&deep).expect("deep");
        fs::write(deep.join("file"), "goes").expect("file");
        std::os::unix::fs::symlink(&outside, deep.join("link")).expect("link");
        for path in [deep.as_path(), deep.parent().expect("parent")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o500)).expect("mode");
        }
        unlock_dirs(dir.root()).expect("unlock");
        dir.remove().expect("remove");
        dir.remove().expect("remove twice");
        assert!(!dir.root().exists());
        assert_eq!(
            fs::read_to_string(outside.join("file")).expect("file"),
            "stays"
        );
    }
}
