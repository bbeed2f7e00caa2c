//! Packs a template directory: the same files always give the same bytes, so that the
//! queue sees whether a template changed by its digest.
//!
//! Sorted names, no times, no owners, modes 0644 and 0755. What an engine left behind
//! is not part of a template and is named when it is skipped. Nothing is held in
//! memory: the archive grows in an unnamed temporary file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proto::ids::Digest;
use proto::limits;

use crate::failure::Failure;
use crate::render::transfer::Transfers;

#[path = "pack/writer.rs"]
mod writer;
use writer::write;

/// Directories and files that engines and version control leave behind.
const LEFT_BEHIND: [&str; 2] = [".terraform", ".git"];

/// A packed template.
#[derive(Debug)]
pub struct Archive {
    /// Compressed tar, at its start.
    pub file: File,
    /// Of the bytes in `file`.
    pub digest: Digest,
    /// Bytes in `file`.
    pub size: u64,
    /// What was left out, relative to the directory.
    pub skipped: Vec<String>,
}

/// Packs `dir`; what is read of it is shown by `transfers`.
///
/// # Errors
/// The directory holds no template, something that cannot be packed (a symlink, a
/// device), more than a limit allows, or cannot be read.
pub fn directory(dir: &Path, transfers: Transfers) -> Result<Archive, Failure> {
    let mut walk = Walk::default();
    walk.enter(dir, Path::new(""))?;
    let root_file = |entry: &Entry| !entry.path.components().skip(1).any(|_| true);
    if !walk
        .entries
        .iter()
        .any(|e| root_file(e) && is_template(&e.path))
    {
        return Err(Failure::user(
            "TEMPLATE_EMPTY",
            format!("{} holds no .tf file", dir.display()),
        )
        .hint("name the directory that holds the template's .tf files"));
    }
    walk.check()?;
    let skipped = std::mem::take(&mut walk.skipped);
    let packing = transfers.begin("pack", Some(walk.bytes));
    write(walk.entries, skipped, |entry| {
        let path = dir.join(&entry.path);
        let file = File::open(&path).map_err(|error| Failure::file("read", &path, &error))?;
        Ok(packing.reading(file))
    })
}

/// Packs files that are built into this binary.
///
/// # Errors
/// The temporary file cannot be written.
pub fn built_in(files: &[(&str, &'static str)]) -> Result<Archive, Failure> {
    let mut sorted = files.to_vec();
    sorted.sort_unstable();
    let entries = sorted.iter().map(|(path, text)| Entry {
        path: PathBuf::from(path),
        size: text.len() as u64,
        kind: Kind::File,
    });
    write(entries.collect(), Vec::new(), |entry| {
        let found = sorted
            .iter()
            .find(|(path, _)| Path::new(path) == entry.path);
        Ok(found.map_or("", |(_, text)| text).as_bytes())
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Program,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    size: u64,
    kind: Kind,
}

#[derive(Debug, Default)]
struct Walk {
    entries: Vec<Entry>,
    skipped: Vec<String>,
    bytes: u64,
}

impl Walk {
    fn enter(&mut self, root: &Path, below: &Path) -> Result<(), Failure> {
        let dir = root.join(below);
        let unreadable = |error: io::Error| Failure::file("read", &dir, &error);
        let mut names = fs::read_dir(&dir)
            .map_err(unreadable)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(unreadable)?;
        names.sort_unstable();
        for name in names {
            self.visit(root, &below.join(name))?;
        }
        Ok(())
    }

    fn visit(&mut self, root: &Path, path: &Path) -> Result<(), Failure> {
        let shown = path.display().to_string();
        if is_left_behind(path) {
            self.skipped.push(shown);
            return Ok(());
        }
        let full = root.join(path);
        let meta = fs::symlink_metadata(&full).map_err(|e| Failure::file("read", &full, &e))?;
        let kind = meta.file_type();
        if kind.is_dir() {
            self.push(path, 0, Kind::Directory)?;
            return self.enter(root, path);
        }
        if kind.is_symlink() {
            return Err(Failure::user(
                "TEMPLATE_SYMLINK",
                format!("{shown} is a symbolic link, which a template cannot hold"),
            )
            .hint("replace it with the file it points to"));
        }
        if !kind.is_file() {
            return Err(Failure::user(
                "TEMPLATE_SPECIAL_FILE",
                format!("{shown} is no regular file"),
            )
            .hint("remove it from the template"));
        }
        let program = meta.permissions().mode() & 0o111 != 0;
        let kind = if program { Kind::Program } else { Kind::File };
        self.push(path, meta.len(), kind)
    }

    fn push(&mut self, path: &Path, size: u64, kind: Kind) -> Result<(), Failure> {
        let shown = path.display();
        if size > limits::ARCHIVE_ENTRY {
            return Err(too_large(format!(
                "{shown} has {size} bytes, the limit of one file is {}",
                limits::ARCHIVE_ENTRY
            )));
        }
        if path.as_os_str().len() > limits::ARCHIVE_PATH {
            return Err(too_large(format!(
                "the path {shown} is longer than {} bytes",
                limits::ARCHIVE_PATH
            )));
        }
        self.bytes += size;
        self.entries.push(Entry {
            path: path.to_owned(),
            size,
            kind,
        });
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        let entries = self.entries.len() as u64;
        if entries > limits::ARCHIVE_ENTRIES {
            return Err(too_large(format!(
                "{entries} files and directories, the limit is {}",
                limits::ARCHIVE_ENTRIES
            )));
        }
        if self.bytes > limits::ARCHIVE_UNPACKED {
            return Err(too_large(format!(
                "{} bytes in all files, the limit is {}",
                self.bytes,
                limits::ARCHIVE_UNPACKED
            )));
        }
        Ok(())
    }
}

fn too_large(what: String) -> Failure {
    Failure::user("TEMPLATE_TOO_LARGE", what).hint("remove what the template does not need")
}

fn is_template(path: &Path) -> bool {
    let name = path.to_string_lossy();
    [".tf", ".tf.json", ".tofu", ".tofu.json"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

fn is_left_behind(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    LEFT_BEHIND.contains(&&*name)
        || name.starts_with("terraform.tfstate")
        || name.ends_with(".tfstate.backup")
}

#[cfg(test)]
#[path = "pack/tests.rs"]
mod tests;
