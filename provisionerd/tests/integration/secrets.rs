//! A sensitive value is for the engine: it is in no log, in no view, and only in the
//! state that `state pull` gives.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Fleet, skip};

const SECRET: &str = "correct-horse-battery";
const DEFAULT: &str = "staple-by-default";

#[test]
fn a_sensitive_value_shows_in_no_log_and_in_no_view() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    let directory = fleet.dir().join("secret");
    talkative(&directory);
    // The client knows nothing of the template: what is secret the import finds out.
    let password = format!("password={SECRET}");
    let given = ["--variable", &password, "--variable", "place=by-the-sea"];
    let import = fleet.push("secret", &directory, &given).exits(0).json();
    let import = import["job"]["id"].as_str().expect("id").to_owned();
    let build = fleet.json(&["workspaces", "create", "w", "--template", "secret"]);
    let build = build["job"]["id"].as_str().expect("id").to_owned();
    let import_log = silent(&fleet, &["jobs", "logs", &import]);
    assert!(
        import_log.contains("planned with *** at by-the-sea"),
        "{import_log}"
    );
    let log = silent(&fleet, &["jobs", "logs", &build]);
    for shown in [
        "planned with *** at by-the-sea",
        "the password is ***!",
        "the default is ***!",
        "end of the long line ***!",
    ] {
        assert!(log.contains(shown), "{shown}: {log}");
    }
    let looks: [&[&str]; 7] = [
        &["jobs", "show", &import],
        &["jobs", "show", &build],
        &["jobs", "list"],
        &["templates", "versions", "secret"],
        &["templates", "show", "secret"],
        &["templates", "plan", "secret"],
        &["workspaces", "show", "w"],
    ];
    for look in looks {
        silent(&fleet, look);
        silent(&fleet, &[look, &["--output", "json"]].concat());
    }
    let state = fleet.run(&["state", "pull", "w"]).exits(0);
    assert!(state.stdout.contains(SECRET), "only the state has it");
}

#[test]
fn an_error_does_not_quote_a_sensitive_value() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    let directory = fleet.dir().join("secret");
    talkative(&directory);
    let value = format!("password={SECRET}");
    let given = ["--variable", &value, "--variable", "place=fail"];
    let failed = fleet.push("secret", &directory, &given).exits(1);
    let message = failed.json()["job"]["error"]["message"].to_string();
    assert!(message.contains("refused ***"), "{message}");
    assert!(!failed.stderr.contains(SECRET), "{}", failed.stderr);
    assert!(!failed.stdout.contains(SECRET), "{}", failed.stdout);
}

#[test]
fn a_sensitive_value_copied_into_an_agent_is_null_in_every_view() {
    let fleet = Fleet::start();
    if !fleet.tools.has_provider("coder/coder") {
        return skip("sensitive values of agents", "no mirror has coder/coder");
    }
    let directory = fleet.dir().join("copied");
    copies(&directory);
    let engines = [fleet.tools.terraform.clone(), fleet.tools.tofu.clone()];
    for (engine, name) in engines.iter().flatten().zip(["one", "two"]) {
        let engine = engine.to_str().expect("text");
        let mut daemon = fleet.daemon(name, &["--engine", engine]);
        let value = format!("password={SECRET}");
        let given = ["--variable", &value];
        fleet.push(name, &directory, &given).exits(0);
        let made = fleet.json(&["workspaces", "create", name, "--template", name]);
        let job = made["job"]["id"].as_str().expect("id");
        let looks: [&[&str]; 4] = [
            &["jobs", "show", job],
            &["templates", "show", name],
            &["templates", "plan", name],
            &["workspaces", "show", name],
        ];
        for look in looks {
            silent(&fleet, look);
            silent(&fleet, &[look, &["--output", "json"]].concat());
        }
        for shown in [fleet.job(job), fleet.json(&["templates", "plan", name])] {
            nothing_but_the_secrets_is_null(&shown["resources"]);
        }
        let state = fleet.run(&["state", "pull", name]).exits(0);
        assert!(state.stdout.contains(SECRET), "only the state has it");
        inspected(&fleet, &state.stdout);
        daemon.process.kill();
    }
}

