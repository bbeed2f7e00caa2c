//! Update: lines first, whoever brings them; then, for the holder of the lease and only
//! for news, phase, ledger, checkpoint, gate and the lease itself.

use prost::Message;
use proto::ids::LeaseId;
use proto::v1;

use super::Tx;
use super::codec::{count, signed};
use super::job_row::JobRow;
use super::logs::{Came, Run, Stored};
use super::rows::values;
use crate::lease;
use crate::lifecycle::{self, Event as Happens, Next, State};
use crate::store::model::{Checkpoint, Gate, Holder, StateSource, Update};
use crate::store::{Event, Result};
use crate::words::{Kind, Phase};

impl Tx<'_> {
    /// `whole` is [`Run::of_batch`] of its lines.
    pub(super) fn update(
        &mut self,
        update: &Update,
        whole: Option<&Run>,
    ) -> Result<v1::UpdateJobReply> {
        let held = self.hold_attempt(&self.named(&update.daemon, update.job, update.lease))?;
        let Some((mut job, stored)) = held else {
            return Ok(verdict_only(v1::UpdateVerdict::UnknownJob));
        };
        let Some(mut stored) = stored else {
            return Ok(verdict_only(v1::UpdateVerdict::Fenced));
        };
        let came = self.append_lines(&mut job, &mut stored, &update.lines, whole)?;
        if !holds(&job, update.lease) {
            self.write_lines(&job, &stored, came)?;
            return Ok(v1::UpdateJobReply {
                stored_seq: stored.stored_seq,
                ..verdict_only(v1::UpdateVerdict::Fenced)
            });
        }
        if signed(update.counter, "update counter")? > job.update_counter {
            let before = job.gate_open_at;
            self.apply_news(&mut job, update)?;
            self.write_progress(&job)?;
            if came == Came::Lines || job.gate_open_at != before {
                self.write_stored(&job, &stored, job.gate_open_at)?;
            }
        } else {
            self.write_lines(&job, &stored, came)?;
        }
        Ok(self.reply(&job, update.lease, &stored))
    }

    /// Writes what lines alone move.
    pub(super) fn write_lines(&self, job: &JobRow, stored: &Stored, came: Came) -> Result<()> {
        match came {
            Came::Nothing => Ok(()),
            Came::Lines => {
                self.write_log_end(job)?;
                self.write_stored(job, stored, None)
            }
        }
    }

    fn reply(&self, job: &JobRow, lease: LeaseId, stored: &Stored) -> v1::UpdateJobReply {
        v1::UpdateJobReply {
            verdict: v1::UpdateVerdict::Accepted.into(),
            lease: Some(self.lease_of(job, lease)),
            cancel: job.cancel.into(),
            gate_open: job.gate_open_at.is_some(),
            stored_seq: stored.stored_seq,
            next_update_ms: count(lease::millis(self.timings.update)),
        }
    }

    /// Moves the job, which the caller writes.
    fn apply_news(&mut self, job: &mut JobRow, update: &Update) -> Result<()> {
        self.append_ledger(job, &update.ledger)?;
        if let Some(checkpoint) = &update.checkpoint
            && job.kind == Kind::WorkspaceBuild
        {
            self.keep_checkpoint(job, update, checkpoint)?;
        }
        let phase = job.phase.max(update.phase);
        let enters = phase != job.phase;
        if enters {
            self.enter_phase(job, phase);
        }
        let opens = update.gate == Gate::Asked
            && lifecycle::next(job.standing(), Happens::OpenGate) == Ok(Next::GateOpens);
        if opens {
            job.gate_open_at = Some(self.now);
            self.keep_intended(job, &update.plan)?;
        }
        job.expires_at = lease::renewed(job.expires_at, self.now, job.side(), self.timings);
        job.update_counter = signed(update.counter, "update counter")?;
        job.last_update_at = Some(self.now);
        if opens || enters || !update.ledger.is_empty() {
            self.emit(Event::JobChanged(job.id));
        }
        Ok(())
    }

    /// Ends the phase in hand and begins the next.
    fn enter_phase(&self, job: &mut JobRow, phase: Option<Phase>) {
        let Some(phase) = phase else { return };
        self.end_phase(job);
        job.phase = Some(phase);
        job.phases.list.push(v1::PhaseTiming {
            phase: phase.into(),
            started_at_ms: self.now,
            duration_ms: 0,
        });
    }

    /// The phase in hand has lasted until now.
    pub(super) fn end_phase(&self, job: &mut JobRow) {
        if let Some(last) = job.phases.list.last_mut() {
            last.duration_ms = count(self.now - last.started_at_ms);
        }
    }

    pub(super) fn append_ledger(&self, job: &JobRow, entries: &[v1::LedgerEntry]) -> Result<()> {
        let statement = self
            .db
            .prepare("INSERT INTO ledger VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING");
        for entry in entries {
            let seq = signed(entry.seq, "ledger sequence")?;
            statement.run(values![job.row, job.attempt, seq, entry.encode_to_vec()])?;
        }
        Ok(())
    }

    /// The newest checkpoint of an attempt replaces the one before.
    fn keep_checkpoint(
        &self,
        job: &JobRow,
        update: &Update,
        checkpoint: &Checkpoint,
    ) -> Result<()> {
        let holder = Holder::Lease {
            daemon: update.daemon.clone(),
            job: update.job,
            lease: update.lease,
        };
        self.may_name(checkpoint.blob, &holder)?;
        let Some(workspace) = &job.workspace else {
            return Ok(());
        };
        self.drop_checkpoint(job)?;
        self.insert_state(workspace, StateSource::Checkpoint, checkpoint, Some(job))?;
        Ok(())
    }

    /// Forgets the attempt's live checkpoint, which no build can have started from.
    pub(super) fn drop_checkpoint(&self, job: &JobRow) -> Result<()> {
        self.db
            .prepare("DELETE FROM states WHERE job = ?1 AND attempt = ?2 AND source = 'checkpoint'")
            .run(values![job.row, job.attempt])
    }
}

/// Whether this lease is the right to this job now.
fn holds(job: &JobRow, lease: LeaseId) -> bool {
    job.lease == Some(lease)
        && match job.state {
            State::Running | State::Canceling => true,
            State::Pending
            | State::Offered
            | State::Succeeded
            | State::Canceled
            | State::Failed => false,
        }
}

fn verdict_only(verdict: v1::UpdateVerdict) -> v1::UpdateJobReply {
    v1::UpdateJobReply {
        verdict: verdict.into(),
        cancel: v1::CancelKind::None.into(),
        ..v1::UpdateJobReply::default()
    }
}
