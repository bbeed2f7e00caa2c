//! Builds that take their time: cancelled, followed, and drained.

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

#[test]
fn a_cancel_in_the_middle_of_an_apply_keeps_what_was_made() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    let job = talking(&fleet, "60");
    fleet.run(&["jobs", "cancel", &job]).exits(0);
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "canceled");
    assert_eq!(
        fleet.instances("w").len(),
        3,
        "the started ones are tainted, not lost"
    );
}

#[test]
fn a_pending_job_is_cancelled_at_once() {
    let fleet = Fleet::start();
    let line = [
        "templates",
        "push",
        "q",
        "--no-wait",
        "--output",
        "json",
        "-d",
    ];
    let directory = template("quickstart");
    let directory = directory.to_str().expect("text");
    let pushed = fleet
        .run(&[&line[..], &[directory]].concat())
        .exits(0)
        .json();
    let job = pushed["job"]["id"].as_str().expect("id");
    assert_eq!(fleet.job(job)["status"], "pending");
    fleet.run(&["jobs", "cancel", job]).exits(0);
    assert_eq!(fleet.ended(job)["status"], "canceled");
}

#[test]
fn a_drained_daemon_finishes_its_job_and_takes_no_other() {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &[]);
    let job = talking(&fleet, "3");
    daemon.process.signal(Signal::SIGTERM);
    assert_eq!(fleet.ended(&job)["status"], "succeeded");
    assert!(daemon.process.ended(LONG).success());
}
