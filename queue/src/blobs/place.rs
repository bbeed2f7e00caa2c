//! The id of a directory of blobs, so that replicas find out when they do not share it.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

/// The file that holds it.
const NAME: &str = "id";

/// The directory's id, given to it by whoever asks first.
///
/// # Errors
/// The directory cannot be made, read or written.
pub fn id(directory: &Path) -> std::io::Result<String> {
    super::write::make(directory)?;
    let path = directory.join(NAME);
    let new = directory.join(format!("{}{}", super::TEMPORARY, uuid::Uuid::new_v4()));
    if !path.exists() {
        let mut file = File::create_new(&new)?;
        writeln!(file, "{}", uuid::Uuid::new_v4())?;
        file.sync_all()?;
        // A link and no rename: the first one stays.
        let linked = std::fs::hard_link(&new, &path);
        std::fs::remove_file(&new)?;
        match linked {
            Ok(()) => File::open(directory)?.sync_all()?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_the_id_that_it_got_first() {
        let dir = tempfile::tempdir().expect("dir");
        let blobs = dir.path().join("blobs");
        let first = id(&blobs).expect("made");
        assert_eq!(id(&blobs).expect("read"), first);
        assert_ne!(id(dir.path()).expect("another"), first);
    }
}
