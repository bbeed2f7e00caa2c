//! Commands that wait for a job, and what they leave alone.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Fleet, LONG, Process, Scripted, command, fake_engine, template, wait_for};

/// A client command in the background, its output in a log.
fn background(fleet: &Fleet, name: &str, arguments: &[&str]) -> Process {
    let mut client = command(fleet.dir());
    client
        .args(arguments)
        .env("PROVISIONERD_URL", &fleet.url)
        .env("PROVISIONERD_DATA_DIR", fleet.dir().join("q"));
    Process::start(name, fleet.dir(), client)
}

fn slow(fleet: &Fleet, seconds: &str) {
    let seconds = format!("seconds={seconds}");
    let more = ["--variable", &seconds, "--variable", "resources=1"];
    fleet.push("slow", &template("slow"), &more).exits(0);
}

/// The only build of the fleet, once it applies.
fn applying(fleet: &Fleet) -> String {
    wait_for("a build applies", LONG, || {
        let jobs = fleet.json(&["jobs", "list", "--kind", "workspace_build"]);
        let job = jobs.get(0)?;
        (job["phase"] == "apply").then(|| job["id"].as_str().map(str::to_owned))?
    })
}

#[test]
fn an_interrupted_client_leaves_its_job_alone_and_says_so() {
    let fleet = Fleet::start();
    let engine = fake_engine(fleet.dir());
    let _daemon = fleet.daemon("one", &["--engine", engine.to_str().expect("text")]);
    let scripted = Scripted::new(&fleet, "[apply]\nwait GO\nstate 1\n");
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let line = ["workspaces", "create", "w", "--template", "t"];
    let mut client = background(&fleet, "client", &line);
    let id = applying(&fleet);
    client.signal(Signal::SIGINT);
    assert_eq!(client.ended(LONG).code(), Some(130));
    let said = client.log();
    assert!(said.contains(&format!("jobs wait {id}")), "{said}");
    scripted.go();
    let waited = fleet
        .run(&["jobs", "wait", &id, "--output", "json"])
        .exits(0);
    assert_eq!(waited.json()["status"], "succeeded");
}

#[test]
fn logs_are_followed_whole_and_in_order_and_end_with_the_job() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    slow(&fleet, "2");
    let line = [
        "workspaces",
        "create",
        "w",
        "--template",
        "slow",
        "--no-wait",
    ];
    let made = fleet.json(&line);
    let id = made["job"]["id"].as_str().expect("id").to_owned();
    let line = ["jobs", "logs", &id, "--follow", "--output", "json", "-q"];
    let mut followed = background(&fleet, "follower", &line);
    assert_eq!(followed.ended(LONG).code(), Some(0));
    assert_eq!(fleet.job(&id)["status"], "succeeded");
    let followed = sequences(&followed.log());
    let stored = fleet
        .run(&["jobs", "logs", &id, "--output", "json"])
        .exits(0);
    assert_eq!(followed, sequences(&stored.stdout));
    assert!(followed.is_sorted_by(|a, b| a < b), "{followed:?}");
    let last = followed.last().expect("lines").to_string();
    let after = fleet.run(&["jobs", "logs", &id, "--after", &last]).exits(0);
    assert_eq!(after.stdout, "");
}

fn sequences(lines: &str) -> Vec<u64> {
    let sequence = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a JSON line");
        line["seq"].as_u64().expect("seq")
    };
    lines.lines().map(sequence).collect()
}

#[test]
fn a_failed_job_prints_its_document_and_its_error_and_exits_with_one() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    let ran = fleet
        .push("bad", &template("failing/bad-hcl"), &[])
        .exits(1);
    let job = &ran.json()["job"];
    assert_eq!(job["status"], "failed");
    let code = job["error"]["code"].as_str().expect("code");
    assert!(ran.stderr.contains(&format!("[{code}]")), "{}", ran.stderr);
    assert!(ran.stderr.contains("main.tf"), "{}", ran.stderr);
    let id = job["id"].as_str().expect("id");
    fleet.run(&["jobs", "wait", id, "-q"]).exits(1);
    fleet.run(&["jobs", "show", id]).exits(0);
}

#[test]
fn a_state_is_pulled_pushed_and_refused_when_it_is_older() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    fleet.push("t", &template("quickstart"), &[]).exits(0);
    fleet.json(&["workspaces", "create", "w", "--template", "t"]);
    let pulled = fleet.run(&["state", "pull", "w"]).exits(0);
    let mut state = pulled.json();
    let path = fleet.dir().join("w.tfstate");
    let file = path.to_str().expect("text");
    std::fs::write(&path, &pulled.stdout).expect("write");
    state["serial"] = (state["serial"].as_u64().expect("serial") - 1).into();
    std::fs::write(&path, state.to_string()).expect("write");
    fleet.run(&["state", "push", "w", file]).exits(1);
    state["serial"] = (state["serial"].as_u64().expect("serial") + 2).into();
    std::fs::write(&path, state.to_string()).expect("write");
    let pushed = fleet.json(&["state", "push", "w", file]);
    assert_eq!(pushed["source"], "push");
    let history = fleet.json(&["state", "history", "w"]);
    let sources: Vec<&str> = history
        .as_array()
        .expect("states")
        .iter()
        .filter_map(|state| state["source"].as_str())
        .collect();
    assert!(
        sources.contains(&"push") && sources.contains(&"finish"),
        "{sources:?}"
    );
    std::fs::write(&path, "{}").expect("write");
    let refused = fleet.run(&["state", "push", "w", file]).exits(1);
    assert!(
        refused.stderr.contains("STATE_INVALID"),
        "{}",
        refused.stderr
    );
}
