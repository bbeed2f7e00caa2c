//! A cancel in every phase: one interrupt, what was made is at the queue, the status is
//! `canceled`, nothing is left, soon.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Daemon, Fleet, Scripted, Waits, fake_engine, template};

/// Two seconds are promised; a machine with other things to do gets more, and an engine
/// that is killed at the end of its grace of ten minutes is never taken for one that went.
const SOON: Duration = Duration::from_secs(10);

/// One resource is there when the others still talk, a line every 300 ms.
const HALF_WAY: &str = r#"
resource "terraform_data" "quick" {}

resource "terraform_data" "slow" {
  count      = 2
  depends_on = [terraform_data.quick]

  provisioner "local-exec" {
    command = "tick=0; while [ $tick -lt 600 ]; do tick=$(( $tick + 1 )); echo tick $tick; sleep 0.3; done"
  }
}
"#;

/// Cancels and waits for the verdict.
#[track_caller]
fn cancel(fleet: &Fleet, what: &str, job: &str, more: &[&str]) {
    let asked = Instant::now();
    fleet
        .run(&[&["jobs", "cancel", job], more].concat())
        .exits(0);
    let ended = fleet.ended(job);
    let took = asked.elapsed();
    eprintln!("measured: cancel {what} to status: {} ms", took.as_millis());
    assert_eq!(ended["status"], "canceled", "{ended:#}");
    assert!(took < SOON, "{took:?}");
}

/// How many interrupts the engine has told of.
fn interrupts(fleet: &Fleet, job: &str, words: &str) -> usize {
    let log = fleet.log(job);
    log.iter().filter(|line| line.contains(words)).count()
}

/// Instances of the resource that were not made whole.
fn tainted(state: &serde_json::Value, name: &str) -> usize {
    let resources = state["resources"].as_array().expect("resources");
    let own = resources.iter().filter(|resource| resource["name"] == name);
    let instances = own.filter_map(|resource| resource["instances"].as_array());
    let instances = instances.flatten();
    instances.filter(|one| one["status"] == "tainted").count()
}

fn scripted_daemon(fleet: &Fleet) -> Daemon {
    let engine = fake_engine(fleet.dir());
    fleet.daemon("one", &["--engine", engine.to_str().expect("text")])
}

#[test]
fn a_pending_job_is_cancelled_at_once() {
    let fleet = Fleet::start();
    let line = ["templates", "push", "q", "--no-wait", "-d"];
    let directory = template("quickstart");
    let pushed = fleet.json(&[&line[..], &[directory.to_str().expect("text")]].concat());
    let job = pushed["job"]["id"].as_str().expect("id");
    assert_eq!(fleet.job(job)["status"], "pending");
    cancel(&fleet, "while pending", job, &[]);
}

#[test]
fn a_cancel_in_init_or_plan_interrupts_the_engine_once() {
    for phase in ["init", "plan"] {
        let fleet = Fleet::start();
        let mut daemon = scripted_daemon(&fleet);
        let script = format!("[{phase}]\nlinger INT 200 1\nlines 1 hanging\nwait GO\n");
        let scripted = Scripted::new(&fleet, &script);
        scripted.go();
        fleet.push("t", &scripted.directory, &[]).exits(0);
        scripted.wait();
        let job = fleet.create("w", "t");
        fleet.says(&job, "hanging 1");
        assert_eq!(fleet.job(&job)["status"], "running");
        cancel(&fleet, &format!("in {phase}"), &job, &[]);
        assert_eq!(interrupts(&fleet, &job, "signal INT"), 1);
        fleet.assert_nothing_left(&mut daemon);
    }
}

