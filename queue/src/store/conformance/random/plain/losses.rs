//! What is lost, what goes back, and how a job ends.

use std::collections::BTreeMap;

use super::attempts::{Counts, Ended, in_ms};
use super::{Plain, SECOND, Stand, not_heard_of, unconfirmed};
use crate::words::{Cancel, Outcome, Transition};
use proto::v1::LedgerAction;

impl Plain {
    /// A look at the clock. Nothing is lost until it has been looked at for twenty
    /// seconds without a break.
    pub(in super::super) fn look(&mut self) {
        let (since, last) = self.looks;
        let unbroken = if self.now - last > 5 * SECOND {
            None
        } else {
            since
        };
        let since = unbroken.unwrap_or(self.now);
        self.looks = (Some(since), self.now);
        if self.now - since < 20 * SECOND {
            return;
        }
        for job in 0..self.jobs.len() {
            if !self.jobs[job].stand.is_in_hand() || !self.is_overdue(job) {
                continue;
            }
            if self.jobs[job].stand == Stand::Offered {
                self.back(job, Counts::No, None);
            } else {
                self.lost(job, Counts::Yes, None);
            }
        }
        self.end_late_ones();
    }

    /// Who waits for too long fails; who runs for too long is canceled, and fails by that.
    fn end_late_ones(&mut self) {
        for index in 0..self.jobs.len() {
            let job = &self.jobs[index];
            let waits = job.stand == Stand::Pending && !job.begun;
            let until = job.deadlines.queue.map(|wait| job.created + in_ms(wait));
            if waits && until.is_some_and(|until| until <= self.now) {
                self.end(index, (Stand::Failed, Some("QUEUE_DEADLINE")), None);
            }
        }
        for job in &mut self.jobs {
            let until = job.run_until.filter(|_| job.stand == Stand::Running);
            if until.is_some_and(|until| until <= self.now) {
                (job.stand, job.overdue) = (Stand::Canceling, true);
                job.cancel = job.cancel.max(Cancel::Cancel);
            }
        }
    }

    /// How a job ends that was to end.
    pub(super) fn as_asked(&self, job: usize) -> (Stand, Option<&'static str>) {
        if self.jobs[job].overdue {
            (Stand::Failed, Some("RUN_DEADLINE"))
        } else {
            (Stand::Canceled, None)
        }
    }

    /// The lease is over, or before the gate the control stream has been gone for three
    /// seconds.
    fn is_overdue(&self, job: usize) -> bool {
        let job = &self.jobs[job];
        let holder = job.held.map(|lease| self.leases[lease].daemon);
        let lost_since = holder
            .and_then(|who| self.daemons.get(&who.name).map(|seen| (who, seen)))
            .filter(|(who, seen)| who.instance == seen.instance)
            .and_then(|(_, seen)| seen.control_lost);
        let grace_over = lost_since.is_some_and(|since| since + 3 * SECOND <= self.now);
        job.expires <= self.now || (!job.gate && grace_over)
    }

    /// Lost before the gate: again, or canceled if that was asked for. After it: never
    /// again by itself.
    pub(super) fn lost(&mut self, job: usize, counts: Counts, ended: Option<&Ended>) {
        if self.jobs[job].gate {
            self.end(job, (Stand::Failed, Some("WORKER_LOST")), ended);
        } else if self.jobs[job].stand == Stand::Canceling {
            self.end(job, self.as_asked(job), ended);
        } else {
            self.back(job, counts, ended);
        }
    }

    /// Three counted attempts, at most twenty others.
    pub(super) fn back(&mut self, index: usize, counts: Counts, ended: Option<&Ended>) {
        let job = &mut self.jobs[index];
        match counts {
            Counts::Yes => job.counted += 1,
            Counts::No => job.uncounted += 1,
        }
        if job.counted == 3 || job.uncounted == 20 {
            self.end(index, (Stand::Failed, Some("ATTEMPTS_EXHAUSTED")), ended);
            return;
        }
        self.again(index);
    }

    /// A job waits for its next attempt.
    pub(super) fn again(&mut self, job: usize) {
        let job = &mut self.jobs[job];
        job.stand = Stand::Pending;
        job.attempt += 1;
        (job.held, job.counter, job.phase) = (None, 0, None);
        job.run_until = None;
    }

    /// Gives a job its verdict, with a daemon's report or without.
    pub(super) fn end(
        &mut self,
        index: usize,
        (stand, code): (Stand, Option<&'static str>),
        ended: Option<&Ended>,
    ) {
        let lost = code == Some("WORKER_LOST");
        let open = self.open_after(index, ended);
        let job = &mut self.jobs[index];
        (job.stand, job.code) = (stand, code);
        job.unconfirmed = open.keys().copied().collect();
        let Some(workspace) = job.workspace else {
            return;
        };
        // A build that was given up or left something in doubt.
        job.explained = code.is_some() || !open.is_empty();
        let transition = job.transition;
        self.take_state(index, ended, lost);
        let workspace = &mut self.workspaces[workspace];
        if stand == Stand::Succeeded {
            // It has read the world again; what was made without a trace it cannot find.
            workspace
                .unconfirmed
                .retain(|(_, _, action), _| is_untraced(*action));
            if transition == Transition::Delete {
                workspace.deleted = true;
                workspace.unconfirmed.clear();
            }
        }
        for ((address, action), id) in open {
            workspace.unconfirmed.insert((address, index, action), id);
        }
    }

    /// What a report names, else what the ledger tells beyond the newest good state, and
    /// of an attempt that fell silent also what it was about to do.
    fn open_after(
        &self,
        job: usize,
        ended: Option<&Ended>,
    ) -> BTreeMap<(usize, LedgerAction), String> {
        let unnamed = |it: &(usize, LedgerAction)| (*it, String::new());
        if let Some(ended) = ended
            && ended.outcome != Outcome::Released
        {
            return ended.unconfirmed.iter().map(unnamed).collect();
        }
        let Some(lease) = self.jobs[job].held else {
            return BTreeMap::new();
        };
        let lease = &self.leases[lease];
        let brought = ended.and_then(|ended| ended.state.as_ref());
        let proved = brought.or(lease.checkpoint.as_ref());
        let mut open = unconfirmed(&lease.ledger, proved.map_or(0, |state| state.ledger_seq));
        if ended.is_none() {
            let silent = not_heard_of(&lease.plan, &lease.ledger);
            open.extend(silent.iter().map(unnamed));
        }
        open
    }
}

fn is_untraced(action: LedgerAction) -> bool {
    match action {
        LedgerAction::Create | LedgerAction::Replace | LedgerAction::Unspecified => true,
        LedgerAction::Update | LedgerAction::Delete | LedgerAction::Read => false,
    }
}
