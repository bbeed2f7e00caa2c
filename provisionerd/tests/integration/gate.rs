//! Jobs that end while they ask for the gate: no engine was started, so nothing was changed,
//! whatever the queue made of the question.

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Fleet, LONG, Scripted, Waits, descendants, fake_engine, wait_for};

fn scripted_daemon(fleet: &Fleet) -> Daemon {
    let engine = fake_engine(fleet.dir());
    fleet.daemon("one", &["--engine", engine.to_str().expect("text")])
}

/// A build that waits in its plan.
fn planning(fleet: &Fleet) -> (Scripted, String) {
    let scripted = Scripted::new(fleet, "[plan]\nlines 1 planning\nwait GO\n");
    scripted.go();
    fleet.push("t", &scripted.directory, &[]).exits(0);
    scripted.wait();
    let job = fleet.create("w", "t");
    fleet.says(&job, "planning 1");
    (scripted, job)
}

/// The plan has ended, and its job asks.
fn asks(daemon: &Daemon) {
    let gate = |path: std::path::PathBuf| std::fs::read(path.join("reserve")).ok();
    wait_for("the gate is asked for", LONG, || {
        let jobs = std::fs::read_dir(daemon.directory.join("jobs"))
            .ok()?
            .flatten();
        let mut asked = jobs.filter_map(|job| gate(job.path()));
        asked.next().map(|_| ())
    });
}

#[test]
fn a_daemon_that_leaves_while_the_gate_opens_says_so_and_not_that_its_worker_was_lost() {
    let fleet = Fleet::with(Waits::Short);
    let mut daemon = scripted_daemon(&fleet);
    let (scripted, job) = planning(&fleet);
    fleet.signal_queue(Signal::SIGSTOP);
    scripted.go();
    asks(&daemon);
    daemon.process.signal(Signal::SIGINT);
    wait_for("its engine and worker end", LONG, || {
        let below = descendants(daemon.process.pid().as_raw());
        below.iter().all(|p| p.is("supervise")).then_some(())
    });
    fleet.signal_queue(Signal::SIGCONT);
    let ended = fleet.job_when(&job, "has a verdict or goes back", |job| {
        job["status"] != "running"
    });
    // The question may have been lost on its way, or have opened the gate.
    let back = ended["status"] == "pending";
    let drained = ended["error"]["code"] == "DAEMON_DRAINED";
    assert!(back || drained, "{ended:#}");
    assert!(
        ended["error"]["in_flight"]
            .as_array()
            .is_none_or(Vec::is_empty),
        "{ended:#}"
    );
    assert!(daemon.process.ended(LONG).success());
    fleet.assert_nothing_left(&mut daemon);
}
