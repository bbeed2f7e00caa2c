//! The states of a job and what moves it between them. Pure: no clock, no store.
//!
//! ```text
//!            offer            confirm               finish
//!  ┌─▶ pending ──▶ offered ────────▶ running ─────────────▶ succeeded · failed · canceled
//!  │      │          │ │               │  │ cancel            ▲  ▲
//!  │      │ cancel   │ └─ cancel ──┐   │  ▼         finish    │  │
//!  │      └──────────┼─────────────┼───┼─ canceling ──────────┘  │
//!  │                 │             │   │     │ lost              │
//!  │   withdrawn     │             ▼   │     │                   │
//!  ├─────────────────┘          canceled     ▼                   │
//!  │   lost or released, before the gate  canceled before, ──────┘
//!  └──────────────────────────────┘       failed after the gate
//! ```
//!
//! An *attempt* begins with an offer and ends with whatever leads out of offered,
//! running or canceling; each has a number and a lease of its own. Only what may be the
//! job's own fault counts against it.
//!
//! Verdicts (`C` = a cancel was asked for):
//!
//! | ends by | before the gate | before, `C` | after the gate | after, `C` |
//! |---|---|---|---|---|
//! | finish succeeded | succeeded | succeeded | succeeded | succeeded |
//! | finish failed | failed | failed | failed | failed |
//! | finish canceled (our token) | canceled | canceled | canceled | canceled |
//! | finish released | pending | canceled | failed, `WORKER_LOST` | failed, `WORKER_LOST` |
//! | lease lost | pending | canceled | failed, `WORKER_LOST` | failed, `WORKER_LOST` |
//! | abandon | failed, `JOB_ABANDONED` | canceled | failed, `WORKER_LOST` | failed, `WORKER_LOST` |
//!
//! Where it says canceled and the cancel was asked for by the run's deadline, it is
//! failed, `RUN_DEADLINE`: nobody wanted the job to end. A pending job whose queue deadline
//! has passed is failed, `QUEUE_DEADLINE`.
//!
//! Back to pending is refused to the 3rd counted and the 20th uncounted attempt: those
//! end as failed, `ATTEMPTS_EXHAUSTED`. An offer whose stream broke is no attempt of
//! anybody's: behind a proxy that cuts streams a good job would be used up by it.

use proto::limits;

use crate::lease::Side;
use crate::words::{Outcome, ReleaseReason, Status};

/// Where a job stands, more exactly than its [`Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Waits for a daemon.
    Pending,
    /// Handed out, not confirmed.
    Offered,
    /// A daemon has it.
    Running,
    /// A daemon has it and is to end it.
    Canceling,
    /// Ended well.
    Succeeded,
    /// Ended by our cancel.
    Canceled,
    /// Ended badly.
    Failed,
}

impl State {
    /// Every state, in order.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Offered,
        Self::Running,
        Self::Canceling,
        Self::Succeeded,
        Self::Canceled,
        Self::Failed,
    ];

    /// As it stands in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Pending
            | Self::Running
            | Self::Canceling
            | Self::Succeeded
            | Self::Canceled
            | Self::Failed => self.status().as_str(),
        }
    }

    /// The state for its text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// As clients see it.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Pending | Self::Offered => Status::Pending,
            Self::Running => Status::Running,
            Self::Canceling => Status::Canceling,
            Self::Succeeded => Status::Succeeded,
            Self::Canceled => Status::Canceled,
            Self::Failed => Status::Failed,
        }
    }

    /// Whether a daemon has it: offered or confirmed, and not ended.
    #[must_use]
    pub fn is_in_hand(self) -> bool {
        match self {
            Self::Offered | Self::Running | Self::Canceling => true,
            Self::Pending | Self::Succeeded | Self::Canceled | Self::Failed => false,
        }
    }

    /// Whether nothing moves it any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Offered | Self::Running | Self::Canceling => false,
            Self::Succeeded | Self::Canceled | Self::Failed => true,
        }
    }
}

/// How often a job was handed out and came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attempts {
    /// Those that may have been its own fault.
    pub counted: u32,
    /// Drained, never started, never confirmed.
    pub uncounted: u32,
}

/// Who asked for a job's end, where somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A person, or nobody.
    Person,
    /// The deadline of its run.
    Deadline,
}

/// All that the next step depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: State,
    /// On which side of the gate its attempt is.
    pub side: Side,
    /// How many attempts came back before this one.
    pub attempts: Attempts,
    /// Who asked for its end, if it is canceling.
    pub asked: Asked,
}

/// What may happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is handed to a daemon.
    Offer,
    /// The daemon has it.
    Confirm,
    /// The daemon did not say in time that it has it.
    Withdraw,
    /// The stream that carried the offer broke before the daemon said so.
    Undelivered,
    /// Someone asked for its end.
    Cancel,
    /// Its worker wants to change the world.
    OpenGate,
    /// Its daemon reports its ending.
    Finish(Outcome, Option<ReleaseReason>),
    /// Its lease ran out.
    Lost,
    /// An operator gives it up.
    Abandon,
    /// Nobody has begun it in time.
    QueueDeadline,
    /// It has run for too long.
    RunDeadline,
}

