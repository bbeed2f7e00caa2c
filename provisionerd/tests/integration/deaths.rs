//! Every process of a job dies or hangs, before the gate and after it: the tables of who
//! notices what. Before the gate the job runs again as its second attempt; after it, it is
//! never run again, and what was made is kept or named. Nothing is ever left on the host.

use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{
    Daemon, Fleet, LONG, Scripted, Waits, descendants, fake_engine, template, wait_for,
};

/// Waits in its plan for the test.
const PLANNING: &str = "[plan]\nlinger INT 100 1\nlines 1 planning\nwait GO\n";

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process lives");
}

fn scripted_daemon(fleet: &Fleet, name: &str) -> Daemon {
    let engine = fake_engine(fleet.dir());
    fleet.daemon(name, &["--engine", engine.to_str().expect("text")])
}

/// A build whose engine hangs in its plan.
fn planning(fleet: &Fleet) -> (Scripted, String) {
    let scripted = Scripted::new(fleet, PLANNING);
    scripted.go();
    fleet.push("t", &scripted.directory, &[]).exits(0);
    scripted.wait();
    let job = fleet.create("w", "t");
    fleet.says(&job, "planning 1");
    (scripted, job)
}

/// A build of Terraform or OpenTofu that is in the middle of its apply.
fn applying(fleet: &Fleet, seconds: &str) -> String {
    let seconds = format!("seconds={seconds}");
    let variables = ["--variable", &seconds];
    fleet.push("slow", &template("slow"), &variables).exits(0);
    let job = fleet.create("w", "slow");
    fleet.all_under_way(&job, 3);
    job
}

