//! What the daemon has open, its journals, its lock, its way to the queue, is open to no
//! process of a job.

use std::collections::BTreeSet;
use std::fs;

use crate::harness::{Fleet, LONG, Scripted, descendants, fake_engine, wait_for};

/// What every process may have open.
const COMMON: &str = "/dev/null";

/// Everything that a process has open; none when it has ended.
fn open_in(pid: i32) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return BTreeSet::new();
    };
    let links = entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .map(|link| link.to_string_lossy().into_owned())
        // Of these each process has its own under the same name.
        .filter(|link| link != COMMON && !link.starts_with("anon_inode:"))
        .collect()
}

#[test]
fn no_process_of_a_job_has_anything_open_that_its_daemon_has() {
    let fleet = Fleet::start();
    let engine = fake_engine(fleet.dir());
    let mut daemon = fleet.daemon("one", &["--engine", engine.to_str().expect("text")]);
    let scripted = Scripted::new(&fleet, "[apply]\nstate 3\nlines 1 applying\nwait GO\n");
    fleet.push("t", &scripted.directory, &[]).exits(0);
    let job = fleet.create("w", "t");
    fleet.says(&job, "applying 1");
    let daemons = wait_for("the daemon has its journal open", LONG, || {
        let open = open_in(daemon.process.pid().as_raw());
        open.iter()
            .any(|link| link.ends_with("/journal"))
            .then_some(open)
    });
    assert!(
        daemons.iter().any(|link| link.starts_with("socket:")),
        "{daemons:?}"
    );
    let below = descendants(daemon.process.pid().as_raw());
    let supervised = below
        .iter()
        .filter(|process| process.is("supervise"))
        .count();
    assert!(
        supervised == 1 && below.len() >= 3,
        "{} processes",
        below.len()
    );
    for process in &below {
        let both: Vec<String> = open_in(process.pid)
            .intersection(&daemons)
            .cloned()
            .collect();
        assert!(both.is_empty(), "{:?} has {both:?}", process.argv);
    }
    scripted.go();
    fleet.ended(&job);
    fleet.assert_nothing_left(&mut daemon);
}
