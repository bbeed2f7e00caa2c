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

#[test]
fn a_drained_daemon_finishes_its_job_and_takes_no_other() {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &[]);
    let job = talking(&fleet, "3");
    daemon.process.signal(Signal::SIGTERM);
    assert_eq!(fleet.ended(&job)["status"], "succeeded");
    assert!(daemon.process.ended(LONG).success());
}
