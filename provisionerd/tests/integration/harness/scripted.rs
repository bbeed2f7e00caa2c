//! Templates whose engine does what a script says, and waits for the test.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::fleet::Fleet;
use super::tools::testdata;

/// A copy of the scriptable engine that a test may take away.
pub fn fake_engine(directory: &Path) -> PathBuf {
    let engine = directory.join("fake-engine");
    std::fs::copy(testdata().join("fake-engine"), &engine).expect("copy");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&engine, mode).expect("mode");
    engine
}

/// A template of a fleet, and the file its engine waits for.
pub struct Scripted {
    /// For `templates push -d`.
    pub directory: PathBuf,
    go: PathBuf,
}

impl Scripted {
    /// In `text`, `GO` stands for the file to wait for.
    pub fn new(fleet: &Fleet, text: &str) -> Self {
        Self::named(fleet, "scripted", text)
    }

    /// The same in a directory of its own, for a fleet with more than one.
    pub fn named(fleet: &Fleet, name: &str, text: &str) -> Self {
        let directory = fleet.dir().join(name);
        let go = fleet.dir().join("go");
        let text = text.replace("GO", go.to_str().expect("text"));
        std::fs::create_dir(&directory).expect("template");
        std::fs::write(directory.join("main.tf"), "").expect("template");
        std::fs::write(directory.join("engine.script"), text).expect("script");
        Self { directory, go }
    }

    /// Lets the engine go on, now and later.
    pub fn go(&self) {
        std::fs::write(&self.go, "").expect("file");
    }

    /// Lets it wait again.
    pub fn wait(&self) {
        std::fs::remove_file(&self.go).expect("file");
    }
}
