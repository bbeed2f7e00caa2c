//! What daemons do: take, confirm, update, finish.

use super::super::command::Build;
use super::{Job, Lease, Plain, Refused, SECOND, Seen, Stand, State, Who};
use crate::store::model::Gate;
use crate::words::{Cancel, Outcome, Phase, ReleaseReason};
use proto::ids::LeaseId;
use proto::v1::{LedgerAction, LedgerEntry};

/// What an update is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Reply {
    Fenced {
        stored: u64,
    },
    Accepted {
        stored: u64,
        ttl_ms: i64,
        gate: bool,
        cancel: Cancel,
    },
}

/// An update as it is sent.
#[derive(Debug, Clone)]
pub(in super::super) struct Told {
    pub counter: u64,
    pub lines: Vec<u64>,
    pub ledger: Vec<LedgerEntry>,
    pub state: Option<State>,
    pub phase: Option<Phase>,
    pub gate: Gate,
    pub plan: Vec<(usize, LedgerAction)>,
}

/// A finish as it is sent.
#[derive(Debug, Clone)]
pub(in super::super) struct Ended {
    pub outcome: Outcome,
    pub reason: ReleaseReason,
    pub lines: Vec<u64>,
    pub ledger: Vec<LedgerEntry>,
    pub state: Option<State>,
    pub unconfirmed: Vec<(usize, LedgerAction)>,
}

impl Plain {
    /// A daemon shows its key and its name; whether it drains.
    pub(in super::super) fn see(&mut self, who: Who) -> Result<bool, Refused> {
        if self.key_deleted {
            return Err("NOT_FOUND");
        }
        let before = self.daemons.get(&who.name).cloned();
        if let Some(seen) = &before
            && seen.instance != who.instance
        {
            if seen.control_lost.is_none() && seen.last > self.now - 15 * SECOND {
                return Err("DAEMON_NAME_TAKEN");
            }
            self.displace(who, seen.control_lost.unwrap_or(self.now));
        }
        let draining = before.is_some_and(|it| it.instance == who.instance && it.draining);
        let seen = Seen {
            instance: who.instance,
            last: self.now,
            draining,
            control_lost: None,
        };
        self.daemons.insert(who.name, seen);
        Ok(draining)
    }

    /// Which job is handed out; `give` makes it so once the lease is known.
    pub(in super::super) fn acquire(&mut self, who: Who) -> Result<Option<usize>, Refused> {
        Ok(if self.see(who)? {
            None
        } else {
            self.choice(who.name)
        })
    }

    /// An instance that another one has displaced cannot end its own grace any more by
    /// being seen; only news of a job itself do.
    fn displace(&mut self, who: Who, since: i64) {
        for job in &mut self.jobs {
            let holder = job.held.map(|lease| self.leases[lease].daemon);
            let other = holder.is_some_and(|it| it.name == who.name && it.instance != who.instance);
            if other && job.stand.is_in_hand() && !job.gate {
                job.expires = job.expires.min(since + 3 * SECOND);
            }
        }
    }

    pub(in super::super) fn give(&mut self, job: usize, who: Who, id: LeaseId) {
        self.leases.push(Lease {
            id,
            job,
            attempt: self.jobs[job].attempt,
            daemon: who,
            lines: [].into(),
            told: Vec::new(),
            ledger: [].into(),
            plan: Vec::new(),
            checkpoint: None,
            reported: false,
            kept: false,
            says: None,
            counter: 0,
            acknowledged_gate: false,
        });
        let now = self.now;
        let job = &mut self.jobs[job];
        job.stand = Stand::Offered;
        job.held = Some(self.leases.len() - 1);
        job.expires = now + 15 * SECOND;
        self.served.insert(job.owner, now);
    }

    /// Notes that a daemon was heard.
    pub(in super::super) fn heard(&mut self, who: Who) {
        let now = self.now;
        if let Some(seen) = self.daemons.get_mut(&who.name)
            && seen.instance == who.instance
        {
            seen.last = now;
            seen.control_lost = None;
        }
    }

    pub(in super::super) fn control_lost(&mut self, who: Who) {
        let now = self.now;
        if let Some(seen) = self.daemons.get_mut(&who.name)
            && seen.instance == who.instance
        {
            (seen.last, seen.control_lost) = (now, Some(now));
        }
    }

    /// The lease's time that is left.
    pub(in super::super) fn confirm(&mut self, lease: usize) -> Result<i64, Refused> {
        let now = self.now;
        let job = &mut self.jobs[self.leases[lease].job];
        if job.held != Some(lease) {
            return Err("OFFER_GONE");
        }
        match job.stand {
            Stand::Offered => {
                (job.stand, job.expires, job.heard) = (Stand::Running, now + 10 * SECOND, now);
                job.begun = true;
                job.run_until = job.deadlines.run.map(|run| now + in_ms(run));
            }
            Stand::Running | Stand::Canceling => {}
            Stand::Pending | Stand::Succeeded | Stand::Canceled | Stand::Failed => {
                return Err("OFFER_GONE");
            }
        }
        let left = (job.expires - now).max(0);
        self.heard(self.leases[lease].daemon);
        Ok(left)
    }

