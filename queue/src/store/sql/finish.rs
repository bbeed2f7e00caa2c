//! Finish: every ending a daemon reports. It is stored in any case; what it changes
//! depends on whether its lease still holds the job.

use super::Tx;
use super::asked::Asked;
use super::blobs::{Claim, Packed};
use super::job_row::{Ending, JobRow};
use super::known::{Known, Questions};
use super::logs::{Came, Run, Stored};
use super::rows::values;
use crate::lifecycle::{self, Event as Happens, Next};
use crate::store::model::{Disposition, Finish, Finished, Holder};
use crate::store::{Error, Result};

/// What a finish brings, as rows have it: made before a transaction begins, in which
/// others would wait for it.
#[derive(Default)]
pub(in crate::store) struct Rows {
    lines: Option<Run>,
    state: Option<Packed>,
}

impl Rows {
    /// Takes the bytes of the state.
    pub(in crate::store) fn of(finish: &mut Finish) -> Result<Self> {
        let state = finish.brings.take();
        Ok(Self {
            lines: Run::of_batch(&finish.report.lines)?,
            state: state.map(Packed::of).transpose()?,
        })
    }
}

impl Tx<'_> {
    pub(in crate::store) fn finish(&mut self, finish: &Finish, rows: &Rows) -> Result<Finished> {
        let named = self.named(&finish.daemon, finish.job, finish.lease);
        let holder = Holder::Lease {
            daemon: finish.daemon.clone(),
            job: finish.job,
            lease: finish.lease,
        };
        // Whether it may name a state is asked only where it does not bring it.
        let named_only = finish.state.as_ref().filter(|_| rows.state.is_none());
        let claim = named_only.map(|state| Claim::of(state.blob, &holder));
        let mut stands = claim.as_ref().map(Claim::asked).transpose()?;
        let (mut held, mut questions) = (named.asked(), Questions::of_attempt(&named));
        let mut asked: Vec<&mut dyn Asked> = Vec::new();
        asked.extend(stands.as_mut().map(|stands| stands as &mut dyn Asked));
        asked.push(&mut held);
        asked.extend(questions.each());
        self.db.ask(&mut asked)?;
        drop(asked);
        let may_name = match claim.as_ref().zip(stands) {
            Some((claim, stands)) => self.lets_name(claim, stands.found()),
            None => Ok(()),
        };
        let held = self.held_attempt(&named, held.found())?;
        let Some((mut job, Some(mut stored))) = held else {
            self.keep_unclaimed(finish, rows.state.as_ref(), (&holder, may_name))?;
            return self.finished(finish, Disposition::Unclaimed);
        };
        may_name?;
        if let Some(state) = &rows.state {
            self.store_blob(state)?;
        }
        let (lines, whole) = (&finish.report.lines, rows.lines.as_ref());
        let came = self.append_lines(&mut job, &mut stored, lines, whole)?;
        if job.lease == Some(finish.lease) && !job.state.is_terminal() {
            if came == Came::Lines {
                self.write_stored(&job, &stored, None)?;
            }
            self.append_ledger(&job, &finish.report.ledger)?;
            let mut known = self.known(&job, questions)?;
            if !finish.report.ledger.is_empty() {
                known.ledger = self.ledger_of(job.row, job.attempt)?;
            }
            return self.apply_finish(&job, known, finish);
        }
        self.write_lines(&job, &stored, came)?;
        if self.ended_by_finish(&job, &stored)? {
            return self.applied(finish);
        }
        self.late(&job, &stored, finish)?;
        self.keep_aside(finish, Disposition::Late, None)?;
        self.finished(finish, Disposition::Late)
    }

    fn apply_finish(&mut self, job: &JobRow, known: Known, finish: &Finish) -> Result<Finished> {
        let event = Happens::Finish(finish.outcome, finish.release);
        let doubted = known
            .build
            .as_ref()
            .is_some_and(|build| !build.doubts.is_empty());
        match lifecycle::next(job.standing(), event) {
            Ok(Next::Requeue(attempts)) => self.requeue(job, attempts, Ending::Released)?,
            Ok(Next::End(state, reason)) => {
                self.end_knowing(job, known, (state, reason), Some(finish))?;
            }
            Ok(Next::Stay | Next::Move(_) | Next::GateOpens) | Err(lifecycle::Refused) => {
                return Err(Error::WrongStatus {
                    job: job.id,
                    status: job.state.status(),
                    need: "a finish needs a job in a daemon's hands",
                });
            }
        }
        match doubted {
            true => self.applied(finish),
            // Where no other job has left anything in doubt.
            false => Ok(Finished {
                disposition: Disposition::Applied,
                in_doubt: None,
            }),
        }
    }

    fn applied(&self, finish: &Finish) -> Result<Finished> {
        self.finished(finish, Disposition::Applied)
    }

    fn finished(&self, finish: &Finish, disposition: Disposition) -> Result<Finished> {
        let in_doubt = match &finish.state {
            Some(_) => self.in_doubt(finish.job)?,
            None => None,
        };
        Ok(Finished {
            disposition,
            in_doubt,
        })
    }

    /// Whether this very attempt was ended by a finish: then this is a repetition.
    fn ended_by_finish(&self, job: &JobRow, stored: &Stored) -> Result<bool> {
        let statement = self.db.prepare(
            "SELECT ending IN ('finished', 'released') FROM attempts
             WHERE job = ?1 AND attempt = ?2",
        );
        let found = statement.first(values![job.row, stored.attempt], |row| {
            row.get::<Option<bool>>(0)
        })?;
        Ok(found.flatten().unwrap_or(false))
    }
}
