//! What is printed at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::Options;
use super::audit::Counts;
use super::case::Outcome;
use super::plan::{Change, Engine, Kind, Size};

/// Width of a bar of the histogram.
const BIN: f64 = 0.25;
/// Of this many kills one at least is near the gate ...
const ONE_NEAR_GATE_IN: usize = 5;
/// ... when there are enough to ask for it.
const ENOUGH: usize = 10;

/// All cases together.
#[derive(Debug)]
pub struct Report {
    seed: u64,
    divisor: u32,
    lanes: usize,
    with_tofu: bool,
    wall: Duration,
    outcomes: Vec<Outcome>,
    kept: Vec<PathBuf>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            seed: options.seed,
            divisor: options.divisor,
            lanes: options.lanes,
            with_tofu: options.tofu.is_some(),
            wall: Duration::ZERO,
            outcomes: Vec::new(),
            kept: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, outcome: Outcome, kept: Option<PathBuf>) {
        let case = &outcome.case;
        let Counts {
            made,
            tracked,
            unconfirmed,
            lost,
            ..
        } = outcome.counts;
        eprintln!(
            "crash: {case}: {:+.2} s from the gate, {} after {:.1} s; made {made}, tracked {tracked}, unconfirmed {unconfirmed}, lost {lost}",
            outcome.from_gate,
            outcome.verdict,
            outcome.to_verdict.as_secs_f64(),
        );
        for violation in &outcome.violations {
            eprintln!(
                "crash: BROKEN in case {} (job {}): {violation}",
                case.number, outcome.job
            );
        }
        if let Some(kept) = &kept {
            eprintln!("crash: its data: {}", kept.display());
        }
        self.kept.extend(kept);
        self.outcomes.push(outcome);
    }

    pub(super) fn took(&mut self, wall: Duration) {
        self.wall = wall;
        self.outcomes.sort_by_key(|outcome| outcome.case.number);
    }

    /// Every broken rule with its case.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let each = |outcome: &Outcome| {
            let case = outcome.case;
            let named = outcome.violations.iter();
            named
                .map(|it| format!("case {case}: {it}"))
                .collect::<Vec<_>>()
        };
        let mut all: Vec<String> = self.outcomes.iter().flat_map(each).collect();
        let (kills, near) = (self.outcomes.len(), self.near_gate());
        if kills >= ENOUGH && near * ONE_NEAR_GATE_IN < kills {
            all.push(format!(
                "only {near} of {kills} kills came within 500 ms of the gate"
            ));
        }
        all
    }

    fn near_gate(&self) -> usize {
        // A case that did not come to its kill has no job.
        let killed = self.outcomes.iter().filter(|it| !it.job.is_empty());
        killed.filter(|it| it.from_gate.abs() <= 0.5).count()
    }

    /// Kills that were made.
    #[must_use]
    pub fn kills(&self) -> usize {
        self.outcomes.len()
    }

    /// Histogram and table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "crash: seed {}, {} kills in {:.0} s, {} fleets at once, waits divided by {}{}\n\n",
            self.seed,
            self.outcomes.len(),
            self.wall.as_secs_f64(),
            self.lanes,
            self.divisor,
            if self.with_tofu { "" } else { ", no OpenTofu" },
        );
        text.push_str("kills by seconds from the first output of the apply\n");
        for (bin, count) in self.histogram() {
            let from = f64::from(bin) * BIN;
            let _ = writeln!(text, "{from:>+7.2} {count:>4} {}", "#".repeat(count));
        }
        let _ = writeln!(
            text,
            "\n{:<13} {:>5} {:>6} {:>8} {:>12} {:>5} {:>9}",
            "killed", "kills", "made", "tracked", "unconfirmed", "lost", "verdict s"
        );
        for kind in Kind::ALL {
            let (kills, counts, slowest) = self.of(|outcome| outcome.case.kind == kind);
            line(&mut text, kind.name(), kills, counts, slowest);
        }
        for change in Change::ALL {
            let (kills, counts, slowest) = self.of(|outcome| outcome.case.change == change);
            line(&mut text, change.name(), kills, counts, slowest);
        }
        let (kills, counts, slowest) = self.of(|_| true);
        line(&mut text, "all", kills, counts, slowest);
        let broken = self.violations();
        let _ = writeln!(text, "\nbroken rules: {}", broken.len());
        for broken in broken {
            let _ = writeln!(text, "  {broken}");
        }
        text
    }

    /// The document.
    #[must_use]
    pub fn json(&self) -> Value {
        let count = |wanted: &dyn Fn(&Outcome) -> bool| {
            self.outcomes.iter().filter(|it| wanted(it)).count()
        };
        let kinds = Kind::ALL.map(|kind| {
            let (kills, counts, slowest) = self.of(|outcome| outcome.case.kind == kind);
            let mut row = counted(kills, counts);
            row["killed"] = kind.name().into();
            row["slowest_verdict_s"] = slowest.as_secs_f64().into();
            row
        });
        let changes = Change::ALL.map(|change| {
            let (kills, counts, _) = self.of(|outcome| outcome.case.change == change);
            let mut row = counted(kills, counts);
            row["build"] = change.name().into();
            row
        });
        let (kills, counts, _) = self.of(|_| true);
        let histogram = self.histogram().into_iter();
        let histogram = histogram.map(|(bin, count)| json!([f64::from(bin) * BIN, count]));
        let mut verdicts = BTreeMap::<&str, usize>::new();
        for outcome in &self.outcomes {
            *verdicts.entry(&outcome.verdict).or_default() += 1;
        }
        json!({
            "bench": "crash",
            "seed": self.seed,
            "timings_divisor": self.divisor,
            "fleets": self.lanes,
            "wall_s": self.wall.as_secs_f64(),
            "kills_tofu": count(&|it| it.case.engine == Engine::Tofu),
            "kills_large_state": count(&|it| it.case.size == Size::Large),
            "kills_before_gate": count(&|it| it.from_gate < 0.0),
            "kills_within_500_ms_of_gate": self.near_gate(),
            "kills_by_s_from_gate": histogram.collect::<Vec<_>>(),
            "by_kind": kinds,
            "by_change": changes,
            "all": counted(kills, counts),
            "verdicts": verdicts,
            "retained": self.outcomes.iter().map(|it| it.retained).sum::<usize>(),
            "violations": self.violations(),
            "kept": self.kept,
        })
    }

    fn histogram(&self) -> BTreeMap<i32, usize> {
        let mut bins = BTreeMap::new();
        for outcome in &self.outcomes {
            #[expect(clippy::cast_possible_truncation, reason = "a build takes seconds")]
            let bin = (outcome.from_gate / BIN).floor() as i32;
            *bins.entry(bin).or_default() += 1;
        }
        bins
    }

    fn of(&self, wanted: impl Fn(&Outcome) -> bool) -> (usize, Counts, Duration) {
        let chosen = self.outcomes.iter().filter(|outcome| wanted(outcome));
        chosen.fold((0, Counts::default(), Duration::ZERO), |sum, outcome| {
            let slowest = sum.2.max(outcome.to_verdict);
            (sum.0 + 1, sum.1.plus(outcome.counts), slowest)
        })
    }
}

fn line(text: &mut String, name: &str, kills: usize, counts: Counts, slowest: Duration) {
    let Counts {
        made,
        tracked,
        unconfirmed,
        lost,
        ..
    } = counts;
    let slowest = slowest.as_secs_f64();
    let _ = writeln!(
        text,
        "{name:<13} {kills:>5} {made:>6} {tracked:>8} {unconfirmed:>12} {lost:>5} {slowest:>9.1}"
    );
}

fn counted(kills: usize, counts: Counts) -> Value {
    json!({
        "kills": kills,
        "made": counts.made,
        "tracked": counts.tracked,
        "unconfirmed": counts.unconfirmed,
        "lost": counts.lost,
        "named_though_in_state": counts.needless,
    })
}
