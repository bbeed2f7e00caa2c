//! How a daemon leaves: with a notice of thirty seconds in the middle of an apply, after
//! one job, after a time without any.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Fleet, LONG, Scripted, fake_engine, template};

/// What a cloud gives a machine that it takes away.
const NOTICE: Duration = Duration::from_secs(30);

fn scripted_daemon(fleet: &Fleet, more: &[&str]) -> Daemon {
    let engine = fake_engine(fleet.dir());
    let engine = ["--engine", engine.to_str().expect("text")];
    fleet.daemon("one", &[&engine[..], more].concat())
}

/// SIGTERM now; the daemon is gone, and its job has its verdict, within the notice.
#[track_caller]
fn leaves_in_time(fleet: &Fleet, daemon: &mut Daemon, job: &str) {
    let since = Instant::now();
    daemon.process.signal(Signal::SIGTERM);
    let status = daemon.process.ended(LONG);
    let took = since.elapsed();
    eprintln!(
        "measured: notice to the daemon's end: {} ms",
        took.as_millis()
    );
    assert!(status.success() && took < NOTICE, "{status} after {took:?}");
    // Nobody is there any more to bring it later.
    let ended = fleet.job(job);
    assert_eq!(ended["status"], "failed", "{ended:#}");
    assert_eq!(ended["error"]["code"], "DAEMON_DRAINED", "{ended:#}");
    fleet.assert_nothing_left(daemon);
}

#[test]
fn a_preemption_notice_is_time_enough_to_interrupt_an_apply_and_bring_its_state() {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &["--drain-deadline", "30"]);
    let slow = ["--variable", "seconds=600"];
    fleet.push("slow", &template("slow"), &slow).exits(0);
    let job = fleet.create("w", "slow");
    fleet.all_under_way(&job, 3);
    leaves_in_time(&fleet, &mut daemon, &job);
    assert_eq!(fleet.instances("w").len(), 3);
}

#[test]
fn a_preemption_notice_is_time_enough_for_an_engine_that_must_be_killed() {
    let fleet = Fleet::start();
    let mut daemon = scripted_daemon(&fleet, &["--drain-deadline", "30"]);
    let script = "[apply]\nignore INT\nmade a.one 1\nstate 7 4000000\nlines 1 hanging\nwait GO\n";
    let scripted = Scripted::new(&fleet, script);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "hanging 1");
    leaves_in_time(&fleet, &mut daemon, &job);
    let state = fleet.run(&["state", "pull", "w"]).exits(0).json();
    assert_eq!(state["serial"], 7);
}

#[test]
fn an_apply_that_ends_within_the_notice_is_not_interrupted() {
    let fleet = Fleet::start();
    let mut daemon = scripted_daemon(&fleet, &["--drain-deadline", "60"]);
    let scripted = Scripted::new(
        &fleet,
        "[apply]\nstate 7\nlines 1 going\nwait GO\nstate 8\n",
    );
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "going 1");
    daemon.process.signal(Signal::SIGTERM);
    scripted.go();
    assert!(daemon.process.ended(LONG).success());
    let ended = fleet.job(&job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    let state = fleet.run(&["state", "pull", "w"]).exits(0).json();
    assert_eq!(state["serial"], 8);
}

#[test]
fn a_daemon_for_one_job_takes_one_and_leaves_when_it_is_stored() {
    let fleet = Fleet::start();
    let engine = fake_engine(fleet.dir());
    let engine = ["--once", "--engine", engine.to_str().expect("text")];
    let mut daemon = fleet.daemon("one", &engine);
    let directory = template("quickstart");
    let directory = directory.to_str().expect("text");
    let push = |name| {
        let line = ["templates", "push", name, "--no-wait", "-d", directory];
        let pushed = fleet.json(&line);
        pushed["job"]["id"].as_str().expect("id").to_owned()
    };
    let (first, second) = (push("first"), push("second"));
    assert!(daemon.process.ended(LONG).success());
    assert_eq!(fleet.job(&first)["status"], "succeeded");
    assert_eq!(fleet.job(&second)["status"], "pending");
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_daemon_that_may_idle_for_a_while_stays_through_its_jobs_and_leaves_after_them() {
    let fleet = Fleet::start();
    // The job is there before the daemon, and takes longer than that may idle.
    let (works, idles) = (Duration::from_secs(6), Duration::from_secs(4));
    let scripted = Scripted::new(&fleet, "[plan]\nevery 500 12 working\n");
    let pushed = fleet
        .push("t", &scripted.directory, &["--no-wait"])
        .exits(0);
    let job = pushed.json()["job"]["id"].as_str().expect("id").to_owned();
    let begun = Instant::now();
    let mut daemon = scripted_daemon(&fleet, &["--exit-after-idle", "4"]);
    assert!(daemon.process.ended(LONG).success());
    let stayed = begun.elapsed();
    assert!(
        stayed + Duration::from_secs(1) > works + idles,
        "{stayed:?}"
    );
    assert_eq!(fleet.job(&job)["status"], "succeeded");
    fleet.assert_nothing_left(&mut daemon);
}
