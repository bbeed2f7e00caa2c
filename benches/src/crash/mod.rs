//! The crash sweep: builds that make, change or delete thirty real resources, one of the
//! processes killed at a drawn instant, everything restarted on its data, and then the count: what was really
//! made against what the workspace knows.
//!
//! ```text
//!   submit ──── setup, init, plan ────┬──── apply ────┬─ cleanup ─▶ verdict ─▶ audit ─▶ next build
//!        ▲ kill, uniform              ▲ the gate: a fifth of the kills within ± 500 ms at least
//! ```
//!
//! Marks outside the state say what was made (`world`), the engine's own output says what
//! was printed and when (`printed`), /proc says what still lives (`processes`). None of
//! this comes from the product. [`audit`] and `change` hold the rules.

mod aim;
pub mod audit;
mod case;
mod change;
mod fleet;
mod judge;
mod plan;
mod printed;
mod processes;
mod report;
mod verdict;
mod world;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};

use aim::Estimates;
use fleet::Fleet;
use plan::Case;
pub use report::Report;

/// What to sweep.
#[derive(Debug, Clone)]
pub struct Options {
    /// The product's binary.
    pub binary: PathBuf,
    /// The template `testdata/templates/marks`.
    pub template: PathBuf,
    /// Terraform.
    pub terraform: PathBuf,
    /// OpenTofu; without it all builds are Terraform's, and the report says so.
    pub tofu: Option<PathBuf>,
    /// Unpacked provider mirror with coder/coder, hashicorp/local and hashicorp/null.
    pub mirror: PathBuf,
    /// How many kills.
    pub kills: usize,
    /// Everything that is drawn is drawn from it.
    pub seed: u64,
    /// Fleets at once.
    pub lanes: usize,
    /// All waits of the product are divided by it.
    pub divisor: u32,
    /// Where the fleets lie; the directories of broken cases stay.
    pub dir: PathBuf,
}

/// What all lanes share.
struct Sweep<'a> {
    options: &'a Options,
    cases: Mutex<std::vec::IntoIter<Case>>,
    report: Mutex<Report>,
    estimates: Estimates,
    failed: AtomicBool,
}

/// Runs the sweep. Broken rules are part of the report.
///
/// # Errors
/// A fleet does not start, or the bench itself cannot go on.
pub fn run(options: &Options) -> Result<Report> {
    let start = Instant::now();
    std::fs::create_dir_all(&options.dir)?;
    let sweep = Sweep {
        options,
        cases: Mutex::new(plan::draw(options).into_iter()),
        report: Mutex::new(Report::new(options)),
        estimates: Estimates::default(),
        failed: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..options.lanes)
            .map(|lane| {
                let sweep = &sweep;
                scope.spawn(move || sweep.lane(lane))
            })
            .collect();
        for lane in lanes {
            lane.join()
                .map_err(|_| anyhow::anyhow!("a lane panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let report = sweep.report.into_inner();
    let mut report = report.unwrap_or_else(PoisonError::into_inner);
    report.took(start.elapsed());
    Ok(report)
}

impl Sweep<'_> {
    /// Cases one after the other on one fleet; a broken one keeps its fleet's directory,
    /// and the next one gets a new fleet.
    fn lane(&self, lane: usize) -> Result<()> {
        let mut fleet: Option<Fleet> = None;
        let mut number = 0;
        while let Some(case) = self.next() {
            let mut current = match fleet.take() {
                Some(fleet) => fleet,
                None => {
                    let dir = self.options.dir.join(format!("{lane}-{number}"));
                    number += 1;
                    Fleet::start(self.options, &dir).inspect_err(|_| self.stop())?
                }
            };
            let result = case::run(&mut current, &self.estimates, &case);
            let result = result.with_context(|| format!("case {case}"));
            let outcome = match result {
                Ok(outcome) => outcome,
                Err(error) => case::Outcome::broken(&case, &error),
            };
            let kept = (!outcome.violations.is_empty()).then(|| current.dir().to_owned());
            let broken = kept.is_some();
            self.report
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(outcome, kept);
            if broken {
                drop(current);
            } else {
                fleet = Some(current);
            }
        }
        if let Some(fleet) = fleet {
            fleet.end_and_remove();
        }
        Ok(())
    }

    fn next(&self) -> Option<Case> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let mut cases = self.cases.lock().unwrap_or_else(PoisonError::into_inner);
        cases.next()
    }

    fn stop(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}
