//! From the end of the loop to the one finish request. No I/O but a look at the file
//! that holds the state.

use std::sync::Arc;

use proto::v1::{FinishJobRequest, JobError, LocalCheckpoint, Outcome, ReleaseReason, WorkOutcome};

use worker::job_dir::JobDir;

use super::super::blobs;
use super::super::context::{Context, Lease};
use super::super::deliver::Parcel;
use super::super::journal::Journal;
use super::super::retained::{self, Fate};
use super::super::{engines, verdict};
use super::pump::{Gate, Pump};
use super::{Ending, NotBegun, Rest};

/// What goes into the journal and then to the queue.
pub(super) struct Concluded {
    pub finish: FinishJobRequest,
    /// The file that holds `finish.state`.
    pub kept: Option<LocalCheckpoint>,
    /// Of the last update.
    pub counter: u64,
    pub journal: Journal,
    pub rests: Rest,
    /// Whether the job's directory stays.
    pub fate: Fate,
}

impl Concluded {
    /// Ready to be journalled and sent.
    pub fn parcel(self, context: &Arc<Context>, lease: &Lease, dir: JobDir) -> Parcel {
        Parcel {
            context: context.clone(),
            lease: lease.clone(),
            dir,
            journal: self.journal,
            finish: self.finish,
            kept: self.kept,
            heartbeat: self.counter,
            fate: self.fate,
        }
    }
}

/// Outcome, error and release reason: they only make sense together.
struct Verdict {
    outcome: Outcome,
    error: Option<JobError>,
    release: ReleaseReason,
}

impl Verdict {
    fn of(outcome: Outcome, error: Option<JobError>) -> Self {
        Self {
            outcome,
            error,
            release: ReleaseReason::Unspecified,
        }
    }

    fn released(reason: ReleaseReason) -> Self {
        Self {
            outcome: Outcome::Released,
            error: None,
            release: reason,
        }
    }
}

impl Pump {
    /// The finish of this attempt, and the file with its state.
    pub(super) fn conclude(
        &mut self,
        ending: Ending,
    ) -> (FinishJobRequest, Option<LocalCheckpoint>) {
        let verdict = self.verdict(&ending);
        let (mut finish, kept) = match ending {
            Ending::Worked(outcome) | Ending::Collected(outcome, _) => {
                self.unread |= outcome.incomplete;
                self.worked(*outcome)
            }
            Ending::Lost(_) => self.left_behind(),
            Ending::Failed(_) | Ending::Stopped => (FinishJobRequest::default(), None),
        };
        finish.set_outcome(verdict.outcome);
        finish.set_release_reason(verdict.release);
        finish.error = verdict.error.map(|error| self.redacted(error));
        self.sign(&mut finish);
        if self.gate == Gate::Open && self.is_untold(&finish) {
            retained::mark(&self.dir, &self.lease, &self.fate, &mut finish);
        }
        (finish, kept)
    }

    /// A worker that names a state which is not there has lost it.
    pub(super) async fn believed(&self, ending: Ending) -> Ending {
        let (Ending::Worked(outcome) | Ending::Collected(outcome, _)) = &ending else {
            return ending;
        };
        let Some(state) = &outcome.state else {
            return ending;
        };
        let (dir, state) = (self.dir.clone(), state.clone());
        let checked = tokio::task::spawn_blocking(move || blobs::check_kept(&dir, &state)).await;
        match checked.unwrap_or_else(|error| Err(std::io::Error::other(error).into())) {
            Ok(()) => ending,
            Err(error) => {
                tracing::error!(
                    error = super::chain(&error),
                    "the worker's state is not there"
                );
                Ending::Lost(error.to_string())
            }
        }
    }

    /// Who says it, and all that was not told yet but lines: those still come.
    fn sign(&mut self, finish: &mut FinishJobRequest) {
        finish.job_id = self.lease.job_id.clone();
        finish.lease_id = self.lease.lease_id.clone();
        finish.attempt = self.lease.attempt;
        finish.last_seq = self.log.seq();
        finish.ledger = self.log.outbox.drain_ledger();
        finish.engine = Some(self.engine.facts.clone());
        finish.sandbox = self.sandbox.clone();
        finish.broker = "none".to_owned();
    }

