//! The network is cut, the queue is away, a process stands still: the cases of the soak
//! command that are worth their time here, with waits of a quarter.

use std::time::Duration;

use benches::cut::case::{Case, Phase, Span, What};
use benches::cut::{self, Options};

use crate::harness::{Tools, binary, skip, testdata};

/// The shortest lease that waits of a quarter allow.
const SHORTEST: Duration = Duration::from_secs(45);

/// With the product's own lease where none is given: how soon TCP notices that a network is
/// back does not shrink with the product's waits.
#[track_caller]
fn hold(lease: Option<Duration>, cases: &[(What, Phase, Span)]) {
    let options = Options {
        binary: binary().to_owned(),
        testdata: testdata(),
        engine: Tools::find().engine(),
        divisor: 4,
        lease,
        lanes: cases.len(),
    };
    let cases: Vec<Case> = cases
        .iter()
        .map(|&(what, phase, span)| Case { what, phase, span })
        .collect();
    let report = cut::run(&options, &cases);
    for (case, why) in &report.skipped {
        skip(&case.to_string(), why);
    }
    let broken = report.broken();
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

#[test]
fn a_network_that_comes_back_in_time_costs_neither_an_apply_nor_a_line() {
    hold(
        None,
        &[
            (What::Network, Phase::Plan, Span::Ten),
            (What::Network, Phase::Init, Span::Sixty),
            (What::Network, Phase::Gate, Span::Ten),
            (What::Network, Phase::Apply, Span::Sixty),
            (What::Network, Phase::Apply, Span::SixtyAndDone),
        ],
    );
}

#[test]
fn beyond_trust_the_engine_is_dead_before_the_lease_ends_and_its_state_arrives_late() {
    hold(
        Some(SHORTEST),
        &[
            (What::Network, Phase::Apply, Span::BeyondTrust),
            (What::Daemon, Phase::Apply, Span::BeyondTrust),
        ],
    );
}

#[test]
fn a_daemon_that_stands_still_blames_nobody_when_it_goes_on() {
    hold(
        None,
        &[
            (What::Daemon, Phase::Plan, Span::Sixty),
            (What::Daemon, Phase::Gate, Span::Sixty),
            (What::Daemon, Phase::Apply, Span::Sixty),
            (What::Daemon, Phase::Apply, Span::SixtyAndDone),
        ],
    );
}

#[test]
fn a_worker_or_supervisor_that_stands_still_for_a_moment_costs_nothing() {
    hold(
        None,
        &[
            (What::Worker, Phase::Init, Span::Ten),
            (What::Worker, Phase::Apply, Span::Ten),
            (What::Supervisor, Phase::Plan, Span::Ten),
            (What::Supervisor, Phase::Apply, Span::Ten),
        ],
    );
}

#[test]
fn a_queue_that_was_away_takes_everything_and_expires_nobody() {
    hold(
        None,
        &[
            (What::Queue, Phase::Plan, Span::Sixty),
            (What::Queue, Phase::Gate, Span::Ten),
            (What::Queue, Phase::Apply, Span::Sixty),
            (What::Queue, Phase::Apply, Span::SixtyAndDone),
        ],
    );
}

#[test]
fn a_database_that_was_away_costs_no_apply() {
    hold(
        None,
        &[
            (What::Database, Phase::Plan, Span::Sixty),
            (What::Database, Phase::Apply, Span::Sixty),
            (What::Database, Phase::Apply, Span::SixtyAndDone),
        ],
    );
}