/// Why a job ended, where that is not in a daemon's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// As its daemon reported.
    Reported,
    /// A cancel was asked for.
    Canceled,
    /// Too many attempts came back.
    AttemptsExhausted,
    /// Lost after the gate.
    WorkerLost,
    /// Given up by an operator.
    Abandoned,
    /// Not begun in time.
    QueueDeadline,
    /// Ended because it ran for too long.
    RunDeadline,
}

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it has happened already.
    Stay,
    /// It moves on, within its attempt.
    Move(State),
    /// The gate opens.
    GateOpens,
    /// It waits again, for its next attempt.
    Requeue(Attempts),
    /// It ends.
    End(State, Reason),
}

/// The event is not possible in that state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// The table of the module's diagram.
///
/// # Errors
/// [`Refused`] when the event is not possible.
pub fn next(standing: Standing, event: Event) -> Result<Next, Refused> {
    use State::{Canceled, Canceling, Failed, Offered, Pending, Running, Succeeded};
    match (standing.state, event) {
        (Succeeded | Canceled | Failed, _) => Err(Refused),

        (Pending, Event::Offer) => Ok(Next::Move(Offered)),
        (Pending | Offered, Event::Cancel) => Ok(Next::End(Canceled, Reason::Canceled)),
        (Running, Event::Cancel) => Ok(Next::Move(Canceling)),
        (Canceling, Event::Cancel) => Ok(Next::Stay),

        (Offered, Event::Confirm) => Ok(Next::Move(Running)),
        (Running | Canceling, Event::Confirm) => Ok(Next::Stay),
        (Offered, Event::Withdraw) => Ok(back(standing.attempts, Fault::Nobodys)),
        (Offered, Event::Undelivered) => Ok(Next::Requeue(standing.attempts)),

        (Running | Canceling, Event::OpenGate) => open_gate(standing),
        (Offered | Running | Canceling, Event::Finish(outcome, reason)) => {
            Ok(finish(standing, outcome, reason))
        }
        (Running | Canceling, Event::Lost) => Ok(lost(standing, Fault::Its)),
        (Running | Canceling, Event::Abandon) => Ok(abandon(standing)),
        (Pending, Event::QueueDeadline) => Ok(Next::End(Failed, Reason::QueueDeadline)),
        (Running, Event::RunDeadline) => Ok(Next::Move(Canceling)),

        (Pending | Offered | Canceling, Event::RunDeadline)
        | (Offered | Running | Canceling, Event::QueueDeadline)
        | (Pending, Event::Confirm | Event::Withdraw | Event::Undelivered | Event::OpenGate)
        | (Pending, Event::Finish(..) | Event::Lost | Event::Abandon)
        | (Offered, Event::Offer | Event::OpenGate | Event::Lost | Event::Abandon)
        | (Running | Canceling, Event::Offer | Event::Withdraw | Event::Undelivered) => {
            Err(Refused)
        }
    }
}

/// Whose fault a lost attempt may be.
#[derive(Clone, Copy)]
enum Fault {
    Its,
    Nobodys,
}

fn open_gate(standing: Standing) -> Result<Next, Refused> {
    match (standing.side, standing.state == State::Canceling) {
        (Side::AfterGate, _) => Ok(Next::Stay),
        (Side::BeforeGate, false) => Ok(Next::GateOpens),
        (Side::BeforeGate, true) => Err(Refused),
    }
}

fn finish(standing: Standing, outcome: Outcome, reason: Option<ReleaseReason>) -> Next {
    match outcome {
        Outcome::Succeeded => Next::End(State::Succeeded, Reason::Reported),
        Outcome::Failed => Next::End(State::Failed, Reason::Reported),
        Outcome::Canceled => match standing.asked {
            Asked::Person => Next::End(State::Canceled, Reason::Reported),
            Asked::Deadline => ended_as_asked(standing),
        },
        Outcome::Released => match reason {
            Some(ReleaseReason::Drain | ReleaseReason::NeverStarted) => {
                lost(standing, Fault::Nobodys)
            }
            Some(ReleaseReason::WorkerLost | ReleaseReason::DaemonRestarted) | None => {
                lost(standing, Fault::Its)
            }
        },
    }
}

fn lost(standing: Standing, fault: Fault) -> Next {
    match (standing.side, standing.state == State::Canceling) {
        (Side::AfterGate, _) => Next::End(State::Failed, Reason::WorkerLost),
        (Side::BeforeGate, true) => ended_as_asked(standing),
        (Side::BeforeGate, false) => back(standing.attempts, fault),
    }
}

fn ended_as_asked(standing: Standing) -> Next {
    match standing.asked {
        Asked::Person => Next::End(State::Canceled, Reason::Canceled),
        Asked::Deadline => Next::End(State::Failed, Reason::RunDeadline),
    }
}

fn abandon(standing: Standing) -> Next {
    match (standing.side, standing.state == State::Canceling) {
        (Side::AfterGate, _) => Next::End(State::Failed, Reason::WorkerLost),
        (Side::BeforeGate, true) => ended_as_asked(standing),
        (Side::BeforeGate, false) => Next::End(State::Failed, Reason::Abandoned),
    }
}

fn back(attempts: Attempts, fault: Fault) -> Next {
    let attempts = match fault {
        Fault::Its => Attempts {
            counted: attempts.counted + 1,
            ..attempts
        },
        Fault::Nobodys => Attempts {
            uncounted: attempts.uncounted + 1,
            ..attempts
        },
    };
    if attempts.counted >= limits::ATTEMPTS || attempts.uncounted >= limits::UNCOUNTED_RELEASES {
        return Next::End(State::Failed, Reason::AttemptsExhausted);
    }
    Next::Requeue(attempts)
}

#[cfg(test)]
mod tests;
