//! A short way to a directory whose own path is too long for the unix sockets that
//! provider plugins put below it (`sun_path` holds 108 bytes): a symbolic link in a
//! directory of this user's alone. The usual data directory below a HOME is long enough
//! to need it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use proto::ids::Digest;

/// Digits of the digest that name a link: no two directories of one user share them.
const NAME_DIGITS: usize = 12;

/// The link to `target`, made if it is missing: something that cleans `/tmp` may have
/// taken it since it was last used.
///
/// # Errors
/// `/tmp` cannot be used, or somebody else has made the directory that should be ours.
pub fn to(target: &Path) -> io::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let dir = PathBuf::from(format!("/tmp/pd-{user}"));
    match DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(&dir)?;
    // A link that others could change would lead jobs into their directories.
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "{} is not this user's alone",
            dir.display()
        )));
    }
    let digest = Digest::of(target.as_os_str().as_encoded_bytes()).to_string();
    let link = dir.join(&digest[..NAME_DIGITS]);
    match fs::read_link(&link) {
        Ok(there) if there == target => return Ok(link),
        Ok(_) => fs::remove_file(&link)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match symlink(target, &link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(link),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_short_leads_there_and_is_made_again_when_it_is_gone() {
        let dir = tempfile::tempdir().expect("dir");
        let deep = dir.path().join("d".repeat(200));
        fs::create_dir(&deep).expect("deep");
        let way = to(&deep).expect("way");
        assert!(way.as_os_str().len() < 40, "{}", way.display());
        fs::write(deep.join("file"), "x").expect("file");
        assert!(way.join("file").is_file());
        assert_eq!(to(&deep).expect("again"), way);
        fs::remove_file(&way).expect("cleaned");
        assert_eq!(to(&deep).expect("made again"), way);
        assert!(way.join("file").is_file());
        fs::remove_file(&way).expect("leave nothing");
    }
}
