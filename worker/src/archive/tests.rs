use std::cell::Cell;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;
use proto::limits::{self, ARCHIVE_RATIO, MIB};
use proto::v1::JobError;

use super::hostile::{Header, Tar, gzip, zstd};
use super::*;

fn small() -> Limits {
    Limits {
        archive_bytes: 1 << 20,
        archive_entries: 8,
        archive_entry_bytes: 1_000,
        archive_unpacked_bytes: 2_000,
        ..limits::for_worker()
    }
}

fn unpack_here(bytes: &[u8], limits: &Limits) -> (tempfile::TempDir, Result<Summary, Error>) {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("work");
    fs::create_dir(&into).unwrap();
    let result = unpack(bytes, &into, limits);
    (dir, result)
}

#[track_caller]
fn refused(bytes: &[u8], code: &str, words: &[&str]) {
    let (_dir, result) = unpack_here(bytes, &small());
    let error = JobError::from(result.expect_err(code));
    assert_eq!(error.code, code, "{}", error.message);
    for word in words {
        assert!(
            error.message.contains(word),
            "no {word:?} in {:?}",
            error.message
        );
    }
}

fn names_below(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            let below = entry.path().strip_prefix(path).unwrap().to_owned();
            names.push(below.to_string_lossy().into_owned());
        }
    }
    names.sort();
    names
}

#[test]
fn plain_gzip_and_zstd_archives_unpack_alike() {
    let tar = Tar::default()
        .directory("./")
        .file("./main.tf", b"# hi\n")
        .file("modules/a/main.tf", b"")
        .directory("modules/a/")
        .entry(b"run.sh", b'0', 0o755, b"#!/bin/sh\n")
        .end();
    for bytes in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let (dir, result) = unpack_here(&bytes, &small());
        let summary = result.unwrap();
        assert_eq!((summary.entries, summary.files, summary.bytes), (5, 3, 15));
        assert_eq!(summary.notices, Vec::<String>::new());
        let work = dir.path().join("work");
        assert_eq!(
            names_below(&work),
            [
                "main.tf",
                "modules",
                "modules/a",
                "modules/a/main.tf",
                "run.sh"
            ]
        );
        assert_eq!(fs::read(work.join("main.tf")).unwrap(), b"# hi\n");
        let mode =
            |name: &str| fs::metadata(work.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode("main.tf"), mode("run.sh"), mode("modules/a")),
            (0o600, 0o700, 0o700)
        );
    }
}

#[test]
fn long_names_of_both_dialects_are_whole() {
    let long = format!("{}/{}.tf", "d".repeat(200), "f".repeat(200));
    let pax = Tar::default()
        .pax(b'g', &[("comment", b"0123456789abcdef")])
        .pax(b'x', &[("path", long.as_bytes()), ("mtime", b"1.5")])
        .file("short", b"x");
    let gnu = Tar::default()
        .entry(
            b"././@LongLink",
            b'L',
            0o644,
            format!("{long}\0").as_bytes(),
        )
        .file("short", b"x");
    for tar in [pax.end(), gnu.end()] {
        let (dir, result) = unpack_here(&tar, &small());
        result.unwrap();
        assert_eq!(fs::read(dir.path().join("work").join(&long)).unwrap(), b"x");
    }
}

#[test]
fn what_leaves_the_directory_is_refused_by_name() {
    for name in ["../x", "a/../../x", "/etc/x", "a/.."] {
        refused(
            &Tar::default().file(name, b"").end(),
            "ARCHIVE_PATH_ESCAPES",
            &[name],
        );
    }
    let by_pax = Tar::default()
        .pax(b'x', &[("path", b"../x")])
        .file("ok", b"");
    refused(&by_pax.end(), "ARCHIVE_PATH_ESCAPES", &["../x"]);
    let by_long_name = Tar::default()
        .entry(b"l", b'L', 0, b"../x\0")
        .file("ok", b"");
    refused(&by_long_name.end(), "ARCHIVE_PATH_ESCAPES", &["../x"]);
}

