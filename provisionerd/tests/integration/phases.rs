//! One failure per phase: each job ends `failed` with a code of its own, its state is
//! kept, its work directory is gone, and the next job is unharmed.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Fleet, LONG, template, testdata, wait_for};

/// A job that failed: its code and class.
fn verdict(job: &Value) -> (String, String) {
    assert_eq!(job["status"], "failed", "{job:#}");
    let text = |field: &str| job["error"][field].as_str().unwrap_or_default().to_owned();
    (text("code"), text("class"))
}

/// Nothing of a job stays below a daemon's directory once its finish is stored.
fn assert_clean(fleet: &Fleet, daemon: &str) {
    let jobs = fleet.dir().join(format!("d/daemon-{daemon}/jobs"));
    wait_for("the directories of ended jobs are gone", LONG, || {
        let left = std::fs::read_dir(&jobs).map_or(0, Iterator::count);
        (left == 0).then_some(())
    });
}

fn next_job_is_unharmed(fleet: &Fleet, name: &str) {
    fleet.push(name, &template("quickstart"), &[]).exits(0);
    let made = fleet.json(&["workspaces", "create", name, "--template", name]);
    assert_eq!(made["job"]["status"], "succeeded");
}

#[test]
fn an_import_fails_in_its_phase_with_its_own_code() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    let mut codes = Vec::new();
    for name in ["bad-hcl", "init-error", "plan-error"] {
        let ran = fleet
            .push(name, &template("failing").join(name), &[])
            .exits(1);
        let document = ran.json();
        let (code, class) = verdict(&document["job"]);
        assert_eq!(class, "user", "{name}: {code}");
        codes.push((name, code));
    }
    let bad_hcl = fleet
        .run(&["jobs", "list", "--output", "json"])
        .exits(0)
        .json();
    let jobs = bad_hcl.as_array().expect("a list");
    let first = jobs.last().expect("the first import");
    let message = first["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("main.tf") && message.contains('7'),
        "{message}"
    );
    assert_ne!(codes[0].1, codes[1].1, "{codes:?}");
    next_job_is_unharmed(&fleet, "next");
    assert_clean(&fleet, "one");
}

#[test]
fn an_apply_that_fails_half_way_keeps_what_was_made() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    fleet
        .push("half", &template("failing/apply-error"), &[])
        .exits(0);
    let line = [
        "workspaces",
        "create",
        "w",
        "--template",
        "half",
        "--output",
        "json",
    ];
    let document = fleet.run(&line).exits(1).json();
    let (_, class) = verdict(&document["job"]);
    assert_eq!(class, "provider");
    let kept = fleet.instances("w");
    assert_eq!(
        kept.iter().filter(|a| a.contains(".made[")).count(),
        3,
        "{kept:?}"
    );
    assert!(!kept.iter().any(|a| a.contains(".never")), "{kept:?}");
    next_job_is_unharmed(&fleet, "next");
    assert_clean(&fleet, "one");
}

#[test]
fn a_killed_engine_is_told_apart_and_its_state_is_kept() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    fleet
        .push("killed", &template("failing/engine-killed"), &[])
        .exits(0);
    let line = [
        "workspaces",
        "create",
        "w",
        "--template",
        "killed",
        "--output",
        "json",
    ];
    let document = fleet.run(&line).exits(1).json();
    let (code, class) = verdict(&document["job"]);
    assert_eq!(class, "internal", "{code}");
    // Terraform writes its state after each resource, OpenTofu every 20 s.
    if fleet.tools.terraform.is_some() {
        assert_eq!(fleet.instances("w"), ["terraform_data.made"]);
    }
    next_job_is_unharmed(&fleet, "next");
    assert_clean(&fleet, "one");
}

#[test]
fn a_provider_that_fails_in_plan_is_not_the_templates_fault() {
    let fleet = Fleet::start();
    if !fleet.tools.has_provider("hashicorp/local") {
        return crate::harness::skip("provider error in plan", "no mirror has hashicorp/local");
    }
    let _daemon = fleet.daemon("one", &[]);
    let ran = fleet
        .push("local", &template("failing/provider-error"), &[])
        .exits(1);
    let (code, _) = verdict(&ran.json()["job"]);
    assert!(!code.is_empty());
    next_job_is_unharmed(&fleet, "next");
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

#[test]
fn a_template_reaches_the_fake_engine_as_its_author_wrote_it() {
    let fleet = Fleet::start();
    let engine = testdata().join("fake-engine");
    let _daemon = fleet.daemon("one", &["--engine", engine.to_str().expect("text")]);
    let directory = fleet.dir().join("scripted");
    script(&directory, "[plan]\nlines 3 scripted line\n");
    let pushed = fleet.push("scripted", &directory, &[]).exits(0);
    let job = &pushed.json()["job"];
    let log = fleet.log(job["id"].as_str().expect("id"));
    assert!(log.iter().any(|line| line == "scripted line 3"), "{log:#?}");
}

/// A template whose engine does what `text` says.
fn script(directory: &Path, text: &str) {
    std::fs::create_dir(directory).expect("template");
    std::fs::write(directory.join("main.tf"), "").expect("template");
    std::fs::write(directory.join("engine.script"), text).expect("script");
}
