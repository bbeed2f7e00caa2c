//! The worker's last word: success, failure or cancellation, with all that was found.

use prost::Message;
use proto::limits::{MIB, WORKER_FRAME};
use proto::unconfirmed::unconfirmed;
use proto::v1::{
    InterruptReason, Interrupted, JobError, LedgerEntry, Outcome, UnconfirmedResource, WorkOutcome,
};

use super::session::{Session, Stop};
use super::watch::lock;

/// What is left of a frame for everything but the extraction.
const FRAME_RESERVE: usize = 1024 * 1024;

impl Session {
    /// Builds the outcome. None once the supervisor is gone, for which this process is
    /// being killed: the daemon sees that and judges. A job that has changed nothing runs
    /// again, which a word of ours would forestall.
    pub(super) fn outcome(&mut self, result: Result<(), Stop>) -> Option<WorkOutcome> {
        let (outcome, error) = verdict(result, self.gate_open, self.signals.why())?;
        let ledger = lock(&self.ledger);
        let product = std::mem::take(&mut self.product);
        let mut work = WorkOutcome {
            outcome: outcome.into(),
            error,
            state: product.state,
            unconfirmed: in_doubt(outcome, ledger.entries(), product.proved_seq),
            extraction: product.extraction,
            facts: product.facts,
            phases: self.phases.timings(),
            last_ledger_seq: ledger.last_seq(),
            engine_processes: self.processes,
            incomplete: product.incomplete,
        };
        fit(&mut work);
        Some(work)
    }
}

/// An engine that succeeded has written all it did into its state, whatever the ledger has
/// missed of it: on a full disk its words are lost before its state is.
fn in_doubt(outcome: Outcome, ledger: &[LedgerEntry], proved: u64) -> Vec<UnconfirmedResource> {
    match outcome {
        Outcome::Succeeded => Vec::new(),
        Outcome::Unspecified | Outcome::Failed | Outcome::Canceled | Outcome::Released => {
            unconfirmed(ledger, proved)
        }
    }
}

/// Only our own token makes a cancellation; other interruptions are failures with the
/// reason's code, or a release while nothing has been changed.
fn verdict(
    result: Result<(), Stop>,
    gate_open: bool,
    why: Option<Interrupted>,
) -> Option<(Outcome, Option<JobError>)> {
    let reason = match result {
        Ok(()) => return Some((Outcome::Succeeded, None)),
        Err(Stop::Failed(error)) => return Some((Outcome::Failed, Some(error))),
        Err(Stop::SupervisorLost) => return None,
        Err(Stop::Interrupted(reason)) => reason,
    };
    let failed = |error| (Outcome::Failed, Some(error));
    Some(match reason {
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
        InterruptReason::Memory => failed(memory_pressure(why.unwrap_or_default())),
        InterruptReason::Disk => failed(disk_pressure(why.unwrap_or_default())),
        InterruptReason::Unspecified => failed(JobError::internal(
            "INTERRUPTED",
            "the engine was interrupted",
        )),
    })
}

fn memory_pressure(why: Interrupted) -> JobError {
    let message = format!(
        "the engine and what it started held {} MiB of memory, over the limit of {} MiB for a \
         job on this daemon; it was interrupted before the host would have killed it",
        why.found_bytes / MIB,
        why.limit_bytes / MIB
    );
    JobError::capacity("MEMORY_PRESSURE", message).hint(
        "Start the daemon with a higher --job-memory or fewer --slots, or let the template do \
         less at once; then build again: what was made is in the workspace's state.",
    )
}

fn disk_pressure(why: Interrupted) -> JobError {
    let message = format!(
        "{} MiB were left on the disk of the daemon's data directory, under the limit of {} MiB; \
         the engine was interrupted while its state could still be saved",
        why.found_bytes / MIB,
        why.limit_bytes / MIB
    );
    JobError::capacity("DISK_PRESSURE", message).hint(
        "Free space on the daemon's host, or let the template write less; then build again: \
         what was made is in the workspace's state.",
    )
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
    use proto::v1::{ErrorClass, LedgerAction, LedgerEvent, TemplateFacts};

    fn interrupted(reason: InterruptReason, gate_open: bool) -> (Outcome, Option<JobError>) {
        verdict(Err(Stop::Interrupted(reason)), gate_open, None).expect("a word")
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
    }

    #[test]
    fn pressure_is_told_with_the_limit_that_was_passed() {
        for (reason, code, words) in [
            (
                InterruptReason::Memory,
                "MEMORY_PRESSURE",
                "held 3072 MiB of memory, over the limit of 2048 MiB",
            ),
            (InterruptReason::Disk, "DISK_PRESSURE", "3072 MiB were left"),
        ] {
            let why = Interrupted {
                reason: reason.into(),
                limit_bytes: 2 << 30,
                found_bytes: 3 << 30,
            };
            let word = verdict(Err(Stop::Interrupted(reason)), true, Some(why));
            let (outcome, error) = word.expect("a word");
            assert_eq!(outcome, Outcome::Failed);
            let error = error.expect("error");
            assert_eq!(error.class(), ErrorClass::Capacity);
            assert_eq!(error.code, code);
            assert!(error.message.contains(words), "{}", error.message);
        }
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
    fn words_that_were_lost_leave_no_doubt_about_a_success() {
        let ledger = [LedgerEntry {
            seq: 1,
            address: "a.b".to_owned(),
            action: LedgerAction::Create.into(),
            event: LedgerEvent::Started.into(),
            ..LedgerEntry::default()
        }];
        assert_eq!(in_doubt(Outcome::Succeeded, &ledger, 1), []);
        assert_eq!(in_doubt(Outcome::Failed, &ledger, 1).len(), 1);
        assert_eq!(in_doubt(Outcome::Canceled, &ledger, 1).len(), 1);
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
