//! Update: lines first, whoever brings them; then, for the holder of the lease and only
//! for news, phase, ledger, checkpoint, gate and the lease itself.

use prost::Message;
use proto::ids::LeaseId;
use proto::v1;

use super::Tx;
use super::codec::{Phases, count, message, signed};
use super::job_row::JobRow;
use super::logs::Stored;
use super::rows::values;
use crate::lease::{self, Side};
use crate::lifecycle::{self, Event as Happens, Next, State};
use crate::store::model::{Checkpoint, DaemonRef, Gate, Holder, StateSource, Update};
use crate::store::{Event, Result};
use crate::words::{Kind, Phase};

impl Tx<'_> {
    pub(super) fn update(&mut self, update: &Update) -> Result<v1::UpdateJobReply> {
        self.heard(&update.daemon)?;
        let job = self
            .hold_job(update.job)?
            .filter(|job| job.organization == update.daemon.organization);
        let Some(job) = job else {
            return Ok(verdict_only(v1::UpdateVerdict::UnknownJob));
        };
        let Some(stored) = self.attempt_of(&job, &update.daemon, update.lease)? else {
            return Ok(verdict_only(v1::UpdateVerdict::Fenced));
        };
        let stored_seq = self.append_lines(&job, &stored, &update.lines)?;
        if !holds(&job, update.lease) {
            return Ok(v1::UpdateJobReply {
                stored_seq,
                ..verdict_only(v1::UpdateVerdict::Fenced)
            });
        }
        if signed(update.counter, "update counter")? > job.update_counter {
            self.apply_news(&job, update)?;
        }
        self.reply(update, stored_seq)
    }

    fn reply(&self, update: &Update, stored_seq: u64) -> Result<v1::UpdateJobReply> {
        let Some(job) = self.find_job(update.job)? else {
            return Ok(verdict_only(v1::UpdateVerdict::UnknownJob));
        };
        Ok(v1::UpdateJobReply {
            verdict: v1::UpdateVerdict::Accepted.into(),
            lease: Some(self.lease_of(&job, update.lease)),
            cancel: job.cancel.into(),
            gate_open: job.gate_open_at.is_some(),
            stored_seq,
            next_update_ms: count(lease::millis(self.timings.update)),
        })
    }

    fn apply_news(&mut self, job: &JobRow, update: &Update) -> Result<()> {
        self.append_ledger(job, &update.ledger)?;
        if let Some(checkpoint) = &update.checkpoint
            && job.kind == Kind::WorkspaceBuild
        {
            self.keep_checkpoint(job, update, checkpoint)?;
        }
        let phase = job.phase.max(update.phase);
        if phase != job.phase {
            self.enter_phase(job, phase)?;
        }
        let opens = update.gate == Gate::Asked
            && lifecycle::next(job.standing(), Happens::OpenGate) == Ok(Next::GateOpens);
        if opens {
            self.open_gate(job)?;
            self.keep_intended(job, &update.plan)?;
        }
        let side = if opens { Side::AfterGate } else { job.side() };
        let expires_at = lease::renewed(job.expires_at, self.now, side, self.timings);
        self.db
            .prepare(
                "UPDATE jobs SET update_counter = ?2, last_update_at = ?3, expires_at = ?4,
                     phase = ?5
                 WHERE row = ?1",
            )
            .execute(values![
                job.row,
                signed(update.counter, "update counter")?,
                self.now,
                expires_at,
                phase.map(Phase::as_str),
            ])?;
        if opens || phase != job.phase || !update.ledger.is_empty() {
            self.emit(Event::JobChanged(job.id));
        }
        Ok(())
    }

    fn open_gate(&self, job: &JobRow) -> Result<()> {
        self.db
            .prepare("UPDATE jobs SET gate_open_at = ?2 WHERE row = ?1")
            .execute(values![job.row, self.now])?;
        self.db
            .prepare("UPDATE attempts SET gate_open_at = ?3 WHERE job = ?1 AND attempt = ?2")
            .execute(values![job.row, job.attempt, self.now])?;
        Ok(())
    }

    /// Ends the phase in hand and begins the next.
    fn enter_phase(&self, job: &JobRow, phase: Option<Phase>) -> Result<()> {
        let Some(phase) = phase else { return Ok(()) };
        let mut phases: Phases = self
            .db
            .prepare("SELECT phases FROM jobs WHERE row = ?1")
            .one(values![job.row], |row| message(row, 0))?;
        if let Some(last) = phases.list.last_mut() {
            last.duration_ms = count(self.now - last.started_at_ms);
        }
        phases.list.push(v1::PhaseTiming {
            phase: phase.into(),
            started_at_ms: self.now,
            duration_ms: 0,
        });
        self.db
            .prepare("UPDATE jobs SET phases = ?2 WHERE row = ?1")
            .execute(values![job.row, phases.encode_to_vec()])?;
        Ok(())
    }

    pub(super) fn append_ledger(&self, job: &JobRow, entries: &[v1::LedgerEntry]) -> Result<()> {
        let statement = self
            .db
            .prepare("INSERT INTO ledger VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING");
        for entry in entries {
            let seq = signed(entry.seq, "ledger sequence")?;
            statement.execute(values![job.row, job.attempt, seq, entry.encode_to_vec()])?;
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
            .execute(values![job.row, job.attempt])?;
        Ok(())
    }

    /// What is stored of the attempt that this lease was given to this daemon for.
    pub(super) fn attempt_of(
        &self,
        job: &JobRow,
        daemon: &DaemonRef,
        lease: LeaseId,
    ) -> Result<Option<Stored>> {
        let statement = self.db.prepare(
            "SELECT attempt, stored_seq, highest_seq FROM attempts
             WHERE job = ?1 AND lease = ?2 AND daemon = ?3 AND instance = ?4",
        );
        let lease = lease.as_bytes();
        let found = statement.first(
            values![job.row, lease, daemon.name, daemon.instance],
            |row| {
                Ok(Stored {
                    attempt: row.get(0)?,
                    stored_seq: count(row.get(1)?),
                    highest_seq: count(row.get(2)?),
                })
            },
        )?;
        Ok(found)
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
