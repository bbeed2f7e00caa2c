//! The directory that is written. Every path is opened beneath one descriptor by
//! openat2(2), which refuses links and anything that leads out, whatever the names say.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use proto::limits::CONFIGURATION_FILE;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};

use super::Error;
use super::name::{Name, shown};
use super::steering;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    File,
    /// An entry of its own.
    Directory,
    /// Made because something below it came first; its own entry may follow.
    Parent,
}

/// A directory being filled.
pub(super) struct Tree {
    root: OwnedFd,
    known: HashMap<String, Stands>,
    limit: u64,
}

impl Tree {
    /// Opens an existing empty directory; `limit` is on files and directories.
    pub(super) fn open(path: &Path, limit: u64) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| write_error(&path.to_string_lossy(), errno))?;
        Ok(Self {
            root,
            known: HashMap::new(),
            limit,
        })
    }

    /// Makes a directory and its parents.
    pub(super) fn directory(&mut self, name: &Name) -> Result<(), Error> {
        if name.is_root() {
            return self.know(name, Stands::Directory).map(drop);
        }
        self.parents(name)?;
        if self.know(name, Stands::Directory)? {
            self.make(name.as_str())?;
        }
        Ok(())
    }

    /// Creates a file, readable by nobody else; it keeps only whether it is executable.
    pub(super) fn file(&mut self, name: &Name, mode: u32) -> Result<File, Error> {
        if name.is_root() {
            return Err(Error::NameInvalid {
                name: name.shown(),
                reason: "a file needs a name".to_owned(),
            });
        }
        self.parents(name)?;
        self.know(name, Stands::File)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = if mode & 0o111 == 0 { 0o600 } else { 0o700 };
        openat2(
            &self.root,
            name.as_str(),
            flags,
            Mode::from_raw_mode(mode),
            BENEATH,
        )
        .map(File::from)
        .map_err(|errno| write_error(name.as_str(), errno))
    }

    /// Refuses configuration files of the root module that would steer the engine.
    pub(super) fn check_configuration(&self) -> Result<(), Error> {
        let mut names: Vec<&str> = self
            .known
            .iter()
            .filter(|(name, stands)| **stands == Stands::File && steering::is_configuration(name))
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_unstable();
        for name in names {
            let content = self.read(name)?;
            if let Some(reason) = steering::by_content(name, &content) {
                return Err(Error::Steering {
                    name: shown(name.as_bytes()),
                    reason,
                });
            }
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat2(&self.root, name, flags, Mode::empty(), BENEATH)
            .map(File::from)
            .map_err(|errno| write_error(name, errno))?;
        let mut content = Vec::new();
        file.take(CONFIGURATION_FILE + 1)
            .read_to_end(&mut content)
            .map_err(|source| Error::Write {
                name: shown(name.as_bytes()),
                source,
            })?;
        if content.len() as u64 > CONFIGURATION_FILE {
            return Err(Error::ConfigurationTooLarge {
                name: shown(name.as_bytes()),
                limit: CONFIGURATION_FILE,
            });
        }
        Ok(content)
    }

    fn parents(&mut self, name: &Name) -> Result<(), Error> {
        let path = name.as_str();
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            match self.known.get(parent) {
                Some(Stands::Directory | Stands::Parent) => {}
                Some(Stands::File) => {
                    return Err(Error::FileAndDirectory {
                        name: shown(parent.as_bytes()),
                    });
                }
                None => {
                    self.count()?;
                    self.make(parent)?;
                    self.known.insert(parent.to_owned(), Stands::Parent);
                }
            }
        }
        Ok(())
    }

    /// Notes what stands at `name`; false when the directory was made before.
    fn know(&mut self, name: &Name, stands: Stands) -> Result<bool, Error> {
        self.count()?;
        match self.known.entry(name.as_str().to_owned()) {
            Entry::Vacant(vacant) => {
                vacant.insert(stands);
                Ok(true)
            }
            Entry::Occupied(mut occupied) => match (*occupied.get(), stands) {
                (Stands::Parent, Stands::Directory) => {
                    occupied.insert(Stands::Directory);
                    Ok(false)
                }
                (Stands::File, Stands::File) | (Stands::Directory, Stands::Directory) => {
                    Err(Error::Duplicate { name: name.shown() })
                }
                (Stands::File | Stands::Directory | Stands::Parent, _) => {
                    Err(Error::FileAndDirectory { name: name.shown() })
                }
            },
        }
    }

    /// Parents that no entry names count too: one entry can bring five hundred.
    fn count(&self) -> Result<(), Error> {
        if self.known.len() as u64 >= self.limit.saturating_add(1) {
            return Err(Error::TooManyEntries { limit: self.limit });
        }
        Ok(())
    }

    fn make(&self, path: &str) -> Result<(), Error> {
        let failed = |errno| write_error(path, errno);
        let mode = Mode::from_raw_mode(0o700);
        let Some((parent, name)) = path.rsplit_once('/') else {
            return mkdirat(&self.root, path, mode).map_err(failed);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat2(&self.root, parent, flags, Mode::empty(), BENEATH).map_err(failed)?;
        mkdirat(&parent, name, mode).map_err(failed)
    }
}

fn write_error(name: &str, errno: rustix::io::Errno) -> Error {
    Error::Write {
        name: shown(name.as_bytes()),
        source: io::Error::from(errno),
    }
}
