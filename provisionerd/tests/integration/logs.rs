//! No line of a job is lost, whatever dies while the queue does not have it yet: the
//! output files are read again, and each line arrives once, in order.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message as _;
use proto::v1::JournalRecord;
use proto::v1::journal_record::Record;

use crate::harness::{Daemon, Fleet, LONG, Scripted, Waits, fake_engine, wait_for};

/// Far more than a worker hands out without credit.
const LINES: usize = 20_000;

fn scripted_daemon(fleet: &Fleet, name: &str) -> Daemon {
    let engine = fake_engine(fleet.dir());
    fleet.daemon(name, &["--engine", engine.to_str().expect("text")])
}

fn again(fleet: &Fleet, name: &str) -> Daemon {
    let engine = fleet.dir().join("fake-engine");
    fleet.again(name, &["--engine", engine.to_str().expect("text")])
}

/// A build in the middle of its apply, which goes on with the test.
fn applying(fleet: &Fleet, script: &str) -> (Scripted, String) {
    let scripted = Scripted::new(fleet, script);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "begun 1");
    (scripted, job)
}

/// A journal of the job has its finish.
fn finish_is_journalled(daemon: &Daemon, job: &str) -> Option<()> {
    let attempts = daemon.attempts(job).into_iter();
    let mut records = attempts.flat_map(|attempt| records(&attempt.join("journal")));
    records
        .any(|record| matches!(record, Record::Finish(_)))
        .then_some(())
}

/// What the plan or the apply of a daemon's job has printed.
fn output(daemon: &Daemon, job: &str, command: &str) -> String {
    let attempts = daemon.attempts(job).into_iter();
    let outputs = attempts.filter_map(|attempt| std::fs::read_dir(attempt.join("out")).ok());
    let mut files = outputs.flatten().flatten().map(|file| file.path());
    let name = format!("-{command}.stdout");
    let file = files.find(|path| path.to_string_lossy().ends_with(&name));
    file.map_or_else(String::new, |path| {
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    })
}

fn records(journal: &Path) -> Vec<Record> {
    let bytes = std::fs::read(journal).unwrap_or_default();
    let mut rest = bytes.as_slice();
    let mut records = Vec::new();
    while let Ok(record) = JournalRecord::decode_length_delimited(&mut rest) {
        records.extend(record.record);
        let Some(behind) = rest.get(8..) else { break };
        rest = behind;
    }
    records
}

/// "WORD 1" to "WORD COUNT" are in the log, each once and in order, and lines have the
/// sequence of the log without a hole.
#[track_caller]
fn whole(fleet: &Fleet, job: &str, word: &str, count: usize) {
    let log = fleet.log(job);
    let said: Vec<&String> = log
        .iter()
        .filter(|line| line.starts_with(&format!("{word} ")))
        .collect();
    assert_eq!(said.len(), count);
    for (line, n) in said.iter().zip(1..) {
        assert_eq!(**line, format!("{word} {n}"));
    }
}

#[test]
fn a_daemon_killed_after_the_end_of_a_job_in_an_outage_costs_neither_verdict_nor_line() {
    let mut fleet = Fleet::start();
    let mut one = scripted_daemon(&fleet, "one");
    let script =
        format!("[apply]\nmade a.one 1\nlines 1 begun\nwait GO\nlines {LINES} apply\nstate 3\n");
    let (scripted, job) = applying(&fleet, &script);
    fleet.kill_queue();
    scripted.go();
    wait_for("the verdict is safe while lines wait", LONG, || {
        finish_is_journalled(&one, &job)
    });
    one.process.kill();
    fleet.start_queue();
    let mut again = again(&fleet, "one");
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    assert_eq!(ended["attempt"], 1, "{ended:#}");
    whole(&fleet, &job, "apply", LINES);
    fleet.assert_nothing_left(&mut again);
}

