//! What each kind of job brings when all goes well.

use proto::v1::{JobKind, LedgerEvent, LogSource, Phase, PhaseTiming, Transition, VariableValue};

use super::rig::{Plan, run};

const TEMPLATE: &str = r#"
variable "name" {
  type        = string
  description = "What it is called."
}
variable "tags" {
  type    = list(string)
  default = []
}
resource "terraform_data" "one" {
  input = "${var.name}-${join("+", var.tags)}"
}
resource "terraform_data" "two" {
  count = 2
  input = terraform_data.one.id
}
output "name" {
  value = terraform_data.one.output
}
"#;

fn variable(name: &str, value: &str) -> VariableValue {
    VariableValue {
        name: name.to_owned(),
        value: value.to_owned(),
        sensitive: false,
    }
}

fn plan(transition: Transition) -> Plan {
    let mut plan = Plan::build(transition, TEMPLATE);
    plan.job.variables = vec![variable("name", "ada"), variable("tags", "[\"x\", \"y\"]")];
    plan
}

#[tokio::test]
async fn a_start_brings_state_resources_ledger_and_phases_with_three_processes() {
    let done = run(plan(Transition::Start)).await;
    done.assert_succeeded();
    assert_eq!(done.state()["outputs"]["name"]["value"], "ada-x+y");
    let resources = done.outcome.extraction.expect("extraction").resources;
    let addresses: Vec<_> = resources.iter().map(|it| it.address.as_str()).collect();
    assert_eq!(
        addresses,
        [
            "terraform_data.one",
            "terraform_data.two[0]",
            "terraform_data.two[1]"
        ]
    );
    assert_eq!(done.outcome.engine_processes, 3);
    let phases: Vec<Phase> = done.outcome.phases.iter().map(PhaseTiming::phase).collect();
    assert_eq!(
        phases,
        [
            Phase::Setup,
            Phase::Init,
            Phase::Plan,
            Phase::Apply,
            Phase::Cleanup
        ]
    );
    assert_eq!(done.seen.gates, 1);
    let complete = done
        .seen
        .ledger
        .iter()
        .filter(|it| it.event() == LedgerEvent::Complete);
    assert_eq!(complete.count(), 3);
    assert!(done.outcome.unconfirmed.is_empty());
}

#[tokio::test]
async fn lines_and_ledger_count_from_one_without_holes_to_the_last_ones_told() {
    let done = run(plan(Transition::Start)).await;
    for (n, line) in done.seen.lines.iter().enumerate() {
        assert_eq!(line.seq, n as u64 + 1);
    }
    for (n, entry) in done.seen.ledger.iter().enumerate() {
        assert_eq!(entry.seq, n as u64 + 1);
    }
    assert_eq!(done.seen.lines_end, Some(done.seen.lines.len() as u64));
    assert_eq!(done.outcome.last_ledger_seq, done.seen.ledger.len() as u64);
    let system = done
        .seen
        .lines
        .iter()
        .filter(|it| it.source() == LogSource::System);
    assert!(system.count() >= 4, "{}", done.seen.text());
    assert!(
        done.seen.text().contains("Apply complete!"),
        "{}",
        done.seen.text()
    );
}

#[tokio::test]
async fn a_delete_empties_the_state_and_one_of_nothing_starts_no_engine() {
    let started = run(plan(Transition::Start)).await;
    let state = started.state.expect("state");
    let deleted = run(plan(Transition::Delete).state(state)).await;
    deleted.assert_succeeded();
    assert_eq!(deleted.state()["resources"], serde_json::json!([]));
    let empty = deleted.state.expect("state");
    for state in [Some(empty), None] {
        let mut plan = plan(Transition::Delete);
        plan.state = state;
        let done = run(plan).await;
        done.assert_succeeded();
        assert_eq!(done.outcome.engine_processes, 0);
        assert!(done.state.is_none() && done.seen.gates == 0);
    }
}

#[tokio::test]
async fn an_unchanged_build_reports_no_state() {
    let started = run(plan(Transition::Start)).await;
    let again = run(plan(Transition::Start).state(started.state.expect("state"))).await;
    again.assert_succeeded();
    assert!(again.state.is_none());
    assert_eq!(
        again
            .outcome
            .extraction
            .expect("extraction")
            .resources
            .len(),
        3
    );
}

#[tokio::test]
async fn an_import_tells_variables_readme_and_both_directions() {
    let plan = plan(Transition::Start)
        .kind(JobKind::TemplateImport)
        .file("README.md", "# Hello");
    let done = run(plan).await;
    done.assert_succeeded();
    let facts = done.outcome.facts.expect("facts");
    assert_eq!(facts.readme, b"# Hello");
    let names: Vec<_> = facts.variables.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["name", "tags"]);
    assert!(facts.variables[0].required && !facts.variables[1].required);
    assert_eq!(facts.start.expect("start").resources.len(), 3);
    assert_eq!(facts.stop.expect("stop").resources.len(), 3);
    assert_eq!(done.outcome.engine_processes, 5);
    assert!(done.seen.gates == 0 && done.state.is_none());
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_made() {
    let done = run(plan(Transition::Start).kind(JobKind::TemplateDryRun)).await;
    done.assert_succeeded();
    assert_eq!(
        done.outcome.extraction.expect("extraction").resources.len(),
        3
    );
    assert_eq!(done.outcome.engine_processes, 3);
}
