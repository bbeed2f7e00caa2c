//! What is taken away, from which phase, for how long, and what must come of it.

use std::fmt;
use std::time::Duration;

/// What is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The way between daemon and queue; nobody is told.
    Network,
    /// The queue: SIGKILL, and a new one on its data.
    Queue,
    /// The queue's PostgreSQL: SIGKILL to all of its processes, and a new start.
    Database,
    /// The daemon: SIGSTOP, then SIGCONT.
    Daemon,
    /// The supervisor, likewise.
    Supervisor,
    /// The worker, likewise.
    Worker,
}

/// In which phase of the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before the gate.
    Init,
    /// Before the gate.
    Plan,
    /// As soon as the daemon has written down that it asks for the gate.
    Gate,
    /// After it.
    Apply,
}

/// For how long; whole waits are divided as those of the product are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// Ten seconds.
    Ten,
    /// Sixty seconds.
    Sixty,
    /// Sixty seconds, in which the apply comes to its end.
    SixtyAndDone,
    /// Five minutes, likewise.
    MinutesAndDone,
    /// Until the lease has ended and the queue has given its verdict.
    BeyondTrust,
}

/// One experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What is taken away.
    pub what: What,
    /// When.
    pub phase: Phase,
    /// For how long.
    pub span: Span,
}

/// How it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Succeeded as the first attempt, no line missing.
    First,
    /// Succeeded as the first or second attempt, the lines of both kept.
    FirstOrSecond,
    /// Succeeded as the second attempt.
    Second,
    /// `WORKER_LOST`, what was made in the state.
    LostWithState,
    /// `WORKER_LOST`, what was made in the state or named.
    LostAndNamed,
    /// `WORKER_LOST` at the lease's end, the engine dead before; the state arrives late
    /// and changes no status.
    Late,
}

impl Case {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for what in [
            What::Network,
            What::Queue,
            What::Database,
            What::Daemon,
            What::Supervisor,
            What::Worker,
        ] {
            for phase in [Phase::Init, Phase::Plan, Phase::Gate, Phase::Apply] {
                for span in [
                    Span::Ten,
                    Span::Sixty,
                    Span::SixtyAndDone,
                    Span::MinutesAndDone,
                    Span::BeyondTrust,
                ] {
                    all.push(Self { what, phase, span });
                }
            }
        }
        all.retain(|case| case.makes_sense());
        all
    }

    /// Only an apply can come to its end meanwhile, and only with all of its processes. A
    /// queue that is away, or that can store nothing, gives no verdict.
    fn makes_sense(self) -> bool {
        let whole = !matches!(self.what, What::Supervisor | What::Worker);
        let queue = matches!(self.what, What::Queue | What::Database);
        if self.phase == Phase::Gate {
            // Who asks and who is asked; what comes beyond is that of plan or apply.
            return whole && matches!(self.span, Span::Ten | Span::Sixty);
        }
        match self.span {
            Span::Ten | Span::Sixty => true,
            Span::SixtyAndDone => whole && self.phase == Phase::Apply,
            Span::MinutesAndDone => queue && self.phase == Phase::Apply,
            Span::BeyondTrust => !queue,
        }
    }

    /// See [`Ending`]: the table of deadlines and deaths. A worker or supervisor that is
    /// silent for 30 s is killed; a daemon may be away for as long as its lease is
    /// trusted; a queue blames nobody for its own absence.
    #[must_use]
    pub fn ending(self) -> Ending {
        let away = matches!(self.what, What::Network | What::Daemon);
        if matches!(self.what, What::Queue | What::Database) {
            return Ending::First;
        }
        match (away, self.phase, self.span) {
            (true, Phase::Init | Phase::Plan | Phase::Gate, _) => Ending::FirstOrSecond,
            (true, Phase::Apply, Span::BeyondTrust) => Ending::Late,
            (true, Phase::Apply, _) | (false, _, Span::Ten) => Ending::First,
            (false, Phase::Init | Phase::Plan | Phase::Gate, _) => Ending::Second,
            (false, Phase::Apply, _) if self.what == What::Worker => Ending::LostWithState,
            (false, Phase::Apply, _) => Ending::LostAndNamed,
        }
    }
}

impl Span {
    /// How long, `None` until the verdict.
    #[must_use]
    pub fn length(self, divisor: u32) -> Option<Duration> {
        let seconds = match self {
            Self::Ten => 10,
            Self::Sixty | Self::SixtyAndDone => 60,
            Self::MinutesAndDone => 300,
            Self::BeyondTrust => return None,
        };
        Some(Duration::from_secs(seconds) / divisor)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Network => "network",
            What::Queue => "queue",
            What::Database => "database",
            What::Daemon => "daemon",
            What::Supervisor => "supervisor",
            What::Worker => "worker",
        };
        let phase = match self.phase {
            Phase::Init => "init",
            Phase::Plan => "plan",
            Phase::Gate => "gate",
            Phase::Apply => "apply",
        };
        let span = match self.span {
            Span::Ten => "10s",
            Span::Sixty => "60s",
            Span::SixtyAndDone => "60s-done",
            Span::MinutesAndDone => "300s-done",
            Span::BeyondTrust => "beyond",
        };
        write!(f, "{what}/{phase}/{span}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_meets_every_span_and_no_apply_is_ever_run_again() {
        let all = Case::all();
        // Beyond trust where a verdict can come, then queue and database, ends meanwhile,
        // and the gate.
        assert_eq!(all.len(), 4 * 3 * 3 + 2 * 3 * 2 + (4 + 2) + 4 * 2);
        let again = |case: &&Case| {
            case.phase == Phase::Apply
                && matches!(case.ending(), Ending::Second | Ending::FirstOrSecond)
        };
        assert_eq!(all.iter().find(again), None);
    }
}