#[test]
fn a_job_that_ends_in_an_outage_is_told_whole_when_the_queue_is_back() {
    let mut fleet = Fleet::start();
    let mut daemon = scripted_daemon(&fleet, "one");
    let script =
        format!("[apply]\nmade a.one 1\nlines 1 begun\nwait GO\nlines {LINES} apply\nstate 3\n");
    let (scripted, job) = applying(&fleet, &script);
    fleet.kill_queue();
    scripted.go();
    wait_for("the verdict is safe while lines wait", LONG, || {
        finish_is_journalled(&daemon, &job)
    });
    fleet.start_queue();
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    assert_eq!(ended["attempt"], 1, "{ended:#}");
    // When the job has ended, its log is whole.
    whole(&fleet, &job, "apply", LINES);
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_worker_killed_with_lines_that_nobody_has_costs_none_of_them() {
    let mut fleet = Fleet::start();
    let mut daemon = scripted_daemon(&fleet, "one");
    let script = format!(
        "[apply]\nlinger INT 100 1\nmade a.one 1\nlines 1 begun\nwait GO\nlines {LINES} apply\n\
         state 3\nwait GO.never\n"
    );
    let (scripted, job) = applying(&fleet, &script);
    let worker = daemon.role("worker");
    fleet.kill_queue();
    scripted.go();
    let last = format!("apply {LINES}\"");
    wait_for("all is printed", LONG, || {
        output(&daemon, &job, "apply").contains(&last).then_some(())
    });
    kill(Pid::from_raw(worker), Signal::SIGKILL).expect("the worker lives");
    wait_for("the verdict is safe", LONG, || {
        finish_is_journalled(&daemon, &job)
    });
    fleet.start_queue();
    let ended = fleet.ended(&job);
    assert_eq!(ended["error"]["code"], "WORKER_LOST", "{ended:#}");
    whole(&fleet, &job, "apply", LINES);
    // Also what the engine said after the worker's death.
    assert!(fleet.log(&job).iter().any(|line| line == "signal INT"));
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_worker_killed_before_the_gate_costs_no_line_of_its_attempt() {
    let fleet = Fleet::with(Waits::Short);
    let mut daemon = scripted_daemon(&fleet, "one");
    let script = "[plan]\nlines 1 begun\nlines 3000 plan\nwait GO\n";
    let scripted = Scripted::new(&fleet, script);
    scripted.go();
    fleet.push("t", &scripted.directory, &[]).exits(0);
    scripted.wait();
    let job = fleet.create("w", "t");
    wait_for("all is printed", LONG, || {
        let printed = output(&daemon, &job, "plan");
        printed.contains("plan 3000\"").then_some(())
    });
    kill(Pid::from_raw(daemon.role("worker")), Signal::SIGKILL).expect("the worker lives");
    fleet.job_when(&job, "runs again", |job| {
        job["attempt"] == 2 && job["status"] == "running"
    });
    scripted.go();
    assert_eq!(fleet.ended(&job)["status"], "succeeded");
    for attempt in [1, 2] {
        let lines = fleet.lines(&job);
        let said = lines.iter().filter(|line| line["attempt"] == attempt);
        let texts: Vec<&str> = said.filter_map(|line| line["text"].as_str()).collect();
        let plan: Vec<&&str> = texts.iter().filter(|it| it.starts_with("plan ")).collect();
        assert_eq!(plan.len(), 3_000, "attempt {attempt}");
        assert_eq!(*plan[2_999], "plan 3000");
    }
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn what_an_engine_prints_after_its_daemon_died_is_in_the_log() {
    let fleet = Fleet::with(Waits::Short);
    let mut one = scripted_daemon(&fleet, "one");
    let script =
        "[apply]\nignore INT\nmade a.one 1\nlines 1 begun\nwait GO\nlines 12000 late\nstate 3\n";
    let (scripted, job) = applying(&fleet, script);
    let supervisor = one.role("supervise");
    one.process.kill();
    scripted.go();
    wait_for("the supervisor ends", LONG, || {
        kill(Pid::from_raw(supervisor), None).is_err().then_some(())
    });
    let mut again = again(&fleet, "one");
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    whole(&fleet, &job, "late", 12_000);
    fleet.assert_nothing_left(&mut again);
}