#[test]
fn links_and_devices_are_refused_by_name() {
    for (flag, code, kind) in [
        (b'1', "ARCHIVE_LINK", "hard link"),
        (b'2', "ARCHIVE_LINK", "symbolic link"),
        (b'3', "ARCHIVE_DEVICE", "character device"),
        (b'4', "ARCHIVE_DEVICE", "block device"),
        (b'6', "ARCHIVE_DEVICE", "fifo"),
        (b'S', "ARCHIVE_ENTRY_UNSUPPORTED", "sparse"),
        (b'M', "ARCHIVE_ENTRY_UNSUPPORTED", "'M'"),
    ] {
        let tar = Tar::default().entry(b"bad", flag, 0o644, b"").end();
        refused(&tar, code, &["\"bad\"", kind]);
    }
    let sparse = Tar::default()
        .pax(b'x', &[("GNU.sparse.major", b"1")])
        .file("bad", b"");
    refused(&sparse.end(), "ARCHIVE_ENTRY_UNSUPPORTED", &["sparse"]);
}

#[test]
fn one_path_may_come_only_once() {
    let file = |name: &'static str| Tar::default().file(name, b"");
    refused(
        &file("a").file("./a", b"").end(),
        "ARCHIVE_DUPLICATE",
        &["\"a\""],
    );
    refused(
        &file("a").file("a/b", b"").end(),
        "ARCHIVE_DUPLICATE",
        &["\"a\""],
    );
    refused(
        &file("a/b").file("a", b"").end(),
        "ARCHIVE_DUPLICATE",
        &["\"a\""],
    );
    let directories = Tar::default().directory("a").directory("a/").end();
    refused(&directories, "ARCHIVE_DUPLICATE", &["\"a\""]);
}

#[test]
fn modes_that_give_rights_are_refused() {
    for mode in [0o4755, 0o2755, 0o6644] {
        let tar = Tar::default().entry(b"bad", b'0', mode, b"").end();
        refused(&tar, "ARCHIVE_SETUID", &["\"bad\""]);
    }
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    for name in [&b"\xff\xfe"[..], &[b'n'; 100]] {
        let long = Tar::default()
            .entry(b"l", b'L', 0, &name.repeat(11))
            .file("ok", b"");
        refused(&long.end(), "ARCHIVE_NAME_INVALID", &[]);
    }
    let nul = Tar::default()
        .pax(b'x', &[("path", b"a\0b")])
        .file("ok", b"");
    refused(&nul.end(), "ARCHIVE_NAME_INVALID", &["NUL"]);
    refused(
        &Tar::default().file("", b"").end(),
        "ARCHIVE_NAME_INVALID",
        &["empty"],
    );
    refused(
        &Tar::default().file(".", b"").end(),
        "ARCHIVE_NAME_INVALID",
        &["name"],
    );
}

#[test]
fn each_limit_is_named_when_it_trips() {
    let large = Tar::default().file("large", &[1; 1_001]).end();
    refused(
        &large,
        "ARCHIVE_ENTRY_TOO_LARGE",
        &["\"large\"", "1001", "1000"],
    );
    // The declared size is enough: nothing is written first.
    let claim = Header {
        name: b"huge",
        flag: b'0',
        mode: 0o644,
        size: 0o7_777_777_777,
    };
    refused(
        &Tar::default().header(&claim).end(),
        "ARCHIVE_ENTRY_TOO_LARGE",
        &["\"huge\""],
    );
    let sum = Tar::default()
        .file("a", &[1; 900])
        .file("b", &[1; 900])
        .file("c", &[1; 900]);
    refused(&sum.end(), "ARCHIVE_TOO_LARGE", &["2000"]);
    let many = (0..9).fold(Tar::default(), |tar, n| tar.file(&n.to_string(), b""));
    refused(&many.end(), "ARCHIVE_TOO_MANY_ENTRIES", &["8"]);
    let deep = Tar::default().file("1/2/3/4/5/6/7/8/9/x", b"").end();
    refused(&deep, "ARCHIVE_TOO_MANY_ENTRIES", &["8"]);
    let padded = [Tar::default().end(), vec![0; 1 << 20]].concat();
    refused(&padded, "ARCHIVE_TOO_LARGE", &["unpacked"]);
    let roomy = Limits {
        archive_unpacked_bytes: 1 << 30,
        ..small()
    };
    let error = unpack_here(&padded, &roomy).1.unwrap_err();
    assert_eq!(error.code(), "ARCHIVE_TOO_LARGE");
    assert!(error.to_string().contains("1048576 bytes packed"));
}

