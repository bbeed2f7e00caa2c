//! Builds over a simulated network that holds packets back, loses them in one direction or
//! both, and delivers late: real daemon, real queue, and everything arrives once and in
//! order. The seed is printed; `PROVISIONERD_TEST_SEED` brings it back.

use serde_json::Value;

use crate::harness::{Fleet, Scripted, Simulated, Waits, Weather, fake_engine};

/// Goes on for longer than the bad weather.
const STORY: &str = "[plan]\nlines 50 planned\n[apply]\nmade a.one first\nstate 7\n\
    every 100 100 applied\nmade a.two second\nstate 8 100000\nlines 500 after\n";
/// A build, and those that are asked for while the network is bad.
const BUILDS: usize = 2;
const SPELLS: usize = 7;

#[test]
fn a_network_that_holds_loses_and_delays_costs_no_apply_and_no_line() {
    let seed = std::env::var("PROVISIONERD_TEST_SEED");
    let seed = seed.map_or(5, |seed| seed.parse().expect("a number"));
    eprintln!("simulated network: seed {seed}");
    let fleet = Fleet::with(Waits::Short);
    let engine = fake_engine(fleet.dir());
    let scripted = Scripted::new(&fleet, STORY);
    // The import, by a daemon of its own, is done before the weather begins.
    let engine = ["--engine", engine.to_str().expect("text")];
    let importer = fleet.daemon("importer", &engine);
    fleet.push("t", &scripted.directory, &[]).exits(0);
    drop(importer);
    let network = Simulated::before(&fleet.url, seed, SPELLS);
    for cut in [Weather::Cut, Weather::CutToQueue, Weather::CutToDaemon] {
        assert!(network.weather.contains(&cut), "{:?}", network.weather);
    }
    let more = [&engine[..], &["--slots", "2"]].concat();
    let mut daemon = fleet.daemon_by(&network.url, "one", &more);
    let jobs: Vec<String> = (0..BUILDS)
        .map(|number| fleet.create(&format!("w{number}"), "t"))
        .collect();
    for (number, job) in jobs.iter().enumerate() {
        let ended = fleet.ended(job);
        assert_eq!(ended["status"], "succeeded", "{ended:#}");
        let state = fleet.run(&["state", "pull", &format!("w{number}")]);
        assert_eq!(
            state.exits(0).json()["serial"],
            8,
            "the engine's last state"
        );
        let lines = fleet.lines(job);
        // Before the gate another attempt is right; an apply is run once, so that its
        // lines are there once whatever their attempt.
        let of_last = |line: &Value| line["attempt"] == ended["attempt"];
        assert_eq!(numbers(lines.iter().filter(|l| of_last(l)), "planned "), 50);
        assert_eq!(numbers(lines.iter(), "applied "), 100);
        assert_eq!(numbers(lines.iter(), "after "), 500);
    }
    fleet.assert_nothing_left(&mut daemon);
}

/// How many lines of this kind there are, each once and in order.
#[track_caller]
fn numbers<'a>(lines: impl Iterator<Item = &'a Value>, what: &str) -> usize {
    let texts = lines.filter_map(|line| line["text"].as_str());
    let numbers: Vec<usize> = texts
        .filter_map(|text| text.strip_prefix(what)?.parse().ok())
        .collect();
    let due: Vec<usize> = (1..=numbers.len()).collect();
    assert_eq!(numbers, due, "{what}");
    numbers.len()
}