#[track_caller]
fn nothing_but_the_secrets_is_null(resources: &Value) {
    let resources = resources.as_array().expect("resources");
    let host = resources.iter().find(|it| it["type"] == "terraform_data");
    let host = host.expect("a host");
    let agent = &host["agents"][0];
    assert_eq!(agent["env"], json!({ "PLAIN": "seen", "PASSWORD": null }));
    assert_eq!(agent["scripts"][0]["script"], Value::Null);
    assert_eq!(agent["metadata"][0]["script"], Value::Null);
    assert_eq!(agent["metadata"][1]["script"], "uptime");
    assert_eq!(agent["apps"][0]["url"], Value::Null);
    assert_eq!(agent["apps"][0]["slug"], "app");
    assert_eq!(agent["extra_envs"][0]["value"], Value::Null);
    assert_eq!(agent["extra_envs"][0]["name"], "COPY");
    assert_eq!(host["metadata"][0]["value"], Value::Null);
    assert_eq!(host["metadata"][1]["value"], "seen");
}

/// The extractor on the raw state says the same.
#[track_caller]
fn inspected(fleet: &Fleet, state: &str) {
    let file = fleet.dir().join("pulled.tfstate");
    std::fs::write(&file, state).expect("state");
    let line = ["inspect", "--state", file.to_str().expect("text")];
    let text = silent(fleet, &[&line[..], &["--output", "json"]].concat());
    let document: Value = serde_json::from_str(&text).expect("a document");
    assert!(document["resources"].to_string().contains("PLAIN"));
}

/// A template that copies its secret into everything an agent has.
fn copies(directory: &Path) {
    let text = r#"
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}

variable "password" {
  type      = string
  sensitive = true
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
  env  = { PLAIN = "seen", PASSWORD = var.password }

  startup_script = "login ${var.password}"

  metadata {
    key          = "secret"
    display_name = "Secret"
    script       = "echo ${var.password}"
    interval     = 10
    timeout      = 1
    order        = 1
  }

  metadata {
    key          = "plain"
    display_name = "Plain"
    script       = "uptime"
    interval     = 10
    timeout      = 1
    order        = 2
  }
}

resource "coder_app" "app" {
  agent_id     = coder_agent.main.id
  slug         = "app"
  display_name = "App"
  url          = "http://localhost:80/?password=${var.password}"
}

resource "coder_env" "copy" {
  agent_id = coder_agent.main.id
  name     = "COPY"
  value    = var.password
}

resource "terraform_data" "host" {
  input = coder_agent.main.id
}

resource "coder_metadata" "host" {
  resource_id = terraform_data.host.id

  item {
    key   = "secret"
    value = "is ${var.password}"
  }

  item {
    key   = "plain"
    value = "seen"
  }
}
"#;
    std::fs::create_dir(directory).expect("template");
    std::fs::write(directory.join("main.tf"), text).expect("template");
}

/// What a command prints, without a secret in it.
#[track_caller]
fn silent(fleet: &Fleet, arguments: &[&str]) -> String {
    let ran = fleet.run(arguments);
    for secret in [SECRET, DEFAULT] {
        assert!(
            !ran.stdout.contains(secret),
            "{arguments:?}: {}",
            ran.stdout
        );
        assert!(
            !ran.stderr.contains(secret),
            "{arguments:?}: {}",
            ran.stderr
        );
    }
    ran.exits(0).stdout
}

/// A template that prints its sensitive variables past the engine's own masking: while
/// it plans, while it applies, and across the pieces of a line too long for one.
fn talkative(directory: &Path) {
    let text = r#"
variable "password" {
  type      = string
  sensitive = true
}

variable "preset" {
  type      = string
  sensitive = true
  default   = "staple-by-default"
}

variable "place" {
  type = string
}

check "plan" {
  assert {
    condition     = var.place == ""
    error_message = "planned with ${nonsensitive(var.password)} at ${var.place}"
  }
}

resource "terraform_data" "talk" {
  input = var.password

  provisioner "local-exec" {
    command = <<-EOT
      echo "the password is ${nonsensitive(var.password)}!"
      echo "the default is ${nonsensitive(var.preset)}!"
      head -c 65526 /dev/zero | tr '\0' 'x'
      echo "end of the long line ${nonsensitive(var.password)}!"
    EOT
  }

  lifecycle {
    postcondition {
      condition     = var.place != "fail"
      error_message = "refused ${nonsensitive(var.password)}"
    }
  }
}

output "password" {
  value     = var.password
  sensitive = true
}
"#;
    std::fs::create_dir(directory).expect("template");
    std::fs::write(directory.join("main.tf"), text).expect("template");
}
