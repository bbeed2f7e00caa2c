//! One failure per phase: each job ends `failed` with a code of its own, its state is
//! kept, nothing of it is left on the daemon's host, and the next job is unharmed.

use serde_json::Value;

use crate::harness::{Daemon, Fleet, Ran, Scripted, fake_engine, template};

/// Code and class of a job that failed.
#[track_caller]
fn verdict(job: &Value) -> (String, String) {
    assert_eq!(job["status"], "failed", "{job:#}");
    let text = |field: &str| job["error"][field].as_str().unwrap_or_default().to_owned();
    (text("code"), text("class"))
}

#[track_caller]
fn assert_verdict(ran: &Ran, code: &str, class: &str) {
    let document = ran.json();
    let found = verdict(&document["job"]);
    assert_eq!(found, (code.to_owned(), class.to_owned()), "{document:#}");
}

/// The first build of a workspace `w`, whatever comes of it.
fn create(fleet: &Fleet, of: &str) -> Ran {
    let line = ["workspaces", "create", "w", "--template", of];
    fleet.run(&[&line[..], &["--output", "json"]].concat())
}

#[track_caller]
fn next_job_is_unharmed(fleet: &Fleet, daemon: &mut Daemon) {
    fleet.assert_nothing_left(daemon);
    fleet.push("next", &template("quickstart"), &[]).exits(0);
    let made = fleet.json(&["workspaces", "create", "next", "--template", "next"]);
    assert_eq!(made["job"]["status"], "succeeded");
    fleet.assert_nothing_left(daemon);
}

#[test]
fn an_import_fails_in_its_phase_with_its_own_code() {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &[]);
    for (name, code) in [
        ("bad-hcl", "TEMPLATE_INVALID"),
        ("init-error", "MODULE_NOT_AVAILABLE"),
        ("plan-error", "CONDITION_FAILED"),
    ] {
        let directory = template("failing").join(name);
        let ran = fleet.push(name, &directory, &[]).exits(1);
        assert_verdict(&ran, code, "user");
        if name == "bad-hcl" {
            let document = ran.json();
            let message = document["job"]["error"]["message"].as_str();
            assert!(
                message.is_some_and(|text| text.contains("main.tf:7")),
                "{message:?}"
            );
        }
    }
    next_job_is_unharmed(&fleet, &mut daemon);
}

#[test]
fn an_apply_that_fails_half_way_keeps_what_was_made() {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &[]);
    let directory = template("failing/apply-error");
    fleet.push("half", &directory, &[]).exits(0);
    let ran = create(&fleet, "half").exits(1);
    assert_verdict(&ran, "APPLY_FAILED", "provider");
    let kept = fleet.instances("w");
    let made = kept.iter().filter(|address| address.contains(".made["));
    assert_eq!(made.count(), 3, "{kept:?}");
    assert!(!kept.iter().any(|a| a.contains(".never")), "{kept:?}");
    next_job_is_unharmed(&fleet, &mut daemon);
}

#[test]
fn a_killed_engine_is_told_apart_and_its_state_is_kept() {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &[]);
    let directory = template("failing/engine-killed");
    fleet.push("killed", &directory, &[]).exits(0);
    let ran = create(&fleet, "killed").exits(1);
    assert_verdict(&ran, "ENGINE_KILLED", "internal");
    // Terraform writes its state after each resource, OpenTofu every 20 s.
    if fleet.tools.terraform.is_some() {
        let kept = fleet.instances("w");
        assert!(kept.iter().any(|a| a == "terraform_data.made"), "{kept:?}");
    }
    next_job_is_unharmed(&fleet, &mut daemon);
}

#[test]
fn a_provider_that_fails_in_plan_is_not_the_templates_fault() {
    let fleet = Fleet::start();
    if !fleet.tools.has_provider("hashicorp/local") {
        return crate::harness::skip("provider error in plan", "no mirror has hashicorp/local");
    }
    let mut daemon = fleet.daemon("one", &[]);
    let directory = template("failing/provider-error");
    let ran = fleet.push("local", &directory, &[]).exits(1);
    assert_verdict(&ran, "PLAN_FAILED", "provider");
    next_job_is_unharmed(&fleet, &mut daemon);
}

#[test]
fn an_engine_that_vanished_is_said_with_a_code_of_its_own() {
    let fleet = Fleet::start();
    let engine = fake_engine(fleet.dir());
    let path = engine.to_str().expect("text");
    let mut daemon = fleet.daemon("one", &["--engine", path]);
    let away = engine.with_extension("away");
    std::fs::rename(&engine, &away).expect("the engine goes");
    let ran = fleet.push("q", &template("quickstart"), &[]).exits(1);
    assert_verdict(&ran, "ENGINE_MISSING", "internal");
    fleet.assert_nothing_left(&mut daemon);
    std::fs::rename(&away, &engine).expect("the engine comes back");
    fleet.push("q", &template("quickstart"), &[]).exits(0);
}

#[test]
fn a_template_reaches_the_fake_engine_as_its_author_wrote_it() {
    let fleet = Fleet::start();
    let engine = fake_engine(fleet.dir());
    let _daemon = fleet.daemon("one", &["--engine", engine.to_str().expect("text")]);
    let scripted = Scripted::new(&fleet, "[plan]\nlines 3 scripted line\n");
    let pushed = fleet.push("scripted", &scripted.directory, &[]).exits(0);
    let job = &pushed.json()["job"];
    let log = fleet.log(job["id"].as_str().expect("id"));
    assert!(log.iter().any(|line| line == "scripted line 3"), "{log:#?}");
}

#[test]
fn a_missing_engine_is_one_clear_line_when_the_daemon_starts() {
    let fleet = Fleet::start();
    let key = fleet.json(&["keys", "create", "one"]);
    let file = fleet.dir().join("one.key");
    std::fs::write(&file, key["key"].as_str().expect("key")).expect("key file");
    let file = file.to_str().expect("text");
    let missing = "/nonexistent/terraform";
    let ran = fleet.run(&[
        "start",
        "--key-file",
        file,
        "--name",
        "one",
        "--engine",
        missing,
    ]);
    let ran = ran.exits(1);
    assert!(ran.stderr.contains("ENGINE_MISSING"), "{}", ran.stderr);
}
