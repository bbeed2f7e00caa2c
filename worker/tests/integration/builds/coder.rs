//! The contract with Coder templates, seen from inside: the real `coder` provider reads
//! what the worker says.

use proto::v1::{JobKind, ParameterValue, Transition};

use super::rig::{Done, Engine, Plan, mirror, run};
use crate::skip::skip;

const NOTHING: &str = "PROVISIONERD_TEST_MIRROR names no mirror, or there is no such engine";

const TEMPLATE: &str = r#"
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}
data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}
data "coder_parameter" "region" {
  name    = "region"
  type    = "string"
  default = "us"
  mutable = true
}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
resource "coder_app" "web" {
  agent_id = coder_agent.main.id
  slug     = "web"
  url      = "http://localhost:1"
}
resource "terraform_data" "vm" {
  count = data.coder_workspace.me.start_count
  input = {
    who    = "${data.coder_workspace_owner.me.name}/${data.coder_workspace.me.name}"
    region = data.coder_parameter.region.value
    init   = coder_agent.main.init_script
    token  = coder_agent.main.token
  }
}
"#;

fn plan(transition: Transition, mirror: &str) -> Plan {
    let mut plan = Plan::build(transition, TEMPLATE);
    plan.mirror = Some(mirror.to_owned());
    plan.job.parameters = vec![ParameterValue {
        name: "region".to_owned(),
        value: "eu".to_owned(),
    }];
    if let Some(metadata) = &mut plan.job.metadata {
        metadata.owner_name = "ada".to_owned();
    }
    plan
}

fn machine(done: &Done) -> serde_json::Value {
    let state = done.state();
    let resources = state["resources"].as_array().expect("resources");
    let found = resources.iter().find(|it| it["name"] == "vm").expect("vm");
    found["instances"][0]["attributes"]["input"]["value"].clone()
}

async fn lives_through(engine: Engine, mirror: &str) {
    let mut first = plan(Transition::Start, mirror);
    first.engine = engine.clone();
    let started = run(first).await;
    started.assert_succeeded();
    let vm = machine(&started);
    assert_eq!(vm["who"], "ada/w");
    assert_eq!(vm["region"], "eu");
    let init = vm["init"].as_str().expect("script");
    assert!(
        init.contains("http://127.0.0.1:1/bin/coder-linux-amd64"),
        "{init}"
    );
    assert!(init.contains("CODER_AGENT_AUTH=\"token\""), "{init}");
    let resources = started
        .outcome
        .extraction
        .as_ref()
        .expect("extraction")
        .resources
        .clone();
    let agents: Vec<_> = resources.iter().flat_map(|it| &it.agents).collect();
    assert_eq!((agents.len(), agents[0].apps.len()), (1, 1));
    let mut second = plan(Transition::Stop, mirror).state(started.state.expect("state"));
    second.engine = engine.clone();
    let stopped = run(second).await;
    stopped.assert_succeeded();
    let mut third = plan(Transition::Delete, mirror).state(stopped.state.expect("state"));
    third.engine = engine;
    let deleted = run(third).await;
    deleted.assert_succeeded();
    assert_eq!(deleted.state()["resources"], serde_json::json!([]));
}

#[tokio::test]
async fn a_coder_template_starts_stops_and_is_deleted_with_terraform() {
    let (Some(mirror), Some(terraform)) = (mirror(), Engine::terraform()) else {
        return skip("a coder template on Terraform", NOTHING);
    };
    Box::pin(lives_through(terraform, &mirror)).await;
}

#[tokio::test]
async fn a_coder_template_starts_stops_and_is_deleted_with_opentofu() {
    let (Some(mirror), Some(tofu)) = (mirror(), Engine::tofu()) else {
        return skip("a coder template on OpenTofu", NOTHING);
    };
    Box::pin(lives_through(tofu, &mirror)).await;
}

#[tokio::test]
async fn an_import_finds_parameters_and_what_stops() {
    let Some(mirror) = mirror() else {
        return skip("the import of a coder template", NOTHING);
    };
    let done = run(plan(Transition::Start, &mirror).kind(JobKind::TemplateImport)).await;
    done.assert_succeeded();
    let facts = done.outcome.facts.expect("facts");
    assert!(!facts.lock_file.is_empty());
    let start = facts.start.expect("start");
    assert_eq!(start.parameters[0].name, "region");
    assert_eq!(start.resources.len(), 1);
    assert_eq!(facts.stop.expect("stop").resources.len(), 0);
}