#[test]
fn a_bomb_is_refused_while_it_grows() {
    let limits = limits::for_worker();
    let zeros = Tar::default().file("zeros", &vec![0; 64 << 20]).end();
    for bytes in [gzip(&zeros), zstd(&zeros)] {
        let (_dir, result) = unpack_here(&bytes, &limits);
        let error = result.unwrap_err();
        assert_eq!(error.code(), "ARCHIVE_TOO_COMPRESSIBLE");
        assert!(error.to_string().contains(&ARCHIVE_RATIO.to_string()));
    }
    // So is one that hides behind the end mark.
    let after = [Tar::default().end(), vec![0; 64 << 20]].concat();
    let (_dir, result) = unpack_here(&gzip(&after), &limits);
    assert_eq!(result.unwrap_err().code(), "ARCHIVE_TOO_COMPRESSIBLE");
}

#[test]
fn a_small_file_of_zeros_is_no_bomb() {
    let zeros = Tar::default()
        .file("zeros", &vec![0; usize::try_from(MIB).unwrap() / 2])
        .end();
    unpack_here(&gzip(&zeros), &limits::for_worker()).1.unwrap();
}

#[test]
fn every_torn_or_altered_archive_is_damage() {
    let tar = Tar::default().file("a", b"content").directory("b");
    refused(b"", "ARCHIVE_CORRUPT", &["empty"]);
    refused(&[b'x'; 512], "ARCHIVE_CORRUPT", &["checksum"]);
    refused(b"short", "ARCHIVE_CORRUPT", &["missing"]);
    let whole = tar.end();
    for cut in [100, 512, 515, 1_024, 1_100, 1_536] {
        refused(&whole[..cut], "ARCHIVE_CORRUPT", &["missing"]);
    }
    for packed in [gzip(&whole), zstd(&whole)] {
        refused(&packed[..packed.len() - 5], "ARCHIVE_CORRUPT", &[]);
        refused(&[&packed[..], b"garbage"].concat(), "ARCHIVE_CORRUPT", &[]);
    }
    let mut flipped = whole.clone();
    flipped[0] ^= 1;
    refused(&flipped, "ARCHIVE_CORRUPT", &["checksum"]);
    let mut gz = gzip(&whole);
    let last = gz.len() - 8;
    gz[last] ^= 1;
    refused(&gz, "ARCHIVE_CORRUPT", &["gzip"]);
    refused(
        &[&whole[..], b"more"].concat(),
        "ARCHIVE_CORRUPT",
        &["after its end mark"],
    );
    let second = Tar::default().file("hidden", b"").end();
    refused(
        &[whole, second].concat(),
        "ARCHIVE_CORRUPT",
        &["after its end mark"],
    );
}