    pub(in super::super) fn withdraw(&mut self, lease: usize) {
        let job = self.leases[lease].job;
        if self.jobs[job].held == Some(lease) && self.jobs[job].stand == Stand::Offered {
            self.again(job);
        }
    }

    /// Stores what lines are new; the highest sequence without a hole.
    fn store_lines(&mut self, lease: usize, lines: &[u64]) -> u64 {
        let lease = &mut self.leases[lease];
        let new: std::collections::BTreeSet<u64> = lines.iter().copied().collect();
        for seq in new {
            if lease.lines.insert(seq) {
                self.jobs[lease.job].log.push((lease.attempt, seq));
            }
        }
        (1..)
            .take_while(|seq| lease.lines.contains(seq))
            .last()
            .unwrap_or(0)
    }

    pub(in super::super) fn update(&mut self, lease: usize, told: &Told) -> Reply {
        self.heard(self.leases[lease].daemon);
        let stored = self.store_lines(lease, &told.lines);
        let (now, given) = (self.now, &mut self.leases[lease]);
        let job = &mut self.jobs[given.job];
        let holds = matches!(job.stand, Stand::Running | Stand::Canceling);
        if job.held != Some(lease) || !holds {
            return Reply::Fenced { stored };
        }
        if told.counter > job.counter {
            job.counter = told.counter;
            let news = told.ledger.iter().map(|entry| (entry.seq, entry.clone()));
            given.ledger.extend(news);
            if job.workspace.is_some() && told.state.is_some() {
                given.checkpoint.clone_from(&told.state);
            }
            job.phase = job.phase.max(told.phase);
            if told.gate == Gate::Asked && job.stand == Stand::Running && !job.gate {
                job.gate = true;
                given.plan.clone_from(&told.plan);
            }
            let ttl = if job.gate { 600 } else { 10 };
            job.expires = job.expires.max(now + ttl * SECOND);
            job.heard = now;
        }
        Reply::Accepted {
            stored,
            ttl_ms: (job.expires - now).max(0),
            gate: job.gate,
            cancel: job.cancel,
        }
    }

    pub(in super::super) fn finish(&mut self, lease: usize, ended: &Ended) -> &'static str {
        self.heard(self.leases[lease].daemon);
        self.store_lines(lease, &ended.lines);
        let job = self.leases[lease].job;
        if self.jobs[job].held == Some(lease) && self.jobs[job].stand.is_in_hand() {
            let news = ended.ledger.iter().map(|entry| (entry.seq, entry.clone()));
            self.leases[lease].ledger.extend(news);
            self.leases[lease].reported = true;
            self.give_verdict(job, ended);
            return "applied";
        }
        if self.leases[lease].reported {
            return "applied";
        }
        if !self.leases[lease].kept {
            self.late(lease, ended);
            let knows = ended.outcome != Outcome::Released;
            self.leases[lease].says = knows.then(|| ended.unconfirmed.clone());
            self.leases[lease].kept = true;
        }
        "late"
    }

    fn give_verdict(&mut self, job: usize, ended: &Ended) {
        match ended.outcome {
            Outcome::Succeeded => self.end(job, (Stand::Succeeded, None), Some(ended)),
            Outcome::Failed => self.end(job, (Stand::Failed, None), Some(ended)),
            Outcome::Canceled => self.end(job, self.as_asked(job), Some(ended)),
            Outcome::Released => {
                let counts = match ended.reason {
                    ReleaseReason::Drain | ReleaseReason::NeverStarted => Counts::No,
                    ReleaseReason::WorkerLost | ReleaseReason::DaemonRestarted => Counts::Yes,
                };
                self.lost(job, counts, Some(ended));
            }
        }
    }

    /// A job as it is submitted.
    pub(in super::super) fn submitted(&self, of: &Build, owner: usize) -> Job {
        Job {
            id: proto::ids::JobId::generate(),
            owner,
            priority: of.priority,
            wish: super::super::command::Wish::Nothing,
            workspace: None,
            transition: of.transition,
            forget: of.forget,
            base: None,
            created: self.now,
            deadlines: of.deadlines,
            begun: false,
            run_until: None,
            overdue: false,
            stand: Stand::Pending,
            attempt: 1,
            counted: 0,
            uncounted: 0,
            cancel: Cancel::None,
            held: None,
            expires: 0,
            heard: 0,
            counter: 0,
            phase: None,
            gate: false,
            code: None,
            unconfirmed: [].into(),
            explained: false,
            log: Vec::new(),
        }
    }
}

pub(super) fn in_ms(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("small")
}

/// Whether an attempt that came back counts against its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    Yes,
    No,
}
