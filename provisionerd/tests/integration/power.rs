//! The power goes: what the queue has acknowledged and what a daemon has promised itself is
//! on the disk, file and directory. Nothing else that was written needs to be.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Fleet, Scripted, descendants, fake_engine, on_disk, skip, wait_for_ends};

/// A state too large for a row: a blob of its own.
const DONE: &str = "[apply]\nmade a.done d\nstate 9 300000\n";
/// In its apply, with one resource of which only the ledger knows.
const UNDER_WAY: &str = "[apply]\nmade a.one first\nlines 3 applied\nwait GO\n";
const DISK_MIB: u32 = 160;

#[test]
fn a_power_cut_costs_nothing_that_was_acknowledged() {
    after_a_cut(|ended| {
        // The gate was in the journal before the queue was asked: it is not run again.
        assert_eq!(ended["error"]["code"], "DAEMON_RESTARTED", "{ended:#}");
        assert_eq!(ended["attempt"], 1, "{ended:#}");
    });
}

#[test]
fn what_the_queue_has_heard_of_is_named_after_a_power_cut() {
    after_a_cut(|ended| {
        let named = &ended["error"]["unconfirmed"][0];
        let found = (&named["address"], &named["id"]);
        assert_eq!(found, (&"a.one".into(), &"first".into()), "{ended:#}");
    });
}

/// A build done, another one in its apply, the cut, and what `judge` says of the second.
fn after_a_cut(judge: impl FnOnce(&Value) + Send) {
    let dir = Fleet::directory();
    let (image, at) = (dir.path().join("image"), dir.path().join("k"));
    std::fs::create_dir(&at).expect("directory");
    let ran = on_disk(&image, &at, DISK_MIB, |mut disk| {
        // Short: the way of a TMPDIR must be.
        let mut inside = tempfile::Builder::new();
        let inside = inside.prefix("").rand_bytes(2).tempdir_in(&at);
        let mut fleet = Fleet::on(inside.expect("directory"));
        let engine = fake_engine(dir.path());
        let engine = ["--engine", engine.to_str().expect("text")];
        let mut daemon = fleet.daemon("one", &engine);
        // What an operator wrote long ago.
        let key = std::fs::File::open(fleet.dir().join("one.key"));
        key.and_then(|key| key.sync_all()).expect("the key file");
        for (name, script) in [("done", DONE), ("under-way", UNDER_WAY)] {
            let scripted = Scripted::named(&fleet, name, script);
            fleet.push(name, &scripted.directory, &[]).exits(0);
        }
        assert_eq!(
            fleet.ended(&fleet.create("w", "done"))["status"],
            "succeeded"
        );
        let job = fleet.create("v", "under-way");
        fleet.says(&job, "applied 3");
        let below = descendants(daemon.process.pid().as_raw());
        fleet.kill_queue();
        daemon.process.kill();
        for process in &below {
            // Some ended with their parents.
            let _gone = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        // A sync of theirs would be one of the whole disk.
        wait_for_ends(&below);
        // What makes the cut one: this is written, and nobody syncs it.
        let unsynced = fleet.dir().join("unsynced");
        std::fs::write(&unsynced, "gone").expect("file");
        disk.cut();
        assert!(!unsynced.exists(), "the cut loses what is not synced");
        fleet.start_queue();
        let state = fleet.run(&["state", "pull", "w"]).exits(0).json();
        assert_eq!(state["serial"], 9);
        let logged = fleet.log(&job);
        assert!(logged.contains(&"applied 3".to_owned()), "{logged:#?}");
        let mut daemon = fleet.again("one", &engine);
        judge(&fleet.ended(&job));
        fleet.assert_nothing_left(&mut daemon);
    });
    if let Err(why) = ran {
        skip("power cut", &why);
    }
}
