//! A fleet as it is meant to be: a queue, two daemons in different regions, the template
//! that uses most of the coder provider with the real plugin, on both engines.

use serde_json::Value;

use crate::harness::{Fleet, skip, template};

/// Everything that the template makes when it is started.
const STARTED: usize = 18;
/// What stays when it is stopped.
const STOPPED: usize = 11;

#[test]
fn a_coder_workspace_lives_from_create_to_delete() {
    let fleet = Fleet::start();
    if !fleet.tools.has_provider("coder/coder") {
        return skip("coder workspace", "no mirror has coder/coder");
    }
    let mut eu = fleet.daemon("eu", &["--tag", "region=eu"]);
    let mut us = fleet.daemon("us", &["--tag", "region=us"]);
    let pushed = fleet
        .push("dev", &template("coder-workspace"), &[])
        .exits(0);
    assert_eq!(pushed.json()["job"]["tags"]["region"], "eu");
    let line = ["owners", "set", "admin", "--email", "ada@example.com"];
    fleet.json(
        &[
            &line[..],
            &["--full-name", "Ada Lovelace", "--group", "dev"],
        ]
        .concat(),
    );
    let job = lifecycle(&fleet, "one", "eu");
    let env = main_agent(&job)["env"].clone();
    assert_eq!(env["GIT_AUTHOR_NAME"], "Ada Lovelace");
    assert_eq!(env["GIT_AUTHOR_EMAIL"], "ada@example.com");
    lifecycle(&fleet, "two", "us");
    fleet.assert_nothing_left(&mut eu);
    fleet.assert_nothing_left(&mut us);
}

#[test]
fn opentofu_runs_the_same_template() {
    let fleet = Fleet::start();
    let Some(tofu) = fleet.tools.tofu.clone() else {
        return skip("coder workspace on OpenTofu", "no tofu");
    };
    if !fleet.tools.has_provider("coder/coder") {
        return skip("coder workspace on OpenTofu", "no mirror has coder/coder");
    }
    let tofu = tofu.to_str().expect("text");
    let mut eu = fleet.daemon("eu", &["--tag", "region=eu", "--engine", tofu]);
    let pushed = fleet
        .push("dev", &template("coder-workspace"), &[])
        .exits(0);
    assert_eq!(pushed.json()["job"]["engine"]["name"], "tofu");
    lifecycle(&fleet, "one", "eu");
    fleet.assert_nothing_left(&mut eu);
}

/// The agent called `main` among the resources of a job.
fn main_agent(job: &Value) -> &Value {
    let resources = job["resources"].as_array().expect("resources");
    let agents = resources.iter().filter_map(|one| one["agents"].as_array());
    let found = agents.flatten().find(|agent| agent["name"] == "main");
    found.expect("an agent")
}

/// Create, stop, start, delete, and the state between the steps; the job of the create.
fn lifecycle(fleet: &Fleet, name: &str, region: &str) -> Value {
    let region_parameter = format!("region={region}");
    let created = fleet.json(&[
        "workspaces",
        "create",
        name,
        "--template",
        "dev",
        "--parameter",
        &region_parameter,
        "--parameter",
        "cpu=4",
    ]);
    let job = &created["job"];
    assert_eq!(job["status"], "succeeded");
    assert_eq!(
        job["daemon"], region,
        "the region's tag decides where it runs"
    );
    assert_eq!(fleet.instances(name).len(), STARTED);
    let agents: Vec<&str> = agents(job);
    assert_eq!(agents, ["database", "main"]);
    let log = fleet.log(job["id"].as_str().expect("id"));
    let said = format!("machine: 4 cores in {region}");
    assert!(log.iter().any(|line| line.contains(&said)), "{log:#?}");

    fleet.json(&["workspaces", "stop", name]);
    let stopped = fleet.instances(name);
    assert_eq!(stopped.len(), STOPPED);
    assert!(stopped.contains(&"terraform_data.home".to_owned()));

    let started = fleet.json(&["workspaces", "start", name]);
    assert_eq!(started["job"]["status"], "succeeded");
    assert_eq!(fleet.instances(name).len(), STARTED);
    let log = fleet.log(started["job"]["id"].as_str().expect("id"));
    assert!(
        log.iter().any(|line| line.contains(&said)),
        "parameter values are carried from build to build"
    );

    let deleted = fleet.json(&["workspaces", "delete", name]);
    assert_eq!(deleted["job"]["status"], "succeeded");
    let left = fleet.json(&["workspaces", "list"]);
    let left = left.as_array().expect("a list");
    assert!(left.iter().all(|workspace| workspace["name"] != name));
    created["job"].clone()
}

/// Names of the agents of a job's resources, in order.
fn agents(job: &Value) -> Vec<&str> {
    let resources = job["resources"].as_array().expect("resources");
    let agents = resources
        .iter()
        .filter_map(|resource| resource["agents"].as_array())
        .flatten();
    let mut names: Vec<&str> = agents.filter_map(|agent| agent["name"].as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_value_that_breaks_a_rule_is_refused_in_the_authors_words() {
    let fleet = Fleet::start();
    if !fleet.tools.has_provider("coder/coder") {
        return skip("parameter rules", "no mirror has coder/coder");
    }
    let _eu = fleet.daemon("eu", &["--tag", "region=eu"]);
    fleet
        .push("dev", &template("coder-workspace"), &[])
        .exits(0);
    for (value, words) in [
        ("project=Not Valid", "2 to 31 small letters"),
        ("disk_gb=5", "The disk holds 10 to 200 GB"),
        ("region=moon", "region"),
        ("cpu=3", "cpu"),
    ] {
        let line = [
            "workspaces",
            "create",
            "w",
            "--template",
            "dev",
            "--parameter",
            value,
        ];
        let ran = fleet.run(&line).exits(1);
        assert!(ran.stderr.contains(words), "{value}: {}", ran.stderr);
    }
}