    fn verdict(&self, ending: &Ending) -> Verdict {
        // Asked counts as after the gate: the queue may have opened it already.
        let before_gate = self.gate == Gate::Closed;
        if let Ending::Worked(outcome) | Ending::Collected(outcome, _) = ending
            && outcome.outcome() == Outcome::Succeeded
        {
            return Verdict::of(Outcome::Succeeded, None);
        }
        // Lost after the gate stays a failure, whatever was asked for: the world may
        // hold what no state knows.
        let lost = matches!(ending, Ending::Lost(_) | Ending::Collected(..));
        let lost_after_gate = lost && !before_gate;
        if self.stop.cancelled() && !lost_after_gate {
            return Verdict::of(Outcome::Canceled, own_error(ending));
        }
        // Refused: the engine was never started, whatever the queue knows of the gate.
        let unused_gate = before_gate || self.gate == Gate::Refused;
        // What the queue takes for open it does not give to another daemon.
        if unused_gate && self.at_queue.is_open() {
            let refused = match self.stop.leaving() {
                true => verdict::daemon_drained(),
                false => own_error(ending).unwrap_or_else(verdict::without_error),
            };
            return Verdict::of(Outcome::Failed, Some(refused));
        }
        if unused_gate && self.stop.hosts_fault() {
            return Verdict::released(ReleaseReason::NeverStarted);
        }
        if unused_gate && self.stop.leaving() {
            return Verdict::released(ReleaseReason::Drain);
        }
        if before_gate && self.stop.lease_lost() {
            return Verdict::released(ReleaseReason::WorkerLost);
        }
        match ending {
            Ending::Worked(_) => Verdict::of(
                Outcome::Failed,
                Some(own_error(ending).unwrap_or_else(verdict::without_error)),
            ),
            Ending::Lost(_) if before_gate => Verdict::released(ReleaseReason::WorkerLost),
            Ending::Lost(why) | Ending::Collected(_, why) => {
                Verdict::of(Outcome::Failed, Some(verdict::worker_lost(why)))
            }
            Ending::Failed(error) => Verdict::of(Outcome::Failed, Some(error.clone())),
            Ending::Stopped if self.stop.lease_lost() => {
                Verdict::of(Outcome::Failed, Some(verdict::lease_lost()))
            }
            Ending::Stopped => Verdict::of(Outcome::Failed, Some(verdict::daemon_drained())),
        }
    }

    fn worked(&self, mut outcome: WorkOutcome) -> (FinishJobRequest, Option<LocalCheckpoint>) {
        if self.gate == Gate::Open && outcome.state.is_none() {
            // A worker that could not write its last state told of an earlier one.
            outcome.state.clone_from(&self.checkpoint);
        }
        let mut unconfirmed = outcome.unconfirmed;
        for resource in &mut unconfirmed {
            resource.reason = self.log.redactor.text(&resource.reason);
        }
        let finish = FinishJobRequest {
            state: outcome
                .state
                .as_ref()
                .and_then(|state| state.checkpoint.clone()),
            unconfirmed,
            extraction: outcome.extraction,
            facts: outcome.facts,
            phases: outcome.phases,
            engine_processes: outcome.engine_processes,
            ..FinishJobRequest::default()
        };
        (finish, outcome.state)
    }

    /// What is known without the worker: the newest good state and the ledger.
    fn left_behind(&self) -> (FinishJobRequest, Option<LocalCheckpoint>) {
        let kept = self.checkpoint.clone();
        let mut finish = verdict::from_ledger(&self.ledger, kept.as_ref());
        if self.unread {
            let unheard = verdict::unheard(&self.intended.intended, &self.ledger);
            finish.unconfirmed.extend(unheard);
        }
        (finish, kept)
    }

    /// Whether things were made that the reported state does not hold.
    fn is_untold(&self, finish: &FinishJobRequest) -> bool {
        let error = finish.error.as_ref();
        let unusable = error.is_some_and(|error| error.code == "FINAL_STATE_UNUSABLE");
        let no_state = finish.state.is_none() && !finish.unconfirmed.is_empty();
        self.unread || unusable || no_state
    }

    fn redacted(&self, mut error: JobError) -> JobError {
        error.message = self.log.redactor.text(&error.message);
        error.hint = self.log.redactor.text(&error.hint);
        error
    }
}

/// The worker's own error.
fn own_error(ending: &Ending) -> Option<JobError> {
    match ending {
        Ending::Worked(outcome) => outcome.error.clone(),
        Ending::Failed(error) => Some(error.clone()),
        Ending::Lost(_) | Ending::Collected(..) | Ending::Stopped => None,
    }
}

/// A job whose supervisor could not be started.
pub(super) fn not_begun(lease: &Lease, error: &NotBegun, journal: Journal) -> Concluded {
    let text = super::chain(error);
    let error = match error {
        NotBegun::Engine(engines::Error::Silent { .. }) => {
            JobError::internal("ENGINE_FAILED", text).hint("run it by hand on the daemon's host")
        }
        NotBegun::Engine(_) => JobError::internal("ENGINE_MISSING", text)
            .hint("install the engine on the daemon's host, or let the template name another one"),
        NotBegun::Dir(_)
        | NotBegun::Journal(_)
        | NotBegun::Bind(_)
        | NotBegun::Launch(_)
        | NotBegun::Incomplete(_)
        | NotBegun::Redact(_) => JobError::internal("JOB_NOT_STARTED", text)
            .hint("the daemon's log on its host says more"),
    };
    tracing::error!(
        error = error.message,
        error.code = error.code,
        "job cannot be started"
    );
    let mut finish = FinishJobRequest {
        job_id: lease.job_id.clone(),
        lease_id: lease.lease_id.clone(),
        attempt: lease.attempt,
        error: Some(error),
        ..FinishJobRequest::default()
    };
    finish.set_outcome(Outcome::Failed);
    Concluded {
        finish,
        kept: None,
        counter: 0,
        journal,
        rests: Rest::None,
        fate: Fate::default(),
    }
}
