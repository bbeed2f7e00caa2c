//! A queue that was put back to an older backup while a job ran: the job goes on, and what
//! it brings is kept.

use std::path::Path;

use crate::harness::{Fleet, LONG, Scripted, Waits, fake_engine, wait_for};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("directory") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy");
        }
    }
}

const APPLY: &str = "[apply]\nmade a.one 1\nstate 3\nlines 1 applying\nwait GO\n\
made a.two 2\nstate 4\nlines 1 further\nwait GO2\nmade a.three 3\nstate 5\n";

#[test]
fn an_apply_outlives_a_queue_that_was_put_back_to_an_older_backup() {
    let mut fleet = Fleet::with(Waits::Short);
    let engine = fake_engine(fleet.dir());
    let mut daemon = fleet.daemon("one", &["--engine", engine.to_str().expect("text")]);
    let scripted = Scripted::new(&fleet, APPLY);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "applying 1");
    wait_for("the first checkpoint is at the queue", LONG, || {
        let history = fleet.json(&["state", "history", "w"]);
        (history[0]["serial"] == 3).then_some(())
    });
    let (live, backup) = (fleet.dir().join("q"), fleet.dir().join("backup"));
    fleet.kill_queue();
    copy(&live, &backup);
    fleet.start_queue();
    scripted.go();
    fleet.says(&job, "further 1");
    fleet.kill_queue();
    std::fs::remove_dir_all(&live).expect("the newer data go");
    copy(&backup, &live);
    fleet.start_queue();
    std::fs::write(fleet.dir().join("go2"), "").expect("file");
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    assert_eq!(ended["attempt"], 1, "{ended:#}");
    let state = fleet.run(&["state", "pull", "w"]).exits(0).json();
    assert_eq!(state["serial"], 5);
    fleet.assert_nothing_left(&mut daemon);
}
