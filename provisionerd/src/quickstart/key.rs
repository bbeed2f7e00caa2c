//! The provisioner key of the quickstart's daemon: made once, kept beside the data.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use proto::secret::Secret;
use proto::v1;

use crate::client::Client;
use crate::failure::Failure;

/// The key of the last run while the queue still knows it, else a new one.
///
/// # Errors
/// The queue refuses, or the file cannot be written.
pub async fn obtain(client: &mut Client, data_dir: &Path, name: &str) -> Result<Secret, Failure> {
    let path = data_dir.join(format!("{name}.key"));
    let keys = client.list_keys(v1::ListKeysRequest {}).await?.keys;
    let is_known = keys.iter().any(|key| key.name == name);
    let kept = match fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::file("read", &path, &error)),
    };
    if let (Some(key), true) = (kept, is_known) {
        return Ok(Secret::new(key));
    }
    if is_known {
        let request = v1::DeleteKeyRequest {
            name: name.to_owned(),
        };
        client.delete_key(request).await?;
    }
    let request = v1::CreateKeyRequest {
        name: name.to_owned(),
        ..v1::CreateKeyRequest::default()
    };
    let key = Secret::new(client.create_key(request).await?.key);
    write(&path, &key).map_err(|error| Failure::file("write", &path, &error))?;
    Ok(key)
}

/// Under a temporary name first, so that a torn file is never taken for a key.
fn write(path: &Path, key: &Secret) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(key.expose().as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
