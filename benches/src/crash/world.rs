//! What is really there: the marks that resources leave, and what a state says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// One thing in the world: made twice is two things.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thing {
    /// Address of its resource.
    pub address: String,
    /// As the provider named it.
    pub id: String,
}

/// Everything made for a workspace, in the order it was made.
pub fn marks(file: &Path) -> Vec<Thing> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(address, id)| Thing {
            address: address.to_owned(),
            id: id.to_owned(),
        })
        .collect()
}

/// Resources that are files, each with when it was written.
pub type Files = BTreeMap<Thing, SystemTime>;

/// Every file of a workspace. `marks` is where its other marks stand; the provider takes the
/// digest of a file's content for its id.
///
/// # Errors
/// A file cannot be read.
pub fn files(marks: &Path) -> Result<Files> {
    let (Some(dir), Some(name)) = (marks.parent(), marks.file_name()) else {
        return Ok(Files::new());
    };
    let begins = format!("{}.", name.to_string_lossy());
    let mut files = Files::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(kind) = name.strip_prefix(&begins) else {
            continue;
        };
        let mut words = kind.split('-');
        let (Some(resource), Some(index)) = (words.next(), words.next()) else {
            continue;
        };
        let address = format!("local_file.{resource}[{index}]");
        let Some(id) = digest(&path)? else { continue };
        let written = std::fs::metadata(&path)?.modified()?;
        files.insert(Thing { address, id }, written);
    }
    Ok(files)
}

/// `None` for a file that has been made and not been written yet: nothing is in it.
fn digest(path: &PathBuf) -> Result<Option<String>> {
    if std::fs::metadata(path)?.len() == 0 {
        return Ok(None);
    }
    let ran = Command::new("sha1sum").arg("--").arg(path).output();
    let ran = ran.context("sha1sum of coreutils")?;
    ensure!(ran.status.success(), "sha1sum {}", path.display());
    let text = String::from_utf8_lossy(&ran.stdout);
    let digest = text.split_whitespace().next().unwrap_or_default();
    Ok(Some(digest.to_owned()))
}

/// What a state knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// All managed instances.
    pub things: BTreeSet<Thing>,
    /// Those that the engine will replace: their provisioner did not end.
    pub tainted: BTreeSet<Thing>,
    /// Size of the state.
    pub bytes: usize,
}

impl Known {
    /// Reads a raw state.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn of(state: &[u8]) -> serde_json::Result<Self> {
        let mut known = Self {
            bytes: state.len(),
            ..Self::default()
        };
        let state: Value = serde_json::from_slice(state)?;
        for resource in list(&state["resources"]) {
            if resource["mode"] != "managed" {
                continue;
            }
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let base = format!("{}.{}", text(&resource["type"]), text(&resource["name"]));
            for instance in list(&resource["instances"]) {
                let address = match &instance["index_key"] {
                    Value::Null => base.clone(),
                    key => format!("{base}[{key}]"),
                };
                let id = text(&instance["attributes"]["id"]);
                let thing = Thing { address, id };
                if instance["status"] == "tainted" {
                    known.tainted.insert(thing.clone());
                }
                known.things.insert(thing);
            }
        }
        Ok(known)
    }
}

/// The elements of an array, none of anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_resource_with_the_digest_of_its_content() {
        let dir = tempfile::tempdir().expect("directory");
        let marks = dir.path().join("w-1");
        std::fs::write(dir.path().join("w-1.swap-3-of-2"), "abc").expect("file");
        std::fs::write(dir.path().join("w-1.plain-0"), "").expect("file");
        std::fs::write(dir.path().join("w-11.plain-0"), "abc").expect("file");
        let found: Vec<Thing> = files(&marks).expect("files").into_keys().collect();
        let wanted = Thing {
            address: "local_file.swap[3]".to_owned(),
            id: "a9993e364706816aba3e25717850c26c9cd0d89d".to_owned(),
        };
        assert_eq!(found, [wanted]);
    }

    #[test]
    fn a_state_is_read_with_its_ids_and_what_is_tainted() {
        let state = serde_json::json!({"resources": [
            {"mode": "managed", "type": "a", "name": "b", "instances": [
                {"index_key": 0, "attributes": {"id": "one"}},
                {"index_key": 1, "status": "tainted", "attributes": {"id": "two"}},
            ]},
            {"mode": "data", "type": "a", "name": "c", "instances": [{"attributes": {}}]},
        ]});
        let thing = |address: &str, id: &str| Thing {
            address: address.to_owned(),
            id: id.to_owned(),
        };
        let known = Known::of(state.to_string().as_bytes()).expect("a state");
        let wanted = [thing("a.b[0]", "one"), thing("a.b[1]", "two")];
        assert_eq!(known.things, wanted.iter().cloned().collect());
        assert_eq!(known.tainted, wanted[1..].iter().cloned().collect());
    }
}
