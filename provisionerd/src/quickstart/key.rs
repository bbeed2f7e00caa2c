//! The provisioner key of the quickstart's daemon: made once, kept beside the data.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use proto::secret::Secret;
use proto::tags::Tags;
use proto::v1;

use crate::client::Client;
use crate::failure::Failure;

/// Name of the key, without tags.
const PLAIN: &str = "quickstart";
/// Name of the key that allows a template's tags.
const TAGGED: &str = "quickstart-tagged";

/// A key that allows `tags`: the one of the last run while the queue still knows it,
/// else a new one.
///
/// # Errors
/// The queue refuses, or the file cannot be written.
pub async fn obtain(client: &mut Client, data_dir: &Path, tags: &Tags) -> Result<Secret, Failure> {
    let (name, allowed) = match tags.is_untagged() {
        true => (PLAIN, HashMap::new()),
        false => (TAGGED, tags.to_map()),
    };
    let path = data_dir.join(format!("{name}.key"));
    let keys = client.list_keys(v1::ListKeysRequest {}).await?.keys;
    let known = keys.iter().find(|key| key.name == name);
    let kept = match fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::file("read", &path, &error)),
    };
    if let (Some(key), Some(known)) = (kept, known)
        && known.tags == allowed
    {
        return Ok(Secret::new(key));
    }
    let name = name.to_owned();
    if known.is_some() {
        let request = v1::DeleteKeyRequest { name: name.clone() };
        client.delete_key(request).await?;
    }
    let request = v1::CreateKeyRequest {
        name,
        tags: allowed,
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
