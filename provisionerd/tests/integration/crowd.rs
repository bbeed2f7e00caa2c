//! More workspaces than slots: all are built, and nothing of them is left on the daemon.
//! Rounds of a hundred, which show growth of a few KiB a build: `bench crowd`.

use crate::harness::{Fleet, LONG, template, wait_for};

const WORKSPACES: usize = 12;

/// How much more memory queue and daemon may hold after them: caches fill with the first
/// builds, and what one build needs while it runs, kept for each, would be more.
const GROWTH_KIB: u64 = 12 * 1024;

#[test]
fn many_workspaces_on_a_few_slots_all_succeed_and_leave_nothing() {
    let fleet = Fleet::start();
    let daemon = fleet.daemon("one", &["--slots", "4"]);
    let memory = || [fleet.queue_kib(), daemon.process.anonymous_kib()];
    fleet.push("q", &template("quickstart"), &[]).exits(0);
    let before = memory();
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
    wait_for(
        "queue and daemon have let go of what they needed",
        LONG,
        || {
            let after = memory();
            let grown = std::iter::zip(before, after).map(|(from, to)| to.saturating_sub(from));
            grown
                .max()
                .is_some_and(|most| most < GROWTH_KIB)
                .then_some(())
        },
    );
}
