//! The worker's last word: success, failure or cancellation, with all that was found.

use prost::Message;
use proto::limits::WORKER_FRAME;
use proto::unconfirmed::unconfirmed;
use proto::v1::{InterruptReason, JobError, Outcome, WorkOutcome};

use super::session::{Session, Stop};
use super::watch::lock;

/// What is left of a frame for everything but the extraction.
const FRAME_RESERVE: usize = 1024 * 1024;

impl Session {
    /// Builds the outcome.
    pub(super) fn outcome(&mut self, result: Result<(), Stop>) -> WorkOutcome {
        let (outcome, error) = verdict(result, self.gate_open);
        let ledger = lock(&self.ledger);
        let product = std::mem::take(&mut self.product);
        let mut work = WorkOutcome {
            outcome: outcome.into(),
            error,
            state: product.state,
            unconfirmed: unconfirmed(ledger.entries(), product.proved_seq),
            extraction: product.extraction,
            facts: product.facts,
            phases: self.phases.timings(),
            last_ledger_seq: ledger.last_seq(),
            engine_processes: self.processes,
        };
        fit(&mut work);
        work
    }
}

/// Only our own token makes a cancellation; other interruptions are failures with the
/// reason's code, or a release while nothing has been changed.
fn verdict(result: Result<(), Stop>, gate_open: bool) -> (Outcome, Option<JobError>) {
    let reason = match result {
        Ok(()) => return (Outcome::Succeeded, None),
        Err(Stop::Failed(error)) => return (Outcome::Failed, Some(error)),
        Err(Stop::Interrupted(reason)) => reason,
    };
    let failed = |error| (Outcome::Failed, Some(error));
    match reason {
        InterruptReason::Cancel | InterruptReason::Force => (Outcome::Canceled, None),
        InterruptReason::Drain if !gate_open => (Outcome::Released, None),
        InterruptReason::Drain => failed(
            JobError::capacity(
                "DAEMON_DRAINED",
                "the daemon had to stop before the job had ended",
            )
            .hint("Build again: what was made is in the workspace's state."),
        ),
        InterruptReason::Lease => failed(JobError::internal(
            "LEASE_LOST",
            "the daemon could not reach the queue for the length of the job's lease",
        )),
        InterruptReason::DaemonLost | InterruptReason::WorkerLost => failed(JobError::internal(
            "WORKER_LOST",
            "the daemon of the job was lost",
        )),
        InterruptReason::Pressure => failed(
            JobError::capacity("HOST_PRESSURE", "the host ran short of memory or disk")
                .hint("Give the daemon's host more memory or disk, or the daemon fewer slots."),
        ),
        InterruptReason::Unspecified => failed(JobError::internal(
            "INTERRUPTED",
            "the engine was interrupted",
        )),
    }
}

/// An outcome that no frame can carry would never arrive; without its extraction it does.
fn fit(work: &mut WorkOutcome) {
    let size = work.encoded_len();
    if size <= WORKER_FRAME - FRAME_RESERVE {
        return;
    }
    work.extraction = None;
    work.facts = None;
    if work.outcome() == Outcome::Succeeded {
        let limit = WORKER_FRAME - FRAME_RESERVE;
        work.outcome = Outcome::Failed.into();
        work.error = Some(JobError::capacity(
            "OUTCOME_TOO_LARGE",
            format!("what the template declares needs {size} bytes, the limit is {limit}"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{ErrorClass, TemplateFacts};

    fn interrupted(reason: InterruptReason, gate_open: bool) -> (Outcome, Option<JobError>) {
        verdict(Err(Stop::Interrupted(reason)), gate_open)
    }

    #[test]
    fn only_a_cancel_of_ours_is_a_cancellation() {
        assert_eq!(
            interrupted(InterruptReason::Cancel, true),
            (Outcome::Canceled, None)
        );
        assert_eq!(
            interrupted(InterruptReason::Force, false),
            (Outcome::Canceled, None)
        );
        let (outcome, error) = interrupted(InterruptReason::Pressure, true);
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(error.expect("error").class(), ErrorClass::Capacity);
    }

    #[test]
    fn a_drain_gives_the_job_back_while_nothing_has_been_changed() {
        assert_eq!(
            interrupted(InterruptReason::Drain, false).0,
            Outcome::Released
        );
        assert_eq!(interrupted(InterruptReason::Drain, true).0, Outcome::Failed);
    }

    #[test]
    fn an_outcome_no_frame_can_carry_fails_and_says_so() {
        let mut work = WorkOutcome {
            outcome: Outcome::Succeeded.into(),
            facts: Some(TemplateFacts {
                readme: vec![0; WORKER_FRAME],
                ..TemplateFacts::default()
            }),
            ..WorkOutcome::default()
        };
        fit(&mut work);
        assert_eq!(work.outcome(), Outcome::Failed);
        assert_eq!(work.error.expect("error").code, "OUTCOME_TOO_LARGE");
    }
}
