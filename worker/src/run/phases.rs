//! The phases of one attempt and how long each took.

use std::time::Instant;

use proto::v1::{Phase, PhaseTiming};

use super::clock;

/// Phases so far; the last one is running.
#[derive(Debug, Default)]
pub(super) struct Phases {
    entered: Vec<(Phase, i64, Instant)>,
}

impl Phases {
    /// The phase in force.
    pub(super) fn current(&self) -> Phase {
        self.entered
            .last()
            .map_or(Phase::Setup, |(phase, ..)| *phase)
    }

    /// Goes on to `phase`; `false` when that is the current or an earlier one.
    pub(super) fn enter(&mut self, phase: Phase) -> bool {
        if !self.entered.is_empty() && phase <= self.current() {
            return false;
        }
        self.entered.push((phase, clock::now_ms(), Instant::now()));
        true
    }

    /// Start and duration of each; the last one ends now.
    pub(super) fn timings(&self) -> Vec<PhaseTiming> {
        let ends = self.entered.iter().skip(1).map(|(.., at)| *at);
        self.entered
            .iter()
            .zip(ends.chain([Instant::now()]))
            .map(|((phase, started_at_ms, began), end)| PhaseTiming {
                phase: (*phase).into(),
                started_at_ms: *started_at_ms,
                duration_ms: u64::try_from((end - *began).as_millis()).unwrap_or(u64::MAX),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_never_go_back() {
        let mut phases = Phases::default();
        assert!(phases.enter(Phase::Setup) && phases.enter(Phase::Plan));
        assert!(!phases.enter(Phase::Init) && !phases.enter(Phase::Plan));
        assert_eq!(phases.current(), Phase::Plan);
        let timings = phases.timings();
        assert_eq!(timings.len(), 2);
        assert_eq!(timings[0].phase(), Phase::Setup);
    }
}
