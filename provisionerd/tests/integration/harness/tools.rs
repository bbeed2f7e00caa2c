//! Engines, plugins and files that tests need: what `testdata/tools env` says, else what
//! PATH and its cache have.

use std::path::{Path, PathBuf};

use super::skip::skip;

/// Paths of what is there.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Terraform.
    pub terraform: Option<PathBuf>,
    /// OpenTofu.
    pub tofu: Option<PathBuf>,
    /// Unpacked mirrors: ours, then those that the user gave.
    pub mirrors: Vec<PathBuf>,
}

impl Tools {
    /// Looks once.
    pub fn find() -> Self {
        let given = std::env::var_os("PROVISIONERD_TEST_PROVIDERS").unwrap_or_default();
        let own = std::env::var_os("PROVISIONERD_TEST_MIRROR")
            .map_or_else(|| cache().join("mirror"), PathBuf::from);
        let mirrors = std::iter::once(own).chain(std::env::split_paths(&given));
        Self {
            terraform: engine("PROVISIONERD_TEST_TERRAFORM", "terraform"),
            tofu: engine("PROVISIONERD_TEST_TOFU", "tofu").or_else(built_tofu),
            mirrors: mirrors.filter(|dir| dir.is_dir()).collect(),
        }
    }

    /// Some engine, Terraform first.
    ///
    /// # Panics
    /// When there is none: then nothing can be tested.
    pub fn engine(&self) -> PathBuf {
        let any = self.terraform.clone().or_else(|| self.tofu.clone());
        any.expect("no engine: put terraform or tofu on PATH or run testdata/tools")
    }

    /// Both engines, for tests of what must not depend on one; a missing one is written
    /// down as skipped.
    ///
    /// # Panics
    /// When there is none.
    pub fn engines(&self, what: &str) -> Vec<PathBuf> {
        let both = [("terraform", &self.terraform), ("tofu", &self.tofu)];
        for (name, engine) in both {
            if engine.is_none() {
                skip(&format!("{what} on {name}"), &format!("no {name}"));
            }
        }
        let found: Vec<PathBuf> = both
            .iter()
            .filter_map(|(_, path)| (*path).clone())
            .collect();
        assert!(!found.is_empty(), "no engine: {what}");
        found
    }

    /// Whether a mirror has the provider, say `coder/coder`.
    pub fn has_provider(&self, name: &str) -> bool {
        let found = |mirror: &PathBuf| mirror.join("registry.terraform.io").join(name).is_dir();
        self.mirrors.iter().any(found)
    }

    /// Whether a mirror has a version of the provider that begins so, unpacked or packed
    /// as `terraform providers mirror` makes it.
    pub fn has_version(&self, name: &str, begins: &str) -> bool {
        let plugin = name.rsplit('/').next().unwrap_or(name);
        let packed = format!("terraform-provider-{plugin}_{begins}");
        let mirrors = self.mirrors.iter();
        let entries = mirrors
            .filter_map(|mirror| {
                mirror
                    .join("registry.terraform.io")
                    .join(name)
                    .read_dir()
                    .ok()
            })
            .flatten()
            .flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|entry| entry.starts_with(begins) || entry.starts_with(&packed))
    }
}

/// The directory `testdata` of the repository.
pub fn testdata() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = crate_dir
        .parent()
        .expect("invariant: crates lie in the workspace");
    root.join("testdata")
}

/// A template of `testdata/templates`.
pub fn template(name: &str) -> PathBuf {
    testdata().join("templates").join(name)
}

fn engine(variable: &str, name: &str) -> Option<PathBuf> {
    let given = std::env::var_os(variable).map(PathBuf::from);
    given.or_else(|| which::which(name).ok())
}

fn built_tofu() -> Option<PathBuf> {
    let built = std::fs::read_dir(cache().join("bin")).ok()?;
    let mut paths: Vec<PathBuf> = built
        .filter_map(|entry| Some(entry.ok()?.path().join("tofu")))
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths.pop()
}

/// As `testdata/tools` finds it.
fn cache() -> PathBuf {
    let own = std::env::var_os("PROVISIONERD_TEST_CACHE").map(PathBuf::from);
    let user = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().unwrap_or_default().join(".cache");
    own.unwrap_or_else(|| user.unwrap_or_else(home).join("provisionerd-test"))
}
