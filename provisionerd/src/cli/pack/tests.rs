//! The same files give the same bytes; what does not belong is skipped or refused.

use std::io::Read;

use super::*;

fn template(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("tempdir");
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        fs::write(path, text).expect("write");
    }
    dir
}

fn entries(archive: &mut Archive) -> Vec<(String, u32, u64, String)> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(&mut archive.file).expect("zstd"));
    tar.entries()
        .expect("entries")
        .map(|entry| {
            let mut entry = entry.expect("entry");
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            let path = entry.path().expect("path").display().to_string();
            let header = entry.header();
            let mode = header.mode().expect("mode");
            (path, mode, header.mtime().expect("mtime"), text)
        })
        .collect()
}

#[test]
fn the_same_files_give_the_same_digest_whatever_their_times() {
    let files = [("main.tf", "# a"), ("b/c.tf", "# c"), ("a.sh", "x")];
    let (one, two) = (template(&files), template(&files));
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    let file = File::options().write(true).open(two.path().join("main.tf"));
    file.expect("open").set_times(old).expect("times");
    let one = directory(one.path(), Transfers::Hidden).expect("packs");
    let two = directory(two.path(), Transfers::Hidden).expect("packs");
    assert_eq!(one.digest, two.digest);
    let changed = template(&[("main.tf", "# b"), ("b/c.tf", "# c"), ("a.sh", "x")]);
    assert_ne!(
        directory(changed.path(), Transfers::Hidden)
            .expect("packs")
            .digest,
        one.digest
    );
}

#[test]
fn the_digest_and_size_are_those_of_the_file() {
    let dir = template(&[("main.tf", "# a")]);
    let mut archive = directory(dir.path(), Transfers::Hidden).expect("packs");
    let mut bytes = Vec::new();
    archive.file.read_to_end(&mut bytes).expect("reads");
    assert_eq!(archive.digest, Digest::of(&bytes));
    assert_eq!(archive.size, bytes.len() as u64);
}

#[test]
fn entries_are_sorted_with_plain_modes_and_no_times() {
    let dir = template(&[("z.tf", "# z"), ("m/n.tf", "# n"), ("a.sh", "#!/bin/sh")]);
    let script = dir.path().join("a.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o4700)).expect("chmod");
    let mut archive = directory(dir.path(), Transfers::Hidden).expect("packs");
    let found = entries(&mut archive);
    let names: Vec<_> = found
        .iter()
        .map(|(path, mode, ..)| (&**path, *mode))
        .collect();
    assert_eq!(
        names,
        [
            ("a.sh", 0o755),
            ("m", 0o755),
            ("m/n.tf", 0o644),
            ("z.tf", 0o644)
        ]
    );
    assert!(found.iter().all(|(_, _, mtime, _)| *mtime == 0));
    assert_eq!(found[2].3, "# n");
}

#[test]
fn what_an_engine_left_behind_is_skipped_and_named() {
    let dir = template(&[
        ("main.tf", "# a"),
        (".terraform/providers/x", "big"),
        (".git/config", "x"),
        ("terraform.tfstate", "{}"),
        ("terraform.tfstate.backup", "{}"),
        ("m/old.tfstate.backup", "{}"),
        (".terraform.lock.hcl", "# lock"),
    ]);
    let mut archive = directory(dir.path(), Transfers::Hidden).expect("packs");
    assert_eq!(
        archive.skipped,
        [
            ".git",
            ".terraform",
            "m/old.tfstate.backup",
            "terraform.tfstate",
            "terraform.tfstate.backup"
        ]
    );
    let names: Vec<_> = entries(&mut archive).into_iter().map(|e| e.0).collect();
    assert_eq!(names, [".terraform.lock.hcl", "m", "main.tf"]);
}

#[test]
fn a_symlink_is_refused_by_name() {
    let dir = template(&[("main.tf", "# a")]);
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("symlink");
    let refused = directory(dir.path(), Transfers::Hidden).expect_err("symlink");
    assert_eq!(refused.code, "TEMPLATE_SYMLINK");
    assert!(refused.message.starts_with("link is"), "{refused}");
}

#[test]
fn a_directory_without_a_template_is_refused() {
    let dir = template(&[("readme.md", "x"), ("sub/main.tf", "# a")]);
    let refused = directory(dir.path(), Transfers::Hidden).expect_err("no template");
    assert_eq!(refused.code, "TEMPLATE_EMPTY");
}

#[test]
fn a_file_over_the_limit_is_refused_before_it_is_read() {
    let dir = template(&[("main.tf", "# a")]);
    let sparse = File::create(dir.path().join("disk.img")).expect("create");
    sparse.set_len(limits::ARCHIVE_ENTRY + 1).expect("sparse");
    let refused = directory(dir.path(), Transfers::Hidden).expect_err("too large");
    assert_eq!(refused.code, "TEMPLATE_TOO_LARGE");
    assert!(refused.message.contains("disk.img"), "{refused}");
}

#[test]
fn long_paths_travel_whole() {
    let long = format!("{}/main.tf", vec!["directory"; 30].join("/"));
    let dir = template(&[("main.tf", "# a"), (&long, "# deep")]);
    let mut archive = directory(dir.path(), Transfers::Hidden).expect("packs");
    assert!(
        entries(&mut archive)
            .iter()
            .any(|e| e.0 == long && e.3 == "# deep")
    );
}

#[test]
fn built_in_files_pack_like_a_directory() {
    let dir = template(&[("main.tf", "# a"), ("b.tf", "# b")]);
    let from_disk = directory(dir.path(), Transfers::Hidden).expect("packs");
    let built_in = built_in(&[("main.tf", "# a"), ("b.tf", "# b")]).expect("packs");
    assert_eq!(from_disk.digest, built_in.digest);
}
