//! What an engine printed and what its state shows, when both differ: nothing that was made
//! is in no state and in no list.

use serde_json::Value;

use crate::harness::{Daemon, Fleet, LONG, Scripted, fake_engine, wait_for};

fn scripted_daemon(fleet: &Fleet) -> Daemon {
    let engine = fake_engine(fleet.dir());
    fleet.daemon("one", &["--engine", engine.to_str().expect("text")])
}

fn begin(fleet: &Fleet, script: &str) -> (Scripted, String) {
    let scripted = Scripted::new(fleet, script);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    (scripted, job)
}

#[track_caller]
fn in_doubt(ended: &Value) -> String {
    assert_eq!(ended["status"], "failed", "{ended:#}");
    ended["error"]["in_flight"].to_string()
}

fn serial(fleet: &Fleet) -> u64 {
    let state = fleet.run(&["state", "pull", "w"]).exits(0).json();
    state["serial"].as_u64().expect("a serial")
}

#[test]
fn what_was_printed_long_before_the_death_and_is_in_no_state_is_named() {
    let fleet = Fleet::start();
    let mut daemon = scripted_daemon(&fleet);
    // Three seconds between the printing and the death, as of an engine whose disk stalls.
    let script = "[apply]\nstate 7\nmade a.one 1\nevery 250 12 stalled\ndie KILL\n";
    let (_scripted, job) = begin(&fleet, script);
    let doubt = in_doubt(&fleet.ended(&job));
    assert!(doubt.contains("a.one"), "{doubt}");
    assert_eq!(serial(&fleet), 7);
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_state_that_was_emptied_before_the_death_is_the_checkpoint_before() {
    let fleet = Fleet::start();
    let mut daemon = scripted_daemon(&fleet);
    let script = "[apply]\nstate 3\nlines 1 made\nwait GO\nempty\ndie KILL\n";
    let (scripted, job) = begin(&fleet, script);
    fleet.says(&job, "made 1");
    wait_for("a checkpoint", LONG, || {
        let jobs = std::fs::read_dir(daemon.directory.join("jobs"))
            .ok()?
            .flatten();
        let mut keeps = jobs.map(|job| job.path().join("keep/checkpoint-1.tfstate"));
        keeps.find(|path| path.exists())
    });
    scripted.go();
    in_doubt(&fleet.ended(&job));
    assert_eq!(serial(&fleet), 3);
    // The next build starts from it: its own state is no lower, and the same lineage's.
    scripted.wait();
    let started = fleet.json(&["workspaces", "start", "w", "--no-wait"]);
    let next = started["job"]["id"].as_str().expect("id").to_owned();
    fleet.says(&next, "made 1");
    scripted.go();
    in_doubt(&fleet.ended(&next));
    assert_eq!(serial(&fleet), 3);
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_state_that_an_engine_could_not_save_in_its_place_is_taken_from_where_it_put_it() {
    let fleet = Fleet::start();
    let mut daemon = scripted_daemon(&fleet);
    let script = "[apply]\nstate 3\nmade a.one 1\nempty\nerrored 5\nexit 1\n";
    let (_scripted, job) = begin(&fleet, script);
    fleet.ended(&job);
    assert_eq!(serial(&fleet), 5);
    fleet.assert_nothing_left(&mut daemon);
}