/// The job runs again and succeeds as its second attempt.
#[track_caller]
fn runs_again(fleet: &Fleet, what: &str, job: &str, since: Instant, scripted: &Scripted) {
    fleet.job_when(job, "runs again", |job| {
        job["attempt"] == 2 && job["status"] == "running"
    });
    eprintln!(
        "measured: {what}, to its next run: {} ms",
        since.elapsed().as_millis()
    );
    scripted.go();
    let ended = fleet.ended(job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    assert_eq!(ended["attempt"], 2, "{ended:#}");
}

#[track_caller]
fn failed_with(fleet: &Fleet, what: &str, job: &str, since: Instant, code: &str) -> Value {
    let ended = fleet.ended(job);
    eprintln!(
        "measured: {what}, to its verdict: {} ms",
        since.elapsed().as_millis()
    );
    assert_eq!(ended["status"], "failed", "{ended:#}");
    assert_eq!(ended["error"]["code"], code, "{ended:#}");
    assert_eq!(ended["attempt"], 1, "{ended:#}");
    ended
}

fn before_the_gate(what: &str, role: &str, with: Signal) {
    let fleet = Fleet::with(Waits::Short);
    let mut daemon = scripted_daemon(&fleet, "one");
    let (scripted, job) = planning(&fleet);
    let since = Instant::now();
    signal(daemon.role(role), with);
    runs_again(&fleet, what, &job, since, &scripted);
    fleet.assert_nothing_left(&mut daemon);
}

/// What a job that was lost after the gate leaves.
#[derive(Clone, Copy)]
enum Leaves {
    /// The engine was interrupted: its last state has everything.
    State,
    /// It was killed: all is named.
    Names,
}

fn after_the_gate(what: &str, role: &str, with: Signal, leaves: Leaves) {
    let fleet = Fleet::with(Waits::Short);
    let mut daemon = fleet.daemon("one", &[]);
    let job = applying(&fleet, "60");
    let since = Instant::now();
    signal(daemon.role(role), with);
    let ended = failed_with(&fleet, what, &job, since, "WORKER_LOST");
    match leaves {
        Leaves::State => assert_eq!(fleet.instances("w").len(), 3, "{ended:#}"),
        Leaves::Names => {
            let in_flight = ended["error"]["in_flight"].as_array().map(Vec::len);
            assert_eq!(in_flight, Some(3), "{ended:#}");
        }
    }
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_worker_killed_before_the_gate_costs_an_attempt() {
    before_the_gate("worker killed before the gate", "worker", Signal::SIGKILL);
}

#[test]
fn a_worker_that_hangs_before_the_gate_costs_an_attempt() {
    before_the_gate("worker stopped before the gate", "worker", Signal::SIGSTOP);
}

#[test]
fn a_supervisor_killed_before_the_gate_costs_an_attempt() {
    before_the_gate(
        "supervisor killed before the gate",
        "supervise",
        Signal::SIGKILL,
    );
}

#[test]
fn a_supervisor_that_hangs_before_the_gate_costs_an_attempt() {
    before_the_gate(
        "supervisor stopped before the gate",
        "supervise",
        Signal::SIGSTOP,
    );
}

#[test]
fn a_worker_killed_after_the_gate_is_a_failure_that_keeps_what_was_made() {
    after_the_gate(
        "worker killed after the gate",
        "worker",
        Signal::SIGKILL,
        Leaves::State,
    );
}

#[test]
fn a_worker_that_hangs_after_the_gate_is_a_failure_that_keeps_what_was_made() {
    after_the_gate(
        "worker stopped after the gate",
        "worker",
        Signal::SIGSTOP,
        Leaves::State,
    );
}

#[test]
fn a_supervisor_killed_after_the_gate_is_a_failure_that_names_what_is_open() {
    after_the_gate(
        "supervisor killed after the gate",
        "supervise",
        Signal::SIGKILL,
        Leaves::Names,
    );
}

#[test]
fn a_supervisor_that_hangs_after_the_gate_is_a_failure_that_names_what_is_open() {
    after_the_gate(
        "supervisor stopped after the gate",
        "supervise",
        Signal::SIGSTOP,
        Leaves::Names,
    );
}

#[test]
fn a_job_of_a_daemon_killed_before_the_gate_runs_elsewhere() {
    let fleet = Fleet::with(Waits::Short);
    let mut one = scripted_daemon(&fleet, "one");
    let (scripted, job) = planning(&fleet);
    let mut two = scripted_daemon(&fleet, "two");
    let since = Instant::now();
    one.process.kill();
    runs_again(
        &fleet,
        "daemon killed before the gate",
        &job,
        since,
        &scripted,
    );
    assert_eq!(fleet.job(&job)["daemon"], "two");
    fleet.assert_nothing_left(&mut two);
    let engine = fleet.dir().join("fake-engine");
    let mut again = fleet.again("one", &["--engine", engine.to_str().expect("text")]);
    fleet.assert_nothing_left(&mut again);
}

#[test]
fn a_job_of_a_daemon_killed_before_the_gate_runs_again_after_its_restart() {
    let fleet = Fleet::with(Waits::Short);
    let mut one = scripted_daemon(&fleet, "one");
    let (scripted, job) = planning(&fleet);
    let since = Instant::now();
    one.process.kill();
    let engine = fleet.dir().join("fake-engine");
    let mut again = fleet.again("one", &["--engine", engine.to_str().expect("text")]);
    runs_again(
        &fleet,
        "daemon restarted before the gate",
        &job,
        since,
        &scripted,
    );
    fleet.assert_nothing_left(&mut again);
}

#[test]
fn a_queue_killed_during_an_apply_costs_neither_the_job_nor_a_line() {
    let mut fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &[]);
    let job = applying(&fleet, "6");
    let since = Instant::now();
    fleet.restart_queue();
    eprintln!(
        "measured: queue killed, answers again: {} ms",
        since.elapsed().as_millis()
    );
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    assert_eq!(ended["attempt"], 1, "{ended:#}");
    let log = fleet.log(&job);
    for index in 0..3 {
        let ticks: Vec<&String> = log
            .iter()
            .filter(|line| line.contains(&format!("slow {index}: tick")))
            .collect();
        let expected: Vec<String> = (1..=20).map(|n| format!("tick {n} of 20")).collect();
        let whole = ticks.len() == 20
            && ticks
                .iter()
                .zip(&expected)
                .all(|(line, tick)| line.contains(tick));
        assert!(whole, "{ticks:#?}");
    }
    assert_eq!(fleet.instances("w").len(), 3);
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_daemon_that_lost_its_job_stops_the_engine_and_still_delivers_the_state() {
    let fleet = Fleet::with(Waits::Short);
    let mut daemon = fleet.daemon("one", &[]);
    let job = applying(&fleet, "60");
    daemon.process.signal(Signal::SIGSTOP);
    fleet.job_when(&job, "is unreachable", |job| {
        !job["unreachable_since"].is_null()
    });
    fleet.run(&["jobs", "abandon", &job]).exits(0);
    assert_eq!(fleet.ended(&job)["status"], "failed");
    let since = Instant::now();
    daemon.process.signal(Signal::SIGCONT);
    let history = || fleet.json(&["state", "history", "w"]).to_string();
    wait_for("the state arrives late", LONG, || {
        history().contains("late").then_some(())
    });
    eprintln!(
        "measured: daemon continued, state is there: {} ms",
        since.elapsed().as_millis()
    );
    assert_eq!(fleet.job(&job)["status"], "failed");
    assert_eq!(fleet.instances("w").len(), 3, "{}", history());
    fleet.assert_nothing_left(&mut daemon);
}

/// An apply that does not mind interrupts and succeeds when the test lets it.
const STUBBORN: &str = "[apply]\nignore INT\nmade a.one 1\nstate 3\nlines 1 applying\nwait GO\nmade a.two 2\nstate 4\n";

fn stubborn(fleet: &Fleet) -> (Scripted, String) {
    let scripted = Scripted::new(fleet, STUBBORN);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "applying 1");
    (scripted, job)
}

#[track_caller]
fn succeeded_after_all(fleet: &Fleet, job: &str) {
    let ended = fleet.ended(job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    assert_eq!(ended["attempt"], 1, "{ended:#}");
    let state = fleet.run(&["state", "pull", "w"]).exits(0).json();
    assert_eq!(state["serial"], 4);
}

#[test]
fn an_apply_that_succeeds_without_its_worker_is_a_success() {
    let fleet = Fleet::with(Waits::Short);
    let mut daemon = scripted_daemon(&fleet, "one");
    let (scripted, job) = stubborn(&fleet);
    signal(daemon.role("worker"), Signal::SIGKILL);
    scripted.go();
    succeeded_after_all(&fleet, &job);
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn an_apply_that_succeeds_without_its_daemon_is_a_success_after_the_restart() {
    let fleet = Fleet::with(Waits::Short);
    let mut one = scripted_daemon(&fleet, "one");
    let (scripted, job) = stubborn(&fleet);
    let supervisor = one.role("supervise");
    one.process.kill();
    scripted.go();
    wait_for("the supervisor ends", LONG, || {
        kill(Pid::from_raw(supervisor), None).is_err().then_some(())
    });
    let engine = fleet.dir().join("fake-engine");
    let mut again = fleet.again("one", &["--engine", engine.to_str().expect("text")]);
    succeeded_after_all(&fleet, &job);
    fleet.assert_nothing_left(&mut again);
}

#[test]
fn a_daemon_killed_after_the_gate_keeps_what_was_made_once_it_is_back() {
    let fleet = Fleet::with(Waits::Short);
    let mut one = fleet.daemon("one", &[]);
    let job = applying(&fleet, "60");
    let since = Instant::now();
    one.process.kill();
    let mut again = fleet.again("one", &[]);
    let what = "daemon killed after the gate and restarted";
    failed_with(&fleet, what, &job, since, "DAEMON_RESTARTED");
    assert_eq!(fleet.instances("w").len(), 3);
    fleet.assert_nothing_left(&mut again);
}

#[test]
fn a_gate_asked_of_a_dead_queue_opens_when_it_is_back() {
    let mut fleet = Fleet::start();
    let mut daemon = scripted_daemon(&fleet, "one");
    let (scripted, job) = planning(&fleet);
    let worker = daemon.role("worker");
    fleet.kill_queue();
    scripted.go();
    wait_for("no engine runs any more", LONG, || {
        let below = descendants(daemon.process.pid().as_raw());
        below
            .iter()
            .all(|p| p.is("supervise") || p.pid == worker)
            .then_some(())
    });
    fleet.start_queue();
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    assert_eq!(ended["attempt"], 1, "{ended:#}");
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_daemon_that_comes_back_drops_a_job_that_runs_elsewhere() {
    let fleet = Fleet::with(Waits::Short);
    let mut one = scripted_daemon(&fleet, "one");
    let (scripted, job) = planning(&fleet);
    let mut two = scripted_daemon(&fleet, "two");
    let since = Instant::now();
    one.process.signal(Signal::SIGSTOP);
    fleet.job_when(&job, "runs elsewhere", |job| {
        job["attempt"] == 2 && job["status"] == "running"
    });
    let took = since.elapsed().as_millis();
    eprintln!("measured: daemon stopped before the gate, to its next run: {took} ms");
    one.process.signal(Signal::SIGCONT);
    fleet.assert_nothing_left(&mut one);
    assert_eq!(fleet.job(&job)["status"], "running");
    scripted.go();
    assert_eq!(fleet.ended(&job)["status"], "succeeded");
    assert_eq!(fleet.job(&job)["attempt"], 2);
    fleet.assert_nothing_left(&mut two);
}

#[test]
fn a_daemon_told_to_cancel_gives_back_what_it_has_not_begun_to_change() {
    let fleet = Fleet::with(Waits::Short);
    let mut one = scripted_daemon(&fleet, "one");
    let (scripted, job) = planning(&fleet);
    let mut two = scripted_daemon(&fleet, "two");
    let since = Instant::now();
    one.process.signal(Signal::SIGINT);
    fleet.job_when(&job, "runs elsewhere", |job| {
        job["daemon"] == "two" && job["status"] == "running"
    });
    let took = since.elapsed().as_millis();
    eprintln!("measured: daemon left before the gate, to its next run: {took} ms");
    assert!(one.process.ended(LONG).success());
    fleet.assert_nothing_left(&mut one);
    scripted.go();
    assert_eq!(fleet.ended(&job)["status"], "succeeded");
    fleet.assert_nothing_left(&mut two);
}

#[test]
fn a_daemon_told_to_cancel_in_an_apply_saves_what_was_made() {
    let fleet = Fleet::start();
    let mut daemon = fleet.daemon("one", &[]);
    let job = applying(&fleet, "60");
    let since = Instant::now();
    daemon.process.signal(Signal::SIGINT);
    failed_with(
        &fleet,
        "daemon left in an apply",
        &job,
        since,
        "DAEMON_DRAINED",
    );
    assert!(daemon.process.ended(LONG).success());
    assert_eq!(fleet.instances("w").len(), 3);
    fleet.assert_nothing_left(&mut daemon);
}
