//! One failure per phase: each job ends `failed` with a code of its own, its state is
//! kept, nothing of it is left on the daemon's host, and the next job is unharmed.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Daemon, Fleet, Ran, Scripted, Tools, fake_engine, template};

/// A fleet with a daemon for each engine in turn: codes and classes are ours, and must not
/// depend on whose words they were read from.
fn on_each_engine(what: &str, test: impl Fn(&Fleet, &mut Daemon, &Path)) {
    for engine in Tools::find().engines(what) {
        let fleet = Fleet::start();
        let path = engine.to_str().expect("text");
        let mut daemon = fleet.daemon("one", &["--engine", path]);
        test(&fleet, &mut daemon, &engine);
    }
}

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
    on_each_engine("failing imports", failing_imports);
}

fn failing_imports(fleet: &Fleet, daemon: &mut Daemon, _engine: &Path) {
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
    next_job_is_unharmed(fleet, daemon);
}

#[test]
fn an_apply_that_fails_half_way_keeps_what_was_made() {
    on_each_engine("an apply that fails half way", half_way);
}

fn half_way(fleet: &Fleet, daemon: &mut Daemon, _engine: &Path) {
    let directory = template("failing/apply-error");
    fleet.push("half", &directory, &[]).exits(0);
    let ran = create(fleet, "half").exits(1);
    assert_verdict(&ran, "APPLY_FAILED", "provider");
    let kept = fleet.instances("w");
    let made = kept.iter().filter(|address| address.contains(".made["));
    assert_eq!(made.count(), 3, "{kept:?}");
    assert!(!kept.iter().any(|a| a.contains(".never")), "{kept:?}");
    next_job_is_unharmed(fleet, daemon);
}

#[test]
fn a_killed_engine_is_told_apart_and_its_state_is_kept() {
    on_each_engine("a killed engine", killed);
}

fn killed(fleet: &Fleet, daemon: &mut Daemon, engine: &Path) {
    let directory = template("failing/engine-killed");
    fleet.push("killed", &directory, &[]).exits(0);
    let ran = create(fleet, "killed").exits(1);
    assert_verdict(&ran, "ENGINE_KILLED", "internal");
    // Terraform writes its state after each resource, OpenTofu every 20 s.
    if fleet.tools.terraform.as_deref() == Some(engine) {
        let kept = fleet.instances("w");
        assert!(kept.iter().any(|a| a == "terraform_data.made"), "{kept:?}");
    }
    next_job_is_unharmed(fleet, daemon);
}

#[test]
fn a_provider_that_fails_in_plan_is_not_the_templates_fault() {
    if !Tools::find().has_provider("hashicorp/local") {
        return crate::harness::skip("provider error in plan", "no mirror has hashicorp/local");
    }
    on_each_engine("a provider error in plan", provider_error);
}

fn provider_error(fleet: &Fleet, daemon: &mut Daemon, _engine: &Path) {
    let directory = template("failing/provider-error");
    let ran = fleet.push("local", &directory, &[]).exits(1);
    assert_verdict(&ran, "PLAN_FAILED", "provider");
    next_job_is_unharmed(fleet, daemon);
}

/// Imports and builds until there is a file at `mark`, then fails in every plan.
fn until_marked(fleet: &Fleet, mark: &Path) -> std::path::PathBuf {
    let directory = fleet.dir().join("until-marked");
    let text = r#"
variable "mark" {
  type    = string
  default = "MARK"
}

resource "terraform_data" "kept" {
  input = "worth keeping"

  lifecycle {
    precondition {
      condition     = !fileexists(var.mark)
      error_message = "The region is closed."
    }
  }
}
"#;
    std::fs::create_dir(&directory).expect("template");
    let text = text.replace("MARK", mark.to_str().expect("text"));
    std::fs::write(directory.join("main.tf"), text).expect("template");
    directory
}

#[test]
fn a_build_that_fails_in_its_plan_leaves_the_state_as_it_was() {
    for engine in Tools::find().engines("a build that fails in its plan") {
        let fleet = Fleet::start();
        let marks = fleet.dir().join("marks");
        std::fs::create_dir(&marks).expect("directory");
        let (engine, bind) = (
            engine.to_str().expect("text"),
            marks.to_str().expect("text"),
        );
        let mut daemon = fleet.daemon("one", &["--engine", engine, "--bind", bind]);
        let directory = until_marked(&fleet, &marks.join("closed"));
        fleet.push("marked", &directory, &[]).exits(0);
        create(&fleet, "marked").exits(0);
        let before = fleet.run(&["state", "pull", "w"]).exits(0).stdout;
        assert!(before.contains("worth keeping"), "{before}");

        std::fs::write(marks.join("closed"), "").expect("mark");
        let ran = fleet.run(&["workspaces", "stop", "w", "--output", "json"]);
        let ran = ran.exits(1);
        assert_verdict(&ran, "CONDITION_FAILED", "user");
        assert!(
            ran.stdout.contains("The region is closed."),
            "{}",
            ran.stdout
        );
        assert_eq!(fleet.run(&["state", "pull", "w"]).exits(0).stdout, before);
        fleet.assert_nothing_left(&mut daemon);
    }
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

    create(&fleet, "q").exits(0);
    let before = fleet.run(&["state", "pull", "w"]).exits(0).stdout;
    std::fs::rename(&engine, &away).expect("the engine goes");
    let ran = fleet.run(&["workspaces", "stop", "w", "--output", "json"]);
    assert_verdict(&ran.exits(1), "ENGINE_MISSING", "internal");
    assert_eq!(fleet.run(&["state", "pull", "w"]).exits(0).stdout, before);
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
