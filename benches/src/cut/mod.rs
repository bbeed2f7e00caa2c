//! The network is cut, the queue or its database is away, or a process of the fleet stands still: for ten
//! seconds, for sixty, and until the lease has ended, in each phase of a build. What must come of it stands in
//! [`case`]; [`wire`] cuts a network so that nobody notices; `story` is one case, `check` its end.
//!
//! Init and plan are played by the scripted engine, which prints for as long as it is told
//! to; applies are a real engine's.

pub mod case;
mod check;
pub mod fleet;
mod lines;
mod story;
pub mod wire;

use std::collections::VecDeque;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use case::{Case, What};
pub use story::Measured;

/// How to run cases.
#[derive(Debug, Clone)]
pub struct Options {
    /// The product's binary.
    pub binary: PathBuf,
    /// The directory `testdata`.
    pub testdata: PathBuf,
    /// Engine of the applies.
    pub engine: PathBuf,
    /// All waits of the product, and the spans, are divided by it.
    pub divisor: u32,
    /// Lease after the gate, when not the product's own.
    pub lease: Option<Duration>,
    /// Cases at once.
    pub lanes: usize,
}

/// How cases went.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order they ended.
    pub outcomes: Vec<(Case, Result<Measured, String>)>,
    /// Cases that cannot be run here.
    pub skipped: Vec<(Case, String)>,
}

/// Runs the cases.
#[must_use]
pub fn run(options: &Options, cases: &[Case]) -> Report {
    let impossible = |what: What| match what {
        What::Network => wire::Wire::impossible(),
        What::Database => crate::postgres::find().err(),
        What::Queue | What::Daemon | What::Supervisor | What::Worker => None,
    };
    let mut report = Report::default();
    let mut waiting = VecDeque::new();
    for case in cases {
        match impossible(case.what) {
            Some(why) => report.skipped.push((*case, why)),
            None => waiting.push_back(*case),
        }
    }
    let waiting = Mutex::new(waiting);
    let outcomes = Mutex::new(Vec::new());
    // A function, or the loop would hold the lock.
    let next = || locked(&waiting).pop_front();
    let lane = || {
        while let Some(case) = next() {
            let outcome = story::run(options, case).map_err(|error| format!("{error:?}"));
            eprintln!("cut: {}", line(&case, &outcome));
            locked(&outcomes).push((case, outcome));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.lanes.max(1) {
            scope.spawn(lane);
        }
    });
    report.outcomes = outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    report
}

/// A copy of the scripted engine in a directory that jails may read.
///
/// # Errors
/// The file system.
pub fn scripted_engine(testdata: &Path, into: &Path) -> Result<PathBuf> {
    let (from, target) = (testdata.join("fake-engine"), into.join("fake-engine"));
    std::fs::copy(&from, &target).with_context(|| from.display().to_string())?;
    for path in [&target, into] {
        std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    Ok(target)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(case: &Case, outcome: &Result<Measured, String>) -> String {
    let measured = match outcome {
        Ok(measured) => measured,
        Err(error) => return format!("BROKEN {case}: {error}"),
    };
    let mut line = format!(
        "{case}: {}; away {:.1} s",
        measured.ending,
        measured.away.as_secs_f64()
    );
    let more = [
        ("verdict after", Some(measured.to_verdict)),
        ("late state after", measured.to_late_state),
        (
            "engine dead before the verdict by",
            measured.dead_before_verdict,
        ),
    ];
    for (what, duration) in more {
        if let Some(duration) = duration.filter(|duration| !duration.is_zero()) {
            line += &format!(", {what} {:.1} s", duration.as_secs_f64());
        }
    }
    line + &format!(", {} lines", measured.lines)
}

impl Report {
    /// Cases that did not go as they must, with why.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let broken = self.outcomes.iter().filter(|(_, outcome)| outcome.is_err());
        broken.map(|(case, outcome)| line(case, outcome)).collect()
    }

    /// For the standard output.
    #[must_use]
    pub fn json(&self) -> Value {
        let outcomes = self.outcomes.iter().map(|(case, outcome)| {
            let seconds = |duration: Duration| duration.as_secs_f64();
            match outcome {
                Ok(it) => json!({
                    "case": case.to_string(),
                    "ending": it.ending,
                    "away_s": seconds(it.away),
                    "to_verdict_s": seconds(it.to_verdict),
                    "to_late_state_s": it.to_late_state.map(seconds),
                    "dead_before_verdict_s": it.dead_before_verdict.map(seconds),
                    "lines": it.lines,
                }),
                Err(error) => json!({ "case": case.to_string(), "broken": error }),
            }
        });
        let skipped = self
            .skipped
            .iter()
            .map(|(case, why)| json!({ "case": case.to_string(), "why": why }));
        json!({
            "bench": "cut",
            "cases": outcomes.collect::<Vec<_>>(),
            "broken": self.broken().len(),
            "skipped": skipped.collect::<Vec<_>>(),
        })
    }
}
