//! Tests that cannot run here say so. Sources include this file by its path.

use std::io::Write as _;

/// Says that a test cannot run here; `testdata/test` repeats it at the end.
pub fn skip(what: &str, why: &str) {
    eprintln!("skipped: {what}: {why}");
    let Some(path) = std::env::var_os("PROVISIONERD_TEST_SKIPPED") else {
        return;
    };
    let file = std::fs::OpenOptions::new().append(true).open(path);
    let line = format!("{what}: {why}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the list of skipped tests can be written");
}
