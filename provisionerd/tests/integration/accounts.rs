//! What a person reads after a loss in the middle of an apply: which resources exist,
//! which are in doubt and why, and the commands that lead on, which work.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Daemon, Fleet, Waits, template};

/// A build of three slow resources in the middle of its apply.
fn applying(fleet: &Fleet) -> String {
    let variables = ["--variable", "seconds=60"];
    fleet.push("slow", &template("slow"), &variables).exits(0);
    let job = fleet.create("w", "slow");
    fleet.all_under_way(&job, 3);
    job
}

fn killed(daemon: &Daemon, role: &str) {
    kill(Pid::from_raw(daemon.role(role)), Signal::SIGKILL).expect("the process lives");
}

#[test]
fn a_lost_worker_is_told_with_what_exists_and_a_retry_goes_on_from_there() {
    let fleet = Fleet::with(Waits::Short);
    let daemon = fleet.daemon("one", &[]);
    let job = applying(&fleet);
    killed(&daemon, "worker");
    assert_eq!(fleet.ended(&job)["error"]["code"], "WORKER_LOST");
    let retry = format!("next: go on from the saved state: provisionerd jobs retry {job}");
    let log = fleet.log(&job);
    assert!(log.last().is_some_and(|line| *line == retry), "{log:#?}");
    let told = fleet.run(&["jobs", "show", &job]).exits(0).stdout;
    let workspace = fleet.run(&["workspaces", "show", "w"]).exits(0).stdout;
    for text in [&told, &workspace] {
        assert!(text.contains("terraform_data.slow[2]"), "{text}");
    }
    assert!(told.contains(&retry), "{told}");
    let again = fleet.json(&["jobs", "retry", &job, "--no-wait"]);
    let again = again["job"]["id"].as_str().expect("id").to_owned();
    fleet.says(&again, "Plan: 3 to add, 0 to change, 3 to destroy");
    fleet.run(&["jobs", "cancel", &again, "--force"]).exits(0);
    fleet.ended(&again);
}

#[test]
fn a_lost_supervisor_is_told_with_what_is_in_doubt_and_how_to_settle_it() {
    let fleet = Fleet::with(Waits::Short);
    let daemon = fleet.daemon("one", &[]);
    let job = applying(&fleet);
    killed(&daemon, "supervise");
    assert_eq!(fleet.ended(&job)["error"]["code"], "WORKER_LOST");
    let told = fleet.run(&["jobs", "show", &job]).exits(0).stdout;
    let workspace = fleet.run(&["workspaces", "show", "w"]).exits(0).stdout;
    let log = fleet.log(&job).join("\n");
    for text in [told, workspace, log] {
        for part in [
            "unconfirmed: create of terraform_data.slow[1]: its provisioner had not ended",
            "provisionerd state pull w > w.tfstate",
            "terraform import -state=w.tfstate 'terraform_data.slow[0]' ID",
            "provisionerd state push w w.tfstate",
            &format!("provisionerd jobs retry {job}"),
            "provisionerd workspaces forget w 'terraform_data.slow[0]'",
            "provisionerd workspaces delete w --forget",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    fleet.run(&["workspaces", "delete", "w"]).exits(1);
    let forget = || fleet.run(&["workspaces", "forget", "w", "terraform_data.slow[0]"]);
    let forgotten = forget().exits(0).stdout;
    for part in [
        "forgotten: create of terraform_data.slow[0]",
        "2 resources are still unconfirmed",
    ] {
        assert!(forgotten.contains(part), "{part}: {forgotten}");
    }
    let refused = forget().exits(1).stderr;
    assert!(refused.contains("[NOT_FOUND]"), "{refused}");
    let none = fleet.run(&["jobs", "unclaimed"]).exits(0).stdout;
    assert_eq!(none, "no unclaimed endings\n");
    fleet
        .run(&["workspaces", "delete", "w", "--forget"])
        .exits(0);
}

#[test]
fn an_abandoned_job_says_why_starts_wait_and_how_to_lift_that() {
    let fleet = Fleet::with(Waits::Short);
    let daemon = fleet.daemon("one", &[]);
    let job = applying(&fleet);
    daemon.process.signal(Signal::SIGSTOP);
    fleet.job_when(&job, "is unreachable", |job| {
        !job["unreachable_since"].is_null()
    });
    let told = fleet.run(&["jobs", "abandon", &job]).exits(0);
    let force = format!("provisionerd jobs abandon {job} --force");
    assert!(told.stderr.contains(&force), "{}", told.stderr);
    assert!(told.stdout.contains("WORKER_LOST"), "{}", told.stdout);
    let refused = fleet.run(&["workspaces", "start", "w"]).exits(1).stderr;
    assert!(refused.contains("[OLD_ENGINE_MAY_RUN]"), "{refused}");
    assert!(refused.contains(&force), "{refused}");
    fleet.run(&["jobs", "abandon", &job, "--force"]).exits(0);
    let next = fleet.json(&["workspaces", "start", "w", "--no-wait"]);
    let next = next["job"]["id"].as_str().expect("id").to_owned();
    fleet.run(&["jobs", "cancel", &next]).exits(0);
    daemon.process.signal(Signal::SIGCONT);
    fleet.ended(&next);
}
