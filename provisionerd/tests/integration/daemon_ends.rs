//! A daemon that dies in the middle of an apply: what it made is at the queue once it
//! is back.

use std::process::{Child, Command, Stdio};

use crate::harness::{Fleet, LONG, command, template, wait_for};

/// A daemon that a test ends and starts again on the same directory.
struct Restartable<'a> {
    fleet: &'a Fleet,
    key: std::path::PathBuf,
    child: Option<Child>,
}

impl<'a> Restartable<'a> {
    fn new(fleet: &'a Fleet) -> Self {
        let made = fleet.json(&["keys", "create", "again"]);
        let key = fleet.dir().join("again.key");
        std::fs::write(&key, made["key"].as_str().expect("key")).expect("key file");
        Self {
            fleet,
            key,
            child: None,
        }
    }

    fn start(&mut self) {
        let mut start: Command = command(self.fleet.dir());
        start
            .args(["start", "--url", &self.fleet.url, "--name", "again"])
            .args(["--mirrors-only", "--key-file"])
            .arg(&self.key)
            .arg("--data-dir")
            .arg(self.fleet.dir().join("d"))
            .arg("--engine")
            .arg(self.fleet.tools.engine())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(start.spawn().expect("the binary starts"));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
        }
    }
}

impl Drop for Restartable<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

fn started(fleet: &Fleet, name: &str) -> String {
    let line = ["workspaces", "create", "w", "--template", name, "--no-wait"];
    let document = fleet.json(&line);
    document["job"]["id"].as_str().expect("id").to_owned()
}

fn jobs_left(fleet: &Fleet) -> usize {
    std::fs::read_dir(fleet.dir().join("d/daemon-again/jobs")).map_or(0, Iterator::count)
}

#[test]
fn a_daemon_killed_during_apply_tells_what_it_made_when_it_is_back() {
    let fleet = Fleet::start();
    let mut daemon = Restartable::new(&fleet);
    daemon.start();
    let slow = ["--variable", "resources=2", "--variable", "seconds=30"];
    fleet.push("slow", &template("slow"), &slow).exits(0);
    let job = started(&fleet, "slow");
    wait_for("resources are being made", LONG, || {
        let log = fleet.log(&job);
        log.iter().any(|line| line.contains("tick 2")).then_some(())
    });
    daemon.kill();
    daemon.start();
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "failed", "{ended:#}");
    assert_eq!(ended["error"]["code"], "DAEMON_RESTARTED", "{ended:#}");
    let in_flight = ended["error"]["in_flight"].as_array().map(Vec::len);
    assert_eq!(in_flight, Some(2), "{ended:#}");
    wait_for("the job's directory is gone", LONG, || {
        (jobs_left(&fleet) == 0).then_some(())
    });
}