#[test]
fn headers_that_readers_would_take_differently_are_damage() {
    let two_sizes = Tar::default()
        .pax(b'x', &[("size", b"9")])
        .file("a", b"1234");
    refused(&two_sizes.end(), "ARCHIVE_CORRUPT", &["two sizes"]);
    let global = Tar::default()
        .pax(b'g', &[("path", b"evil")])
        .file("a", b"");
    refused(&global.end(), "ARCHIVE_CORRUPT", &["global"]);
    let twice = Tar::default()
        .pax(b'x', &[("path", b"a")])
        .pax(b'x', &[("path", b"b")]);
    refused(&twice.file("c", b"").end(), "ARCHIVE_CORRUPT", &["two"]);
    let names = Tar::default()
        .entry(b"l", b'L', 0, b"a")
        .entry(b"l", b'L', 0, b"b");
    refused(&names.file("c", b"").end(), "ARCHIVE_CORRUPT", &["two"]);
    let dangling = Tar::default().pax(b'x', &[("path", b"a")]);
    refused(&dangling.end(), "ARCHIVE_CORRUPT", &["ends after"]);
    refused(
        &Tar::default().entry(b"d", b'5', 0o755, b"x").end(),
        "ARCHIVE_CORRUPT",
        &["directory"],
    );
    let claim = Header {
        name: b"l",
        flag: b'L',
        mode: 0,
        size: 1 << 30,
    };
    refused(
        &Tar::default().header(&claim).end(),
        "ARCHIVE_CORRUPT",
        &["65536"],
    );
}

#[test]
fn other_formats_are_named() {
    refused(b"PK\x03\x04rest", "ARCHIVE_FORMAT_UNSUPPORTED", &["zip"]);
    refused(b"\xfd7zXZ\0rest", "ARCHIVE_FORMAT_UNSUPPORTED", &["xz"]);
    refused(b"BZh91AY&SY", "ARCHIVE_FORMAT_UNSUPPORTED", &["bzip2"]);
}

#[test]
fn what_is_left_out_is_told() {
    let tar = Tar::default()
        .file("main.tf", b"")
        .directory(".terraform/")
        .file(".terraform/modules/modules.json", b"{}")
        .file("terraform.tfstate", b"{}")
        .file("values.auto.tfvars", b"")
        .end();
    let (dir, result) = unpack_here(&tar, &small());
    let summary = result.unwrap();
    assert_eq!(
        names_below(&dir.path().join("work")),
        ["main.tf", "values.auto.tfvars"]
    );
    assert_eq!(summary.notices.len(), 2);
    assert!(summary.notices[0].contains(".terraform/") && summary.notices[0].contains("2 entries"));
    assert!(summary.notices[1].contains("state"));
}

#[test]
fn steering_files_are_refused_by_name() {
    for name in [".terraformrc", "terraform.rc", "terraform.d/plugins/p"] {
        refused(
            &Tar::default().file(name, b"").end(),
            "STEERING_FILE",
            &[name],
        );
    }
    let backend = b"terraform {\n  backend \"http\" {}\n}\n";
    refused(
        &Tar::default().file("x_override.tf", backend).end(),
        "STEERING_FILE",
        &["backend"],
    );
    let cloud = Tar::default().file("override.tf.json", br#"{"terraform":{"cloud":{}}}"#);
    refused(&cloud.end(), "STEERING_FILE", &["override.tf.json"]);
    let encryption = Tar::default().file("m.tofu", b"terraform {\n  encryption {}\n}\n");
    refused(&encryption.end(), "STEERING_FILE", &["encryption"]);
    let below = Tar::default().file("modules/x_override.tf", backend).end();
    unpack_here(&below, &small()).1.unwrap();
}

#[test]
fn a_configuration_file_too_large_to_check_is_refused() {
    let large = vec![b' '; usize::try_from(limits::CONFIGURATION_FILE).unwrap() + 1];
    let (_dir, result) = unpack_here(
        &Tar::default().file("m.tf", &large).end(),
        &limits::for_worker(),
    );
    assert_eq!(result.unwrap_err().code(), "CONFIGURATION_TOO_LARGE");
}

#[test]
fn a_link_that_is_already_there_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (into, outside) = (dir.path().join("work"), dir.path().join("outside"));
    fs::create_dir(&into).unwrap();
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, into.join("link")).unwrap();
    for name in ["link/file", "link/below/file", "link"] {
        let tar = Tar::default().file(name, b"x").end();
        let error = unpack(&tar[..], &into, &small()).unwrap_err();
        assert_eq!(error.code(), "ARCHIVE_UNPACK_FAILED", "{name}");
    }
    assert_eq!(names_below(&outside), Vec::<String>::new());
}

