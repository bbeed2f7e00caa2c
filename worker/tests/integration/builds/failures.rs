//! Jobs that end badly: what they say, and what they keep.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use proto::v1::{ErrorClass, JobKind, Outcome, ParameterValue, Transition};

use super::rig::{Plan, Rig, run};

fn start(template: &str) -> Plan {
    Plan::build(Transition::Start, template)
}

#[tokio::test]
async fn a_template_that_does_not_parse_is_named_by_file_line_and_snippet() {
    let done = run(start(
        "resource \"terraform_data\" \"a\" {\n  input = var.nope\n}\n",
    ))
    .await;
    assert_eq!(done.outcome.outcome(), Outcome::Failed);
    assert_eq!(done.code(), "TEMPLATE_INVALID", "{}", done.seen.text());
    assert!(done.message().contains("main.tf:2"), "{}", done.message());
    let text = done.seen.text();
    assert!(text.contains("   2:   input = var.nope\n"), "{text}");
    assert!(text.contains("^^^^^^^^"), "{text}");
    assert!(done.state.is_none());
    let broken = run(start("resource \"a\" {")).await;
    assert_eq!(broken.code(), "TEMPLATE_INVALID", "{}", broken.seen.text());
}

#[tokio::test]
async fn required_variables_without_a_value_are_named_before_any_engine_runs() {
    let plan = start("variable \"a\" {}\nvariable \"b\" {}").kind(JobKind::TemplateImport);
    let done = run(plan).await;
    assert_eq!(done.code(), "REQUIRED_TEMPLATE_VARIABLES");
    assert!(done.message().contains("a, b"), "{}", done.message());
    assert_eq!(done.outcome.engine_processes, 0);
}

#[tokio::test]
async fn a_parameter_no_environment_can_hold_is_named_before_any_engine_runs() {
    let mut plan = start("");
    plan.job.parameters = vec![ParameterValue {
        name: "notes".to_owned(),
        value: "x".repeat(131_072),
    }];
    let done = run(plan).await;
    assert_eq!(done.code(), "PARAMETER_TOO_LARGE");
    assert_eq!(done.outcome.engine_processes, 0);
}

#[tokio::test]
async fn a_provider_nobody_has_is_told_as_such() {
    let template =
        "terraform {\n required_providers {\n x = { source = \"nobody/nothing\" }\n }\n}";
    let done = run(start(template)).await;
    assert_eq!(
        done.code(),
        "PROVIDER_NOT_AVAILABLE",
        "{}",
        done.seen.text()
    );
    let error = done.outcome.error.expect("error");
    assert_eq!(error.class(), ErrorClass::Provider);
}

#[tokio::test]
async fn another_backend_does_not_get_the_state() {
    let done = run(start("terraform {\n backend \"http\" {\n address = \"http://127.0.0.1:1\"\n }\n}\nresource \"terraform_data\" \"a\" {}")).await;
    done.assert_succeeded();
    assert!(done.state.is_some());
}

const HALF: &str = r#"
resource "terraform_data" "good" {}
resource "terraform_data" "bad" {
  depends_on = [terraform_data.good]
  provisioner "local-exec" {
    command = "exit 3"
  }
}
"#;

#[tokio::test]
async fn an_apply_that_fails_half_way_keeps_what_was_made() {
    let done = run(start(HALF)).await;
    assert_eq!(done.outcome.outcome(), Outcome::Failed);
    assert_eq!(done.code(), "APPLY_FAILED", "{}", done.seen.text());
    assert!(
        done.message().contains("terraform_data.bad"),
        "{}",
        done.message()
    );
    let state = done.state();
    assert_eq!(state["resources"].as_array().map(Vec::len), Some(2));
    assert!(
        done.outcome.unconfirmed.is_empty(),
        "{:?}",
        done.outcome.unconfirmed
    );
    assert_eq!(done.outcome.last_ledger_seq, done.seen.ledger.len() as u64);
}

const SLOW: &str = r#"
resource "terraform_data" "quick" {}
resource "terraform_data" "slow" {
  count = 3
  provisioner "local-exec" {
    command = "trap 'echo int >> ints' INT; while :; do echo tick; sleep 0.3; done"
  }
}
"#;

#[tokio::test]
async fn a_cancel_in_mid_apply_keeps_what_was_made_and_ends_soon() {
    let mut rig = Rig::begin(start(SLOW)).await;
    rig.until(|seen| seen.lines.iter().any(|line| line.text.contains("tick")))
        .await;
    rig.until(|seen| !seen.checkpoints.is_empty()).await;
    let asked = Instant::now();
    rig.cancel().await;
    let done = rig.finish().await;
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(
        done.outcome.outcome(),
        Outcome::Canceled,
        "{}",
        done.seen.text()
    );
    assert!(done.outcome.error.is_none());
    let names: Vec<String> = done.state()["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .map(|it| it["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(names.contains(&"quick".to_owned()), "{names:?}");
    let text = done.seen.text();
    assert!(text.matches("Interrupt received").count() <= 1, "{text}");
    assert!(!text.contains("Two interrupts received"), "{text}");
}

#[tokio::test]
async fn a_cancel_before_the_gate_changes_nothing() {
    let template = "data \"terraform_remote_state\" \"x\" {\n backend = \"local\"\n config = { path = pathexpand(\"~/pipe\") }\n}";
    let plan = Plan {
        pipe: Some("pipe"),
        ..start(template)
    };
    let mut rig = Rig::begin(plan).await;
    let pipe = rig.dir.home().join("pipe");
    // Refused until the plan reads it; the plan then waits for what is written.
    let mut written = None;
    let early = rig.until(|_| {
        let flags = libc::O_NONBLOCK;
        let open = fs::OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(&pipe);
        written = open.ok();
        written.is_some()
    });
    assert!(early.await.is_none(), "{}", rig.seen.text());
    rig.cancel().await;
    let early = rig.until(|seen| seen.text().contains("Interrupt received"));
    assert!(early.await.is_none(), "{}", rig.seen.text());
    drop(written);
    let done = rig.finish().await;
    assert_eq!(
        done.outcome.outcome(),
        Outcome::Canceled,
        "{}",
        done.seen.text()
    );
    assert!(done.state.is_none() && done.seen.gates == 0);
}

#[tokio::test]
async fn a_state_that_is_empty_or_torn_never_reaches_an_engine() {
    for state in [&b""[..], b"{\"version\": 4, \"serial\": 1, \"lin"] {
        let done = run(start("").state(state.to_vec())).await;
        assert_eq!(done.code(), "WORKSPACE_STATE_INVALID");
        assert_eq!(done.outcome.engine_processes, 0);
    }
}

#[tokio::test]
async fn a_bad_archive_fails_the_job_and_starts_no_engine() {
    let rig = Rig::begin(start("").file("../escape", "x")).await;
    let escaped = rig.dir.root().join("escape");
    let done = rig.finish().await;
    assert_eq!(done.outcome.outcome(), Outcome::Failed);
    assert_eq!(done.code(), "ARCHIVE_PATH_ESCAPES", "{}", done.message());
    let class = done.outcome.error.as_ref().expect("error").class();
    assert_eq!(class, ErrorClass::User);
    assert!(!fs::exists(escaped).expect("exists"));
    assert_eq!(done.outcome.engine_processes, 0);
}
