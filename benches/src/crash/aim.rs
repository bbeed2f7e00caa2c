//! Where in a build the gate lies: learned from the builds before.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::plan::{Aim, Case, Engine, Size};

/// Offsets from the submit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The apply begins to print.
    pub gate: Duration,
    /// The job has ended.
    pub end: Duration,
}

/// Estimates by kind of build, shared by all lanes.
#[derive(Debug, Default)]
pub struct Estimates(Mutex<HashMap<(Engine, Size), Estimate>>);

impl Estimates {
    /// The estimate for first builds of the case's kind; `measure` runs one build when there is none yet.
    pub fn of<E>(
        &self,
        case: &Case,
        measure: impl FnOnce() -> Result<Estimate, E>,
    ) -> Result<Estimate, E> {
        let key = (case.engine, case.size);
        let known = || {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&key).copied()
        };
        if let Some(estimate) = known() {
            return Ok(estimate);
        }
        let estimate = measure()?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(*all.entry(key).or_insert(estimate))
    }

    /// A build got to its gate after so long: the next aim follows the machine's load.
    pub fn learn(&self, case: &Case, gate: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(estimate) = all.get_mut(&(case.engine, case.size)) {
            let apply = estimate.end.saturating_sub(estimate.gate);
            estimate.gate = (estimate.gate * 2 + gate) / 3;
            estimate.end = estimate.gate + apply;
        }
    }
}

impl Estimate {
    /// When to kill, after the submit; `None` for an aim that waits for a sign.
    pub fn instant(&self, aim: Aim) -> Option<Duration> {
        match aim {
            Aim::Uniform(fraction) => Some(self.end.mul_f64(fraction)),
            Aim::Planned | Aim::Asked | Aim::Applies(_) => None,
        }
    }
}
