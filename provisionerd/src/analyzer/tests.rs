//! With a supervisor that never says a word; the real one is tried with the whole binary.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use queue::analysis::Analyzer as _;

use super::*;

/// Far longer than the patience, in case that fails.
/// Writes what this process calls it: in a namespace of its own it calls itself 1.
const SCRIPT: &str =
    "#!/bin/sh\nread pid rest < /proc/self/stat\necho $pid > pid\nexec sleep 600\n";

fn scripted(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("scripted");
    std::fs::write(&path, script).expect("script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("mode");
    path
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("directory").count()
}

/// Waits for a process to have written what it is called. Paused time stands still while
/// this blocks.
#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a file, with a deadline"
)]
fn written(pid: &Path) -> String {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let text = std::fs::read_to_string(pid).unwrap_or_default();
        if text.ends_with('\n') {
            return text;
        }
        assert!(std::time::Instant::now() < end, "the child does not run");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(start_paused = true)]
async fn an_analysis_that_takes_too_long_is_killed_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("home");
    let pid = home.path().join("pid");
    let script = SCRIPT.replace("> pid\n", &format!("> {}\n", pid.display()));
    let exe = scripted(home.path(), &script);
    let data = home.path().join("data");
    let analyzer = Analyzer::with_patience(exe, data.clone(), Duration::from_secs(2));
    let runs = tokio::task::spawn_blocking(move || written(&pid));
    let asked = analyzer.analyze(Archive::from(b"archive".to_vec())).await;
    let Err(Failure::Unreadable(error)) = asked else {
        panic!("a child that says nothing has no findings: {asked:?}");
    };
    assert_eq!(error.code, "ANALYSIS_TIMEOUT", "{}", error.message);
    assert!(error.message.contains("2 seconds"), "{}", error.message);
    let pid = runs.await.expect("the child ran");
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "it is dead");
    assert_eq!(entries(&data.join("analysis")), 0);
}

#[tokio::test]
async fn a_child_that_dies_is_no_answer() {
    let home = tempfile::tempdir().expect("home");
    let exe = scripted(home.path(), "#!/bin/sh\nexit 3\n");
    let data = home.path().join("data");
    let analyzer = Analyzer::new(exe, data.clone());
    let asked = analyzer.analyze(Archive::from(Vec::new())).await;
    let Err(Failure::Unreadable(error)) = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(error.code, "ANALYSIS_FAILED", "{}", error.message);
    assert_eq!(entries(&data.join("analysis")), 0);
}

#[tokio::test]
async fn what_an_earlier_process_left_is_removed() {
    let home = tempfile::tempdir().expect("home");
    let data = home.path().join("data");
    let analyses = data.join("analysis");
    std::fs::create_dir_all(&analyses).expect("analyses");
    JobDir::create(&analyses, "left").expect("left");
    let exe = scripted(home.path(), "#!/bin/sh\nexit 3\n");
    let analyzer = Analyzer::new(exe, data);
    let asked = analyzer.analyze(Archive::from(Vec::new())).await;
    assert!(asked.is_err());
    assert_eq!(entries(&analyses), 0);
}
