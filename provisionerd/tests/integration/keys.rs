//! A provisioner key that is deleted under a daemon with a job: nothing hangs, nothing is
//! forgotten.

use crate::harness::{Fleet, LONG, Scripted, fake_engine, wait_for};

#[test]
fn a_job_before_the_gate_whose_key_is_deleted_runs_elsewhere_and_its_daemon_ends() {
    let fleet = Fleet::start();
    let engine = fake_engine(fleet.dir());
    let engine = ["--engine", engine.to_str().expect("text")];
    let mut one = fleet.daemon("one", &engine);
    let script = "[plan]\nlinger INT 100 1\nlines 1 planning\nwait GO\n";
    let scripted = Scripted::new(&fleet, script);
    scripted.go();
    fleet.push("t", &scripted.directory, &[]).exits(0);
    scripted.wait();
    let job = fleet.create("w", "t");
    fleet.says(&job, "planning 1");
    fleet.run(&["keys", "delete", "one"]).exits(0);
    assert!(!one.process.ended(LONG).success(), "a daemon without a key");
    assert!(one.process.log().contains("KEY_REVOKED") || one.process.log().contains("revoked"));
    let mut two = fleet.daemon("two", &engine);
    fleet.job_when(&job, "runs elsewhere", |job| {
        job["daemon"] == "two" && job["status"] == "running"
    });
    scripted.go();
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    fleet.assert_nothing_left(&mut two);
}

#[test]
fn what_an_apply_made_whose_key_is_deleted_is_kept_until_there_is_a_valid_one() {
    let fleet = Fleet::start();
    let engine = fake_engine(fleet.dir());
    let engine = ["--engine", engine.to_str().expect("text")];
    let drain = [&engine[..], &["--drain-deadline", "10"]].concat();
    let mut one = fleet.daemon("one", &drain);
    let script = "[apply]\nlinger INT 100 1\nmade a.one 1\nstate 3\nlines 1 applying\nwait GO\n";
    let scripted = Scripted::new(&fleet, script);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "applying 1");
    fleet.run(&["keys", "delete", "one"]).exits(0);
    assert!(!one.process.ended(LONG).success(), "a daemon without a key");
    let jobs = std::fs::read_dir(one.directory.join("jobs")).expect("jobs");
    assert_eq!(jobs.count(), 1, "its journal is kept");
    // A new key under the old name, on the same directory.
    let mut again = fleet.daemon("one", &engine);
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "failed", "{ended:#}");
    let state = fleet.run(&["state", "pull", "w"]).exits(0).json();
    assert_eq!(state["serial"], 3);
    wait_for("the interrupted engine's word", LONG, || {
        let log = fleet.log(&job);
        log.iter().any(|line| line == "signal INT").then_some(())
    });
    fleet.assert_nothing_left(&mut again);
}
