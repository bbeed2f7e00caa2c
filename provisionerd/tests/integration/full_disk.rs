//! Disks that are full or too small: nothing that was made is lost, and whoever starts
//! something on one reads one clear line.

use std::path::Path;

use crate::harness::{Fleet, on_small_disk, skip};

/// Fills the disk below it in the middle of its apply and stays there until it is
/// interrupted, as long as there is no mark.
fn filler(directory: &Path, mark: &Path) {
    let text = r#"
resource "terraform_data" "first" {
  input = "made before"
}

resource "terraform_data" "fill" {
  depends_on = [terraform_data.first]

  provisioner "local-exec" {
    command = "if [ ! -e MARK ]; then dd if=/dev/zero of=filler bs=64k; echo full; sleep 60; fi; true"
  }
}

resource "terraform_data" "last" {
  depends_on = [terraform_data.fill]
  input      = join("", [for n in range(1024) : "made afterwards, and much of it: "])
}
"#;
    let mark = mark.to_str().expect("text");
    std::fs::create_dir(directory).expect("template");
    std::fs::write(directory.join("main.tf"), text.replace("MARK", mark)).expect("template");
}

#[test]
fn a_disk_that_fills_during_an_apply_costs_the_job_and_no_state() {
    let fleet = Fleet::start();
    let disk = fleet.dir().join("d");
    std::fs::create_dir(&disk).expect("directory");
    let mounted = on_small_disk(&disk, 60, || {
        let mut daemon = fleet.daemon("one", &[]);
        let (directory, mark) = (fleet.dir().join("filler"), fleet.dir().join("mark"));
        filler(&directory, &mark);
        fleet.push("filler", &directory, &[]).exits(0);
        let job = fleet.create("w", "filler");
        let ended = fleet.ended(&job);
        assert_eq!(ended["status"], "failed", "{ended:#}");
        assert_eq!(ended["error"]["code"], "DISK_PRESSURE", "{ended:#}");
        assert_eq!(ended["error"]["class"], "capacity", "{ended:#}");
        let kept = fleet.instances("w");
        assert!(
            kept.contains(&"terraform_data.first".to_owned()),
            "{kept:?}"
        );
        let in_doubt = ended["error"]["in_flight"].to_string();
        assert!(
            !in_doubt.contains("terraform_data.first"),
            "the kept state shows it: {in_doubt}"
        );
        fleet.assert_nothing_left(&mut daemon);

        std::fs::write(&mark, "").expect("mark");
        let next = fleet.json(&["workspaces", "start", "w"]);
        assert_eq!(next["job"]["status"], "succeeded");
        assert_eq!(
            fleet.instances("w"),
            [
                "terraform_data.fill",
                "terraform_data.first",
                "terraform_data.last"
            ]
        );
        fleet.assert_nothing_left(&mut daemon);
    });
    skip_without_mount("a disk that fills during an apply", mounted);
}

#[test]
fn a_disk_too_small_for_one_job_is_one_clear_line_at_the_start() {
    let fleet = Fleet::start();
    let disk = fleet.dir().join("small");
    std::fs::create_dir(&disk).expect("directory");
    let mounted = on_small_disk(&disk, 8, || {
        let key = fleet.dir().join("key");
        std::fs::write(&key, "not-asked-for").expect("key");
        let line = ["start", "--url", &fleet.url, "--name", "one", "--key-file"];
        let more = [key.to_str().expect("text"), "--data-dir"];
        let ran = fleet.run(&[&line[..], &more, &[disk.to_str().expect("text")]].concat());
        ran.exits(1).one_error("DATA_DIR_TOO_SMALL", "16777216");
    });
    skip_without_mount("a disk that is too small", mounted);
}

#[test]
fn quickstart_on_a_full_disk_is_one_clear_line() {
    let fleet = Fleet::start();
    let disk = fleet.dir().join("full");
    std::fs::create_dir(&disk).expect("directory");
    let mounted = on_small_disk(&disk, 24, || {
        let fill = std::fs::File::create(disk.join("filler")).expect("file");
        let full = rustix::fs::fallocate(&fill, rustix::fs::FallocateFlags::empty(), 0, 24 << 20);
        assert!(full.is_ok(), "{full:?}");
        let engine = fleet.tools.engine();
        let line = ["quickstart", "--engine", engine.to_str().expect("text")];
        let ran = fleet.run(&[&line[..], &["--data-dir", disk.to_str().expect("text")]].concat());
        ran.exits(1)
            .one_error("DISK_FULL", disk.to_str().expect("text"));
    });
    skip_without_mount("quickstart on a full disk", mounted);
}

fn skip_without_mount(what: &str, mounted: Result<(), String>) {
    if let Err(why) = mounted {
        skip(what, &why);
    }
}
