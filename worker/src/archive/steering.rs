//! Files in a template that would steer the engine away from what the fleet decides.
//!
//! Left out, with a notice: what an engine leaves behind in a directory it ran in, which
//! people pack by accident (`.terraform/`, state files at the root). The job brings its
//! own. Refused: what only makes sense as an attempt to change how engines are set up
//! (CLI configuration, `terraform.d/`), override files that move the state elsewhere, and
//! OpenTofu's state encryption, which would leave a state that nobody here can read.
//! Variable files (`terraform.tfvars`, `*.auto.tfvars`) are a template's own business.

use hcl_edit::structure::Body;
use serde_json::Value;

use super::name::Name;

/// What was left out, counted by reason: one line each.
#[derive(Debug, Default)]
pub(super) struct Notices(Vec<(&'static str, u64, u64)>);

impl Notices {
    pub(super) fn add(&mut self, reason: &'static str, size: u64) {
        match self.0.iter_mut().find(|(known, ..)| *known == reason) {
            Some((_, count, bytes)) => {
                *count += 1;
                *bytes += size;
            }
            None => self.0.push((reason, 1, size)),
        }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.0
            .into_iter()
            .map(|(reason, count, bytes)| {
                let entries = if count == 1 { "entry" } else { "entries" };
                format!(
                    "left out of the template archive: {reason} ({count} {entries}, {bytes} bytes)"
                )
            })
            .collect()
    }
}

/// What happens to an entry by its name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    LeaveOut(&'static str),
    Refuse(&'static str),
}

/// Decides by name. Only the root module's directory is special to an engine.
pub(super) fn by_name(name: &Name) -> Verdict {
    let path = name.as_str();
    let first = path.split('/').next().unwrap_or_default();
    match first {
        ".terraform" => Verdict::LeaveOut(".terraform/, which init makes again"),
        "terraform.d" => {
            Verdict::Refuse("terraform.d/ holds plugins and credentials for the engine's own use")
        }
        ".terraformrc" | "terraform.rc" | ".tofurc" | "tofu.rc" => {
            Verdict::Refuse("the engine's CLI configuration is made for each job")
        }
        ".terraform.tfstate.lock.info" | "errored.tfstate" | "terraform.tfstate.d" => {
            Verdict::LeaveOut(LEFT_STATE)
        }
        state if state.starts_with("terraform.tfstate") => Verdict::LeaveOut(LEFT_STATE),
        _ => Verdict::Keep,
    }
}

const LEFT_STATE: &str = "state files, since the state of a workspace comes from the queue";

const BACKEND: &str = "an override file may not hold `backend` or `cloud`: \
                       the state of a workspace is kept by the queue";

const ENCRYPTION: &str = "OpenTofu `encryption` would leave a state that cannot be read back";

const UNREADABLE: &str = "it holds `backend`, `cloud` or `encryption` in a form that \
                          cannot be read well enough to see what it does";

/// Is it a configuration file of the root module?
pub(super) fn is_configuration(path: &str) -> bool {
    !path.contains('/')
        && [".tf", ".tf.json", ".tofu", ".tofu.json"]
            .iter()
            .any(|end| path.ends_with(end))
}

fn is_override(path: &str) -> bool {
    let stem = path.strip_suffix(".json").unwrap_or(path);
    let stem = stem
        .strip_suffix(".tf")
        .or_else(|| stem.strip_suffix(".tofu"))
        .unwrap_or(stem);
    stem == "override" || stem.ends_with("_override")
}

/// Why a configuration file of the root module is refused, if it is.
pub(super) fn by_content(path: &str, content: &[u8]) -> Option<&'static str> {
    let mut words: Vec<&str> = vec!["encryption"];
    if is_override(path) {
        words.extend(["backend", "cloud"]);
    }
    let found = if path.ends_with(".json") {
        settings_of_json(content)
    } else {
        // Block names cannot be escaped in HCL, so most files need no parsing.
        if !words.iter().any(|word| holds(content, word)) {
            return None;
        }
        settings_of_hcl(content)
    };
    match found {
        Some(found) => words
            .into_iter()
            .find(|word| found.iter().any(|name| name == word))
            .map(|word| {
                if word == "encryption" {
                    ENCRYPTION
                } else {
                    BACKEND
                }
            }),
        // The engine will say what is wrong with it, unless it understands more than we do.
        None => words
            .iter()
            .any(|word| holds(content, word))
            .then_some(UNREADABLE),
    }
}

fn holds(content: &[u8], word: &str) -> bool {
    content
        .windows(word.len())
        .any(|window| window == word.as_bytes())
}

/// Names of blocks inside `terraform` blocks; `None` when the file does not parse.
fn settings_of_hcl(content: &[u8]) -> Option<Vec<String>> {
    let body: Body = std::str::from_utf8(content).ok()?.parse().ok()?;
    Some(
        body.get_blocks("terraform")
            .flat_map(|block| block.body.blocks())
            .map(|block| block.ident.as_str().to_owned())
            .collect(),
    )
}

fn settings_of_json(content: &[u8]) -> Option<Vec<String>> {
    let root: Value = serde_json::from_slice(content).ok()?;
    let mut names = Vec::new();
    for part in one_or_many(&root) {
        for settings in part.get("terraform").into_iter().flat_map(one_or_many) {
            names.extend(
                settings
                    .as_object()
                    .into_iter()
                    .flat_map(|map| map.keys().cloned()),
            );
        }
    }
    Some(names)
}

/// JSON configuration may wrap any body in arrays.
fn one_or_many(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(many) => Box::new(many.iter().flat_map(one_or_many)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Box::new(std::iter::once(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(path: &str) -> Verdict {
        by_name(&Name::parse(path.as_bytes()).unwrap())
    }

    #[test]
    fn leftovers_of_an_engine_are_left_out_and_settings_of_it_refused() {
        for path in [
            ".terraform/modules/modules.json",
            "terraform.tfstate",
            "terraform.tfstate.backup",
        ] {
            assert!(matches!(verdict(path), Verdict::LeaveOut(_)), "{path}");
        }
        for path in [".terraformrc", "terraform.rc", "terraform.d/plugins/x"] {
            assert!(matches!(verdict(path), Verdict::Refuse(_)), "{path}");
        }
        for path in [
            ".terraform.lock.hcl",
            "x.auto.tfvars",
            "modules/.terraform/x",
            "a/terraform.tfstate",
        ] {
            assert_eq!(verdict(path), Verdict::Keep, "{path}");
        }
    }

    #[test]
    fn only_override_files_may_not_hold_a_backend() {
        let backend = b"terraform {\n  backend \"http\" {}\n}\n";
        assert_eq!(by_content("main.tf", backend), None);
        for path in ["override.tf", "z_override.tf", "z_override.tofu"] {
            assert_eq!(by_content(path, backend), Some(BACKEND), "{path}");
        }
        assert_eq!(
            by_content("override.tf", b"terraform {\n cloud {}\n}\n"),
            Some(BACKEND)
        );
        assert_eq!(by_content("override.tf", b"# a backend in words\n"), None);
        let json = br#"[{"terraform": [{"\u0062ackend": {"http": {}}}]}]"#;
        assert_eq!(by_content("override.tf.json", json), Some(BACKEND));
        assert_eq!(by_content("main.tf.json", json), None);
    }

    #[test]
    fn state_encryption_is_refused_in_every_file() {
        let block = b"terraform {\n  encryption {\n  }\n}\n";
        assert_eq!(by_content("main.tf", block), Some(ENCRYPTION));
        assert_eq!(by_content("main.tofu", block), Some(ENCRYPTION));
        let other = b"resource \"x\" \"y\" {\n  encryption {\n  }\n}\n";
        assert_eq!(by_content("main.tf", other), None);
    }

    #[test]
    fn what_cannot_be_read_cannot_be_cleared() {
        let duplicate = b"terraform {\n encryption {}\n}\nlocals {\n x = { a = 1, a = 2 }\n}\n";
        assert_eq!(by_content("main.tf", duplicate), Some(UNREADABLE));
        assert_eq!(by_content("main.tf", b"locals { x = "), None);
    }
}