#[test]
fn an_engine_that_ignores_a_cancel_is_killed_after_the_grace_of_its_daemon() {
    let fleet = Fleet::start();
    let engine = fake_engine(fleet.dir());
    let engine = [
        "--engine",
        engine.to_str().expect("text"),
        "--cancel-grace",
        "1",
    ];
    let mut daemon = fleet.daemon("one", &engine);
    let script = "[apply]\nignore INT\nmade a.one 1\nstate 3\nlines 1 hanging\nwait GO\n";
    let scripted = Scripted::new(&fleet, script);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "hanging 1");
    cancel(&fleet, "of an engine that ignores it", &job, &[]);
    fleet.assert_nothing_left(&mut daemon);
}

/// Cancels in the middle of an apply of slow resources that talk.
fn in_apply(engine: &Path, interrupted: &str) {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &["--engine", engine.to_str().expect("text")]);
    let directory = fleet.dir().join("half-way");
    std::fs::create_dir(&directory).expect("template");
    std::fs::write(directory.join("main.tf"), HALF_WAY).expect("template");
    fleet.push("slow", &directory, &[]).exits(0);
    let job = fleet.create("w", "slow");
    fleet.all_under_way(&job, 2);
    let name = engine
        .file_name()
        .expect("name")
        .to_string_lossy()
        .into_owned();
    cancel(&fleet, &format!("in apply of {name}"), &job, &[]);
    assert_eq!(
        interrupts(&fleet, &job, interrupted),
        1,
        "{:#?}",
        fleet.log(&job)
    );
    assert_eq!(interrupts(&fleet, &job, "Two interrupts"), 0, "one SIGINT");
    let made = fleet.instances("w");
    assert_eq!(made.len(), 3, "tainted, not lost: {made:?}");
    let state = fleet.run(&["state", "pull", "w"]).exits(0).json();
    assert_eq!(
        tainted(&state, "quick"),
        0,
        "it was there before: {state:#}"
    );
    assert_eq!(tainted(&state, "slow"), 2, "{state:#}");
    fleet.assert_nothing_left(&mut daemon);
    fleet.run(&["workspaces", "delete", "w"]).exits(0);
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_cancel_in_apply_keeps_what_terraform_made() {
    let tools = crate::harness::Tools::find();
    match &tools.terraform {
        Some(engine) => in_apply(engine, "Interrupt received"),
        None => crate::harness::skip("cancel in an apply of Terraform", "no terraform"),
    }
}

#[test]
fn a_cancel_in_apply_keeps_what_opentofu_made() {
    let tools = crate::harness::Tools::find();
    match &tools.tofu {
        Some(engine) => in_apply(engine, "Interrupt received"),
        None => crate::harness::skip("cancel in an apply of OpenTofu", "no tofu"),
    }
}

#[test]
fn a_forced_cancel_ends_an_engine_that_ignores_its_interrupt() {
    let fleet = Fleet::with(Waits::Short);
    let mut daemon = scripted_daemon(&fleet);
    let script = "[apply]\nignore INT\nfork 600\nmade a.one 1\nstate 7\nlines 1 hanging\nwait GO\n";
    let scripted = Scripted::new(&fleet, script);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "hanging 1");
    cancel(&fleet, "by force in apply", &job, &["--force"]);
    let state = fleet.run(&["state", "pull", "w"]).exits(0).json();
    assert_eq!(state["serial"], 7);
    fleet.assert_nothing_left(&mut daemon);
    scripted.go();
    fleet.run(&["workspaces", "start", "w"]).exits(0);
}

#[test]
fn a_force_after_a_cancel_shortens_the_grace() {
    let fleet = Fleet::with(Waits::Short);
    let mut daemon = scripted_daemon(&fleet);
    let script = "[apply]\nlinger INT 600000 1\nlines 1 hanging\nwait GO\n";
    let scripted = Scripted::new(&fleet, script);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "hanging 1");
    fleet.run(&["jobs", "cancel", &job]).exits(0);
    fleet.says(&job, "signal INT");
    assert_eq!(fleet.job(&job)["status"], "canceling");
    cancel(&fleet, "by force after a cancel", &job, &["--force"]);
    assert_eq!(interrupts(&fleet, &job, "signal INT"), 1);
    fleet.assert_nothing_left(&mut daemon);
}
