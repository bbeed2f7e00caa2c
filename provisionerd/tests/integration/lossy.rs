//! Builds over a way that loses, delays, repeats and reorders calls: the daemon's own loop,
//! outbox and delivery against a real queue, and everything arrives once and in order.
//! The seed is printed; `PROVISIONERD_TEST_SEED` brings it back and
//! `PROVISIONERD_TEST_CASES` makes more builds of it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Fault, Fleet, Lossy, Scripted, Waits, fake_engine};

/// Lines that leave over many updates, and a state that is a blob of its own.
const SUCCEEDS: &str = "[plan]\nlines 120 planned\n[apply]\nevery 20 100 applied\n\
    made a.one first\nstate 7 200000\nlines 700 after\nstate 8 200000\n";
/// Twenty resources of which the engine's state knows nothing.
const DIES: &str = "[apply]\nmade a.r0 i0\nmade a.r1 i1\nmade a.r2 i2\nmade a.r3 i3\n\
    made a.r4 i4\nmade a.r5 i5\nevery 100 20 between\nmade a.r6 i6\nmade a.r7 i7\n\
    made a.r8 i8\nmade a.r9 i9\nbegun a.half\ndie KILL\n";

/// Builds at once; more are a soak.
const CASES: usize = 4;

fn number(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok()?;
    Some(given.parse().expect("a number"))
}

#[test]
fn calls_that_are_lost_repeated_and_reordered_change_nothing() {
    let (seed, cases) = drawn(CASES);
    let fleet = Fleet::start();
    let lossy = Lossy::before(&fleet.url, seed);
    builds(&fleet, &lossy, cases);
    let counts = lossy.counts();
    let seen: BTreeSet<Fault> = counts.keys().map(|(_, fault)| *fault).collect();
    assert_eq!(seen.len(), 7, "each fault came to pass: {counts:?}");
}

#[test]
fn short_calls_that_are_lost_repeated_and_reordered_change_nothing_either() {
    let (seed, cases) = drawn(CASES / 2);
    let fleet = Fleet::with(Waits::Short);
    let lossy = Lossy::without_streams(&fleet.url, seed);
    builds(&fleet, &lossy, cases);
    let counts = lossy.counts();
    let met: BTreeSet<&str> = counts.keys().map(|(call, _)| call.as_str()).collect();
    for call in [
        "AcquireNow",
        "ConfirmJob",
        "ControlNow",
        "GetBlobPart",
        "PutBlobPart",
    ] {
        assert!(
            met.contains(call),
            "something happens to {call}: {counts:?}"
        );
    }
    let streams = counts.keys().filter(|(of, _)| of == "Control").count();
    assert_eq!(streams, 0, "no stream came through");
}

/// The seed, and how many builds of each kind it makes.
fn drawn(cases: usize) -> (u64, usize) {
    let seed = number("PROVISIONERD_TEST_SEED").unwrap_or(6);
    let cases = number("PROVISIONERD_TEST_CASES").map_or(cases, |cases| {
        usize::try_from(cases).expect("a number of builds")
    });
    eprintln!("lossy calls: seed {seed}, {cases} builds of each kind");
    (seed, cases)
}

/// Builds of both kinds over the calls, and everything of them arrived.
fn builds(fleet: &Fleet, lossy: &Lossy, cases: usize) {
    let engine = fake_engine(fleet.dir());
    let more = ["--engine", engine.to_str().expect("text"), "--slots", "4"];
    let mut daemon = fleet.daemon_by(&lossy.url, "one", &more);
    for (name, script) in [("succeeds", SUCCEEDS), ("dies", DIES)] {
        let scripted = Scripted::named(fleet, name, script);
        fleet.push(name, &scripted.directory, &[]).exits(0);
    }
    let builds: Vec<_> = (0..cases)
        .flat_map(|n| [("succeeds", format!("s{n}")), ("dies", format!("d{n}"))])
        .map(|(template, workspace)| (template, fleet.create(&workspace, template), workspace))
        .collect();
    for (template, job, workspace) in &builds {
        let ended = fleet.ended(job);
        match *template {
            "succeeds" => succeeded(fleet, &ended, workspace),
            _ => died(&ended),
        }
        all_lines_once(fleet, &ended);
    }
    fleet.assert_nothing_left(&mut daemon);
    eprintln!("faults: {:?}", lossy.counts());
    assert_eq!(
        daemon.process.log().matches("stays on disk").count(),
        0,
        "no finish is refused"
    );
}

#[track_caller]
fn succeeded(fleet: &Fleet, job: &Value, workspace: &str) {
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let history = fleet.json(&["state", "history", workspace]);
    let states = history.as_array().expect("states");
    let current = states.iter().filter(|state| state["current"] == true);
    assert_eq!(current.count(), 1, "{history:#}");
    let state = fleet.run(&["state", "pull", workspace]).exits(0).json();
    assert_eq!(state["serial"], 8, "the last state of the engine");
    assert_eq!(texts(fleet, job, "after").len(), 700);
}

#[track_caller]
fn died(job: &Value) {
    assert_eq!(job["status"], "failed", "{job:#}");
    assert_eq!(job["error"]["code"], "ENGINE_KILLED", "{job:#}");
    let named = job["error"]["unconfirmed"].as_array().expect("named");
    let named: BTreeSet<(String, String)> = named
        .iter()
        .map(|entry| (text(&entry["address"]), text(&entry["id"])))
        .collect();
    let mut made: BTreeSet<_> = (0..10)
        .map(|n| (format!("a.r{n}"), format!("i{n}")))
        .collect();
    made.insert(("a.half".to_owned(), String::new()));
    assert_eq!(named, made, "{job:#}");
}

/// Each line of the engine once and in its order, and the apply ran once: no attempt
/// but the last one came to it.
#[track_caller]
fn all_lines_once(fleet: &Fleet, job: &Value) {
    for (what, count) in [("planned", 120), ("applied", 100), ("between", 20)] {
        let found = texts(fleet, job, what);
        let wanted: Vec<String> = (1..=count).map(|n| format!("{what} {n}")).collect();
        assert!(found.is_empty() || found == wanted, "{what}: {found:#?}");
    }
}

/// Texts of the last attempt's lines of this kind; applies of all attempts, since there
/// may be only one.
fn texts(fleet: &Fleet, job: &Value, what: &str) -> Vec<String> {
    let id = job["id"].as_str().expect("id");
    let lines = fleet.lines(id).into_iter();
    let wanted = lines.filter(|line| what != "planned" || line["attempt"] == job["attempt"]);
    let texts = wanted.map(|line| text(&line["text"]));
    texts
        .filter(|text| {
            text.strip_prefix(what)
                .is_some_and(|rest| rest.starts_with(' '))
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
