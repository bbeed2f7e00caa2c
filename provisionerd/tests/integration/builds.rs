//! Builds that take their time: followed and drained.

use nix::sys::signal::Signal;

use crate::harness::{Fleet, LONG, template, wait_for};

/// Starts a build of slow resources and returns its job once it talks.
fn talking(fleet: &Fleet, seconds: &str) -> String {
    let variable = format!("seconds={seconds}");
    fleet
        .push("slow", &template("slow"), &["--variable", &variable])
        .exits(0);
    let made = fleet.json(&[
        "workspaces",
        "create",
        "w",
        "--template",
        "slow",
        "--no-wait",
    ]);
    let job = made["job"]["id"].as_str().expect("id").to_owned();
    wait_for("the first tick", LONG, || {
        let lines = fleet.log(&job);
        lines.iter().any(|line| line.contains("tick")).then_some(())
    });
    job
}

/// Once it drains, a job that came later stays pending, however idle its slot becomes.
#[track_caller]
fn takes_no_other(fleet: &Fleet, job: &str, other: &str) {
    assert_eq!(fleet.ended(job)["status"], "succeeded");
    assert_eq!(fleet.job(other)["status"], "pending");
}

/// Draining, as the queue knows it.
fn draining(fleet: &Fleet) {
    wait_for("the queue knows of the drain", LONG, || {
        let daemons = fleet.json(&["daemons", "list"]);
        let one = daemons.as_array()?.first()?.clone();
        (one["status"] == "draining").then_some(())
    });
}

#[test]
fn a_drained_daemon_finishes_its_job_and_takes_no_other() {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &[]);
    let job = talking(&fleet, "6");
    daemon.process.signal(Signal::SIGTERM);
    daemon.process.announced("SIGTERM: ", LONG);
    draining(&fleet);
    let other = fleet.create("other", "slow");
    takes_no_other(&fleet, &job, &other);
    assert!(daemon.process.ended(LONG).success());
    assert_eq!(fleet.job(&other)["status"], "pending");
    // Its next start has nothing to do with the signal.
    let _again = fleet.again("one", &[]);
    fleet.job_when(&other, "runs", |job| job["status"] == "running");
}

#[test]
fn a_daemon_drained_from_afar_finishes_its_job_and_takes_no_other() {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &["--slots", "2"]);
    let job = talking(&fleet, "6");
    let drained = fleet.json(&["daemons", "drain", "one"]);
    assert_eq!(drained["name"], "one");
    draining(&fleet);
    let other = fleet.create("other", "slow");
    takes_no_other(&fleet, &job, &other);
    assert!(daemon.process.ended(LONG).success());
    let mut in_vain = fleet.again("one", &[]);
    assert!(in_vain.process.ended(LONG).success());
    let log = in_vain.process.log();
    assert!(log.contains("daemons undrain one"), "{log}");
    assert_eq!(fleet.job(&other)["status"], "pending");
    let undrained = fleet.json(&["daemons", "undrain", "one"]);
    assert_eq!(undrained["drained"], false);
    let _again = fleet.again("one", &[]);
    fleet.job_when(&other, "runs", |job| job["status"] == "running");
}

/// The marks stand outside the state, as machines at a cloud do.
#[test]
fn what_a_workspace_made_comes_back_with_a_start_and_is_gone_after_its_delete() {
    let fleet = Fleet::start();
    let marks = fleet.dir().join("marks");
    std::fs::create_dir(&marks).expect("directory");
    let path = marks.to_str().expect("text");
    let mut daemon = fleet.daemon("one", &["--bind", &format!("{path}:rw")]);
    let variable = format!("marks={path}");
    let line = ["--variable", &variable, "--variable", "seconds=0"];
    fleet.push("slow", &template("slow"), &line).exits(0);
    let there = || std::fs::read_dir(&marks).expect("marks").count();
    fleet.json(&["workspaces", "create", "w", "--template", "slow"]);
    assert_eq!((there(), fleet.instances("w").len()), (3, 3));
    for transition in ["stop", "start"] {
        fleet.json(&["workspaces", transition, "w"]);
        assert_eq!(
            (there(), fleet.instances("w").len()),
            (3, 3),
            "{transition}"
        );
    }
    fleet.json(&["workspaces", "delete", "w"]);
    assert_eq!(there(), 0, "the delete has unmade them");
    fleet.assert_nothing_left(&mut daemon);
}
