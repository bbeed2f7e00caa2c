//! Two replicas of the queue on one PostgreSQL: it does not matter whom one asks, and the
//! death or the restart of one costs nothing.

use serde_json::Value;

use crate::harness::{
    Daemon, Fleet, LONG, Replicas, Scripted, Waits, fake_engine, template, wait_for,
};

/// Prints, waits in its plan for the test, and takes an interrupt for an answer.
const PLANNING: &str = "[plan]\nlinger INT 100 1\nlines 3 planning\nwait GO\n";

fn status(document: &Value) -> &str {
    document["status"].as_str().unwrap_or_default()
}

/// A build that hangs in its plan.
fn planning(fleet: &Fleet) -> (Daemon, Scripted, String) {
    let engine = fake_engine(fleet.dir());
    let engine = engine.to_str().expect("text");
    let daemon = fleet.daemon("one", &["--engine", engine]);
    let scripted = Scripted::new(fleet, PLANNING);
    scripted.go();
    fleet.push("t", &scripted.directory, &[]).exits(0);
    scripted.wait();
    let job = fleet.create("w", "t");
    fleet.says(&job, "planning 1");
    (daemon, scripted, job)
}

#[test]
fn what_one_replica_is_asked_for_is_done_through_the_other() {
    let Some(mut replicas) = Replicas::start(Waits::Short) else {
        return;
    };
    // The daemon knows the first one alone; what follows is asked of the second.
    replicas.fleet.url = replicas.url(0).to_owned();
    let (_daemon, _scripted, job) = planning(&replicas.fleet);
    let log = replicas.run_at(1, &["jobs", "logs", &job]).exits(0);
    assert!(log.stdout.contains("planning 3"), "{}", log.stdout);
    // Followed at the one while the daemon reports to the other, until the cancel that
    // came through the one has ended it at the other.
    let followed = std::thread::scope(|scope| {
        let follow = scope.spawn(|| replicas.run_at(1, &["jobs", "logs", &job, "--follow"]));
        replicas.run_at(1, &["jobs", "cancel", &job]).exits(0);
        let ended = replicas.fleet.ended(&job);
        assert_eq!(status(&ended), "canceled", "{ended:#}");
        follow.join().expect("it ends with the job")
    });
    assert!(
        followed.stdout.contains("planning 3"),
        "{}",
        followed.stdout
    );
    for replica in 0..2 {
        let seen = replicas.run_at(replica, &["jobs", "show", &job, "--output", "json"]);
        assert_eq!(status(&seen.exits(0).json()), "canceled");
    }
}

#[test]
fn a_replica_that_is_killed_takes_nothing_with_it() {
    let Some(mut replicas) = Replicas::start(Waits::Short) else {
        return;
    };
    // The daemon is with the one that is killed.
    replicas.lead_to(0);
    let fleet = &replicas.fleet;
    let mut daemon = fleet.daemon("one", &[]);
    let seconds = ["--variable", "seconds=6"];
    fleet.push("slow", &template("slow"), &seconds).exits(0);
    let job = fleet.create("w", "slow");
    fleet.says(&job, "tick 2");
    replicas.lead_to_both();
    replicas.kill(0);
    let fleet = &replicas.fleet;
    let ended = fleet.ended(&job);
    assert_eq!(status(&ended), "succeeded", "{ended:#}");
    assert_eq!(ended["attempt"], 1, "{ended:#}");
    assert_eq!(fleet.instances("w").len(), 3);
    let lines = fleet.lines(&job);
    let sequence: Vec<_> = lines
        .iter()
        .filter_map(|line| line["seq"].as_u64())
        .collect();
    let whole = 1..=u64::try_from(sequence.len()).expect("few");
    assert_eq!(sequence, whole.collect::<Vec<_>>(), "the log has a hole");
    for tick in 1..=6 {
        fleet.says(&job, &format!("tick {tick}"));
    }
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_rolling_restart_runs_nothing_again() {
    let Some(mut replicas) = Replicas::start(Waits::Whole) else {
        return;
    };
    let (_daemon, scripted, job) = planning(&replicas.fleet);
    for replica in 0..2 {
        replicas.roll(replica);
        let running = replicas.fleet.job(&job);
        assert_eq!(status(&running), "running", "{running:#}");
    }
    scripted.go();
    let ended = replicas.fleet.ended(&job);
    assert_eq!(status(&ended), "succeeded", "{ended:#}");
    assert_eq!(ended["attempt"], 1, "{ended:#}");
}

#[test]
fn replicas_that_do_not_share_their_blobs_are_refused() {
    let Some(replicas) = Replicas::start(Waits::Short) else {
        return;
    };
    let refused = replicas.serve_elsewhere();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("BLOBS_NOT_SHARED"),
        "{}",
        refused.stderr
    );
    wait_for("the others still answer", LONG, || {
        let ran = replicas.run_at(0, &["jobs", "list", "--output", "json"]);
        (ran.code == 0).then_some(())
    });
}
