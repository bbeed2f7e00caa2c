//! Builds that take their time: followed and drained.

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Fleet, LONG, Scripted, fake_engine, template, wait_for};

fn scripted_daemon(fleet: &Fleet, more: &[&str]) -> Daemon {
    let engine = fake_engine(fleet.dir());
    let engine = ["--engine", engine.to_str().expect("text")];
    fleet.daemon("one", &[&engine[..], more].concat())
}

fn again(fleet: &Fleet) -> Daemon {
    let engine = fleet.dir().join("fake-engine");
    fleet.again("one", &["--engine", engine.to_str().expect("text")])
}

/// A build that talks in its apply and waits for the test.
fn talking(fleet: &Fleet) -> (Scripted, String) {
    let script = "[apply]\nlines 1 talking\nwait GO\nstate 1\n";
    let scripted = Scripted::new(fleet, script);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "talking 1");
    (scripted, job)
}

/// Once it drains, a job that came later stays pending, however idle its slot becomes. That
/// one waits for the test, too.
#[track_caller]
fn takes_no_other(fleet: &Fleet, scripted: &Scripted, job: &str, other: &str) {
    scripted.go();
    assert_eq!(fleet.ended(job)["status"], "succeeded");
    scripted.wait();
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
    let mut daemon = scripted_daemon(&fleet, &[]);
    let (scripted, job) = talking(&fleet);
    daemon.process.signal(Signal::SIGTERM);
    daemon.process.announced("SIGTERM: ", LONG);
    draining(&fleet);
    let other = fleet.create("other", "t");
    takes_no_other(&fleet, &scripted, &job, &other);
    assert!(daemon.process.ended(LONG).success());
    assert_eq!(fleet.job(&other)["status"], "pending");
    // Its next start has nothing to do with the signal.
    let _again = again(&fleet);
    fleet.job_when(&other, "runs", |job| job["status"] == "running");
}

#[test]
fn a_daemon_drained_from_afar_finishes_its_job_and_takes_no_other() {
    let fleet = Fleet::start();
    let mut daemon = scripted_daemon(&fleet, &["--slots", "2"]);
    let (scripted, job) = talking(&fleet);
    let drained = fleet.json(&["daemons", "drain", "one"]);
    assert_eq!(drained["name"], "one");
    draining(&fleet);
    let other = fleet.create("other", "t");
    takes_no_other(&fleet, &scripted, &job, &other);
    assert!(daemon.process.ended(LONG).success());
    let mut in_vain = again(&fleet);
    assert!(in_vain.process.ended(LONG).success());
    let log = in_vain.process.log();
    assert!(log.contains("daemons undrain one"), "{log}");
    assert_eq!(fleet.job(&other)["status"], "pending");
    let undrained = fleet.json(&["daemons", "undrain", "one"]);
    assert_eq!(undrained["drained"], false);
    let _again = again(&fleet);
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