/// Makes bytes as they are asked for, and looks at each request how many of those made
/// before are not in the file yet: these are in memory.
struct Endless<'a> {
    made: u64,
    size: u64,
    file: &'a Path,
    most_held: &'a Cell<u64>,
}

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let written = fs::metadata(self.file).map_or(0, |file| file.len());
        self.most_held
            .set(self.most_held.get().max(self.made - written));
        let take = usize::try_from(self.size - self.made)
            .unwrap()
            .min(buffer.len());
        buffer[..take].fill(self.made.to_le_bytes()[2]);
        self.made += take as u64;
        Ok(take)
    }
}

#[test]
fn a_hundred_mebibytes_stream_through_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (size, file) = (100 * MIB, dir.path().join("blob.bin"));
    let header = Header {
        name: b"blob.bin",
        flag: b'0',
        mode: 0o644,
        size,
    };
    let most_held = Cell::new(0);
    let archive = io::Cursor::new(header.bytes().to_vec())
        .chain(Endless {
            made: 0,
            size,
            file: &file,
            most_held: &most_held,
        })
        .chain(io::Cursor::new(vec![0; 1_024]));
    let summary = unpack(archive, dir.path(), &limits::for_worker()).unwrap();
    assert_eq!(summary.bytes, size);
    assert_eq!(fs::metadata(&file).unwrap().len(), size);
    assert!(
        most_held.get() <= 256 * 1024,
        "{} bytes held",
        most_held.get()
    );
}

#[test]
fn two_thousand_small_files_unpack() {
    let tar = (0..2_000).fold(Tar::default(), |tar, n| {
        tar.file(&format!("modules/m{}/file{n}.tf", n % 50), b"# small\n")
    });
    let (dir, result) = unpack_here(&gzip(&tar.end()), &limits::for_worker());
    assert_eq!(result.unwrap().files, 2_000);
    assert_eq!(names_below(&dir.path().join("work")).len(), 2_000 + 50 + 1);
}

fn archive_like() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("a".to_owned()),
        Just("../a".to_owned()),
        Just("/a".to_owned()),
        Just("a/b/../../../c".to_owned()),
        "[a-c./]{1,12}",
    ];
    let flag = prop_oneof![
        Just(b'0'),
        Just(b'5'),
        Just(b'2'),
        Just(b'L'),
        Just(b'x'),
        any::<u8>()
    ];
    let entry = (
        name,
        flag,
        0_u32..0o10000,
        prop::collection::vec(any::<u8>(), 0..40),
    );
    (
        prop::collection::vec(entry, 0..6),
        prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    )
        .prop_map(|(entries, flip)| {
            let tar = entries
                .iter()
                .fold(Tar::default(), |tar, (name, flag, mode, content)| {
                    tar.entry(name.as_bytes(), *flag, *mode, content)
                });
            let mut bytes = tar.end();
            if let Some((index, value)) = flip {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_panic_or_write_outside(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2_000),
        archive_like(),
        archive_like().prop_map(|bytes| gzip(&bytes)),
    ]) {
        let (dir, _result) = unpack_here(&bytes, &small());
        let beside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        prop_assert_eq!(beside, ["work"]);
        for name in names_below(&dir.path().join("work")) {
            let kind = fs::symlink_metadata(dir.path().join("work").join(name)).unwrap().file_type();
            prop_assert!(kind.is_file() || kind.is_dir());
        }
    }
}
