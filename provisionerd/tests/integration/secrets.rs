//! A sensitive value is for the engine: it is in no log, in no view, and only in the
//! state that `state pull` gives.

use std::path::Path;

use crate::harness::Fleet;

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
