//! More workspaces than slots: all are built, and nothing of them is left on the daemon.
//! A hundred, with the memory they cost: `bench crowd`.

use crate::harness::{Fleet, LONG, template, wait_for};

const WORKSPACES: usize = 12;

#[test]
fn many_workspaces_on_a_few_slots_all_succeed_and_leave_nothing() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &["--slots", "4"]);
    fleet.push("q", &template("quickstart"), &[]).exits(0);
    let jobs: Vec<String> = (0..WORKSPACES)
        .map(|n| {
            let name = format!("w-{n}");
            let line = [
                "workspaces",
                "create",
                &name,
                "--template",
                "q",
                "--no-wait",
            ];
            let made = fleet.json(&line);
            made["job"]["id"].as_str().expect("id").to_owned()
        })
        .collect();
    for job in &jobs {
        let ended = fleet.ended(job);
        assert_eq!(ended["status"], "succeeded", "{ended:#}");
        assert_eq!(ended["attempt"], 1);
    }
    let directory = fleet.dir().join("d/daemon-one/jobs");
    wait_for("the directories of the jobs are gone", LONG, || {
        let left = std::fs::read_dir(&directory).ok()?;
        (left.count() == 0).then_some(())
    });
}
