//! `quickstart`: the first thing that somebody runs.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Fleet, Ran, Tools, command, skip, template};

/// Runs it in a HOME of its own with the engine on PATH or by name.
fn quickstart(home: &Path, more: &[&str]) -> Ran {
    let mut command = command(home);
    command.args(["quickstart", "--output", "json", "--engine"]);
    command.arg(Tools::find().engine()).args(more);
    let output = command.output().expect("the binary starts");
    Ran::new(format!("quickstart {}", more.join(" ")), &output)
}

fn addresses(document: &Value) -> Vec<String> {
    let resources = document["job"]["resources"].as_array().cloned();
    let names = resources.unwrap_or_default();
    let mut names: Vec<String> = names
        .iter()
        .map(|resource| format!("{}.{}", resource["type"], resource["name"]).replace('"', ""))
        .collect();
    names.sort();
    names
}

#[test]
fn quickstart_makes_a_workspace_and_a_second_run_updates_it() {
    let home = tempfile::Builder::new()
        .prefix("pd")
        .tempdir()
        .expect("home");
    let first = quickstart(home.path(), &[]).exits(0).json();
    assert_eq!(first["job"]["status"], "succeeded");
    assert_eq!(
        addresses(&first),
        [
            "terraform_data.disk",
            "terraform_data.machine",
            "terraform_data.service",
            "terraform_data.service"
        ]
    );

    let second = quickstart(home.path(), &[]).exits(0).json();
    assert_eq!(second["job"]["status"], "succeeded");
    assert_eq!(second["workspace"]["id"], first["workspace"]["id"]);
    assert_eq!(addresses(&second), addresses(&first));
    assert!(home.path().join(".local/share/provisionerd").is_dir());
}

/// Its import and its builds carry `region=eu`, which the first daemon of a run does not
/// offer.
#[test]
fn a_template_that_chooses_its_daemon_gets_one_with_its_tags() {
    let tools = Tools::find();
    if !tools.has_provider("coder/coder") {
        return skip("quickstart with tags", "no mirror has coder/coder");
    }
    let home = tempfile::Builder::new()
        .prefix("pd")
        .tempdir()
        .expect("home");
    let directory = template("coder-workspace");
    let mut more = vec![directory.to_str().expect("text")];
    for mirror in &tools.mirrors {
        more.extend(["--provider-mirror", mirror.to_str().expect("text")]);
    }
    let first = quickstart(home.path(), &more).exits(0).json();
    assert_eq!(first["job"]["status"], "succeeded");
    assert_eq!(first["job"]["tags"]["region"], "eu");

    let second = quickstart(home.path(), &more).exits(0).json();
    assert_eq!(second["job"]["tags"]["region"], "eu");
    assert_eq!(second["workspace"]["id"], first["workspace"]["id"]);
}

#[test]
fn a_data_directory_that_cannot_be_made_is_one_clear_line() {
    let home = tempfile::tempdir().expect("home");
    std::fs::write(home.path().join("file"), "").expect("file");
    let ran = quickstart(home.path(), &["--data-dir", "file/below"]).exits(1);
    let error = &ran.json()["error"];
    assert!(error["code"].is_string(), "{}", ran.stdout);
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|m| m.contains("file/below")),
        "{error}"
    );
}

/// As somebody reads it who has just cloned this: without `--output json`.
fn plainly(home: &Path, line: &[&str]) -> Ran {
    let output = command(home)
        .args(line)
        .output()
        .expect("the binary starts");
    Ran::new(line.join(" "), &output)
}

#[test]
fn a_machine_without_an_engine_is_told_so_in_one_clear_line() {
    let home = tempfile::tempdir().expect("home");
    let mut nothing = command(home.path());
    nothing.arg("quickstart").env("PATH", home.path());
    let output = nothing.output().expect("the binary starts");
    let ran = Ran::new("quickstart".to_owned(), &output);
    ran.exits(1)
        .one_error("ENGINE_MISSING", "neither terraform nor tofu");
    let line = ["quickstart", "--engine", "/no/such/engine"];
    let ran = plainly(home.path(), &line).exits(1);
    ran.one_error("ENGINE_MISSING", "/no/such/engine");
    assert!(!home.path().join(".local").exists(), "nothing was made");
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let home = tempfile::tempdir().expect("home");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("address").to_string();
    let engine = Tools::find().engine();
    let engine = engine.to_str().expect("text");
    let free = "127.0.0.1:0";
    for line in [
        &["quickstart", "--engine", engine, "--listen", &taken][..],
        &["serve", "--listen", &taken],
        &["serve", "--listen", free, "--http-listen", &taken],
    ] {
        let ran = plainly(home.path(), line).exits(1);
        ran.one_error("ADDRESS_IN_USE", &taken);
    }
}

#[test]
fn a_data_directory_that_nobody_may_write_is_one_clear_line() {
    let home = tempfile::tempdir().expect("home");
    let engine = Tools::find().engine();
    let line = ["quickstart", "--engine", engine.to_str().expect("text")];
    // /proc takes no directory, not even root's.
    for directory in ["/proc/provisionerd", "/proc/self/provisionerd"] {
        let line = [&line[..], &["--data-dir", directory]].concat();
        let ran = plainly(home.path(), &line).exits(1);
        ran.one_error("DATA_DIR_NOT_WRITABLE", directory);
    }
}

#[test]
fn a_second_process_on_a_data_directory_is_refused() {
    let fleet = Fleet::start();
    let data = fleet.dir().join("q");
    let data = data.to_str().expect("text");
    let ran = fleet.run(&["serve", "--data-dir", data, "--listen", "127.0.0.1:0"]);
    let ran = ran.exits(1);
    assert!(ran.stderr.contains("error:"), "{}", ran.stderr);
}
