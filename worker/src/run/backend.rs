//! Keeps the state in the work directory, whatever backend a template asks for: a
//! generated override, sorting last among overrides, and a look after init at which
//! backend really won.

use std::path::Path;

use proto::v1::JobError;
use serde::Deserialize;

use super::checkpoint::STATE_FILE;
use super::files::{self, Durability};

/// Engines merge `*_override.tf` in the order of their names.
const OVERRIDE: &str = "zzz_provisionerd_override.tf";

/// Names that would take the override's place: JSON, and `OpenTofu`'s own.
const RIVALS: [&str; 3] = [
    "zzz_provisionerd_override.tf.json",
    "zzz_provisionerd_override.tofu",
    "zzz_provisionerd_override.tofu.json",
];

/// Where init records the backend it configured.
const RECORD: &str = ".terraform/terraform.tfstate";

/// Largest record: a few hundred bytes in practice.
const RECORD_LIMIT: u64 = 1024 * 1024;

/// Writes the override.
pub(super) fn write_override(work: &Path) -> Result<(), files::Error> {
    for rival in RIVALS {
        files::remove(&work.join(rival))?;
    }
    let text =
        format!("terraform {{\n  backend \"local\" {{\n    path = \"{STATE_FILE}\"\n  }}\n}}\n");
    files::write(&work.join(OVERRIDE), text.as_bytes(), Durability::Volatile)
}

/// After init: the state is where we look for it.
///
/// # Errors
/// `BACKEND_NOT_LOCAL` when another backend won.
pub(super) fn check(work: &Path) -> Result<(), JobError> {
    let bytes = match files::read(work, RECORD, RECORD_LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_missing() => return Err(not_local("none that init recorded")),
        Err(error) => return Err(error.into()),
    };
    let record: Record =
        serde_json::from_slice(&bytes).map_err(|_| not_local("one that cannot be read"))?;
    let local = record.backend.kind == "local"
        && record.backend.config.path.as_deref() == Some(STATE_FILE)
        && record.backend.config.workspace_dir.is_none();
    if local {
        Ok(())
    } else {
        Err(not_local(&format!("`{}`", record.backend.kind)))
    }
}

fn not_local(found: &str) -> JobError {
    let message = format!(
        "the state would not stay with the workspace: the backend in force is {found}, not the \
         local one"
    );
    JobError::user("BACKEND_NOT_LOCAL", message)
        .hint("Remove the `backend` and `cloud` blocks from the template.")
}

#[derive(Deserialize)]
struct Record {
    backend: Backend,
}

#[derive(Deserialize)]
struct Backend {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize, Default)]
struct Config {
    path: Option<String>,
    workspace_dir: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn checked(record: Option<&str>) -> Result<(), JobError> {
        let dir = tempfile::tempdir().expect("dir");
        fs::create_dir(dir.path().join(".terraform")).expect("dir");
        if let Some(record) = record {
            fs::write(dir.path().join(RECORD), record).expect("write");
        }
        check(dir.path())
    }

    #[test]
    fn our_own_backend_is_accepted() {
        let ours = r#"{"version":3,"backend":{"type":"local","config":{"path":"terraform.tfstate","workspace_dir":null},"hash":1}}"#;
        assert_eq!(checked(Some(ours)), Ok(()));
    }

    #[test]
    fn any_other_backend_is_refused() {
        for record in [
            None,
            Some(r#"{"backend":{"type":"s3","config":{"bucket":"b"}}}"#),
            Some(r#"{"backend":{"type":"local","config":{"path":"/elsewhere"}}}"#),
            Some(
                r#"{"backend":{"type":"local","config":{"path":"terraform.tfstate","workspace_dir":"x"}}}"#,
            ),
            Some("{}"),
        ] {
            let refused = checked(record).expect_err("refused");
            assert_eq!(refused.code, "BACKEND_NOT_LOCAL", "{record:?}");
        }
    }

    #[test]
    fn the_override_replaces_what_a_template_put_in_its_place() {
        let dir = tempfile::tempdir().expect("dir");
        for rival in RIVALS {
            fs::write(dir.path().join(rival), "x").expect("write");
        }
        fs::write(dir.path().join(OVERRIDE), "x").expect("write");
        write_override(dir.path()).expect("written");
        let names: Vec<_> = fs::read_dir(dir.path()).expect("dir").collect();
        assert_eq!(names.len(), 1);
        let text = fs::read_to_string(dir.path().join(OVERRIDE)).expect("text");
        assert!(text.contains("backend \"local\""));
    }
}
