//! Opens the files of a template: regular ones beneath its directory, never through a
//! link, never more than a configuration file may have.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use proto::limits::CONFIGURATION_FILE;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use super::Error;

/// The directory of a template, or of one of its modules.
pub(super) struct Directory(OwnedFd);

/// What a file held.
pub(super) enum Content {
    /// It is not there, or is no regular file.
    Absent,
    /// It has more than [`CONFIGURATION_FILE`] bytes.
    TooLarge,
    Bytes(Vec<u8>),
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        openat(CWD, path, DIRECTORY, Mode::empty())
            .map(Self)
            .map_err(|errno| error(&path.to_string_lossy(), errno.into()))
    }

    /// A directory below, named by what a template or engine wrote.
    pub(super) fn below(&self, path: &str) -> Result<Self, Error> {
        openat2(&self.0, path, DIRECTORY, Mode::empty(), BENEATH)
            .map(Self)
            .map_err(|errno| error(path, errno.into()))
    }

    /// Names of configuration files, sorted. Engines pass over hidden files and what
    /// editors leave behind.
    pub(super) fn configuration(&self) -> Result<Vec<String>, Error> {
        let failed = |errno: rustix::io::Errno| error(".", errno.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let ends = [".tf", ".tf.json", ".tofu", ".tofu.json"];
            if !name.starts_with('.') && ends.iter().any(|end| name.ends_with(end)) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Reads one file.
    pub(super) fn read(&self, path: &str) -> Result<Content, Error> {
        // Without NONBLOCK a fifo in place of the file would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat2(&self.0, path, flags, Mode::empty(), BENEATH) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(Content::Absent),
            Err(errno) => return Err(error(path, errno.into())),
        };
        let stat = fstat(&file).map_err(|errno| error(path, errno.into()))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(Content::Absent);
        }
        let mut bytes = Vec::new();
        File::from(file)
            .take(CONFIGURATION_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| error(path, source))?;
        if bytes.len() as u64 > CONFIGURATION_FILE {
            return Ok(Content::TooLarge);
        }
        Ok(Content::Bytes(bytes))
    }
}

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

fn error(path: &str, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}
