//! One command on both sides: what daemons do. The answers must be equal.

use std::fmt::Debug;

use proto::ids::{JobId, LeaseId, VersionId};
use proto::v1::{self, LedgerAction, UpdateVerdict};

use super::super::world::{World, lease_of, line, tags, untagged};
use super::Difference;
use super::command::{self, Back, Command, Known, News, SPECIAL, TOFU, Then};
use super::invariants::History;
use super::load::{change, planned};
use super::plain::attempts::{Ended, Reply, Told};
use super::plain::{Plain, SECOND, Who};
use crate::matching::Tags;
use crate::store::model::{
    Acquire, DaemonContact, DaemonRef, Disposition, Drain, Finish, Gate, Holder, Plan, ReplicaId,
    SecretHash, Update,
};
use crate::store::{Error, Store};
use crate::words::{Outcome, ReleaseReason};

/// A store's organization and the model of it.
pub(super) struct Case<'w, S> {
    pub world: &'w World<S>,
    pub organization: String,
    pub version: VersionId,
    /// Who holds all control streams; it never attends, so presence is told by calls.
    pub replica: ReplicaId,
    /// Hash of the newest key.
    pub key_hash: SecretHash,
    /// A version that names OpenTofu.
    pub tofu: VersionId,
    pub plain: Plain,
    pub history: History,
    /// Instance of each daemon that acts now.
    pub instances: [u32; command::DAEMONS],
    /// States made so far: each has bytes of its own.
    pub contents: u64,
}

/// Both answers, when they differ.
pub(super) fn same<T: PartialEq + Debug>(
    what: &str,
    store: &T,
    model: &T,
) -> Result<(), Difference> {
    if store == model {
        return Ok(());
    }
    Err(format!(
        "{what}: the store says {store:?}, the model {model:?}"
    ))
}

/// What was answered, or the code of the refusal.
pub(super) fn coded<T>(answer: Result<T, Error>) -> Result<T, &'static str> {
    answer.map_err(|error| error.code())
}

impl<S: Store> Case<'_, S> {
    pub(super) async fn drive(&mut self, command: &Command) -> Result<(), Difference> {
        self.plain.now = self.world.clock.now_ms();
        match command {
            Command::Acquire { daemon, then } => self.acquire(*daemon, *then).await,
            Command::Confirm { lease } => match lease.of(self.plain.leases.len()) {
                None => Ok(()),
                Some(lease) => self.confirm(lease).await,
            },
            Command::Withdraw { lease } => self.withdraw(*lease).await,
            Command::Update(update) => self.update(update).await,
            Command::Finish(finish) => self.finish(finish).await,
            Command::Foreign { lease, known } => self.foreign(*lease, *known).await,
            Command::Pass { seconds } => self.pass(*seconds).await,
            Command::Away { seconds } => self.away(*seconds),
            Command::ControlLost { daemon } => self.control_lost(*daemon).await,
            Command::Touch { daemon } => self.touch(*daemon).await,
            Command::NewInstance { daemon } => {
                self.control_lost(*daemon).await?;
                self.instances[*daemon] += 1;
                self.acquire(*daemon, Then::Nothing).await
            }
            Command::Create { .. }
            | Command::Build(_)
            | Command::DryRun { .. }
            | Command::Retry { .. }
            | Command::Cancel { .. }
            | Command::Abandon { .. }
            | Command::Drain { .. }
            | Command::DeleteKey
            | Command::CreateKey
            | Command::Limit { .. }
            | Command::Push { .. }
            | Command::Resolve { .. }
            | Command::Forget { .. }
            | Command::Show { .. } => self.people(command).await,
        }
    }

    pub(super) fn who(&self, name: usize) -> Who {
        Who {
            name,
            instance: self.instances[name],
        }
    }

    pub(super) fn daemon(&self, who: Who) -> DaemonRef {
        DaemonRef {
            organization: self.organization.clone(),
            key: "key".to_owned(),
            name: format!("daemon {}", who.name),
            instance: format!("instance {}", who.instance),
        }
    }

    /// The daemon of a lease, putting for it.
    fn holder(&self, lease: usize) -> Holder {
        let given = &self.plain.leases[lease];
        let job = self.plain.jobs[given.job].id;
        lease_of(&self.daemon(given.daemon), job, given.id)
    }

    fn contact(&self, who: Who) -> DaemonContact {
        DaemonContact {
            daemon: self.daemon(who),
            key_hash: self.key_hash,
            version: "1".to_owned(),
            slots: 4,
            tags: tags_of(who.name == SPECIAL),
            facts: engines(if who.name == TOFU {
                "terraform,tofu"
            } else {
                "terraform"
            }),
        }
    }

    async fn acquire(&mut self, name: usize, then: Then) -> Result<(), Difference> {
        let who = self.who(name);
        let contact = self.contact(who);
        let kinds = Vec::new();
        let acquired = self.world.store.acquire(Acquire { contact, kinds }).await;
        let handed = match coded(acquired) {
            Ok(acquired) => Ok(acquired.job().as_ref().map(given).transpose()?),
            Err(code) => Err(code),
        };
        let expected = self.plain.acquire(who);
        let ids = |job: usize| (self.plain.jobs[job].id, self.plain.jobs[job].attempt);
        let model = expected.map(|job| job.map(ids));
        let store = handed.map(|handed| handed.map(|(job, attempt, _)| (job, attempt)));
        same("acquire", &store, &model)?;
        if let (Ok(Some((_, _, lease))), Ok(Some(job))) = (handed, expected) {
            self.plain.give(job, who, lease);
            self.history.handed_out(&self.plain, job)?;
            if then == Then::Confirm {
                return self.confirm(self.plain.leases.len() - 1).await;
            }
        }
        Ok(())
    }

    async fn confirm(&mut self, lease: usize) -> Result<(), Difference> {
        let given = &self.plain.leases[lease];
        let (daemon, job) = (self.daemon(given.daemon), self.plain.jobs[given.job].id);
        let answer = self.world.store.confirm(daemon, job, given.id).await;
        let left = coded(answer).map(|begun| i64::try_from(begun.lease.ttl_ms).expect("small"));
        same("confirm", &left, &self.plain.confirm(lease))
    }

    async fn withdraw(&mut self, back: Back) -> Result<(), Difference> {
        let Some(lease) = back.of(self.plain.leases.len()) else {
            return Ok(());
        };
        let given = &self.plain.leases[lease];
        let job = self.plain.jobs[given.job].id;
        let answer = self.world.store.withdraw(job, given.id).await;
        self.plain.withdraw(lease);
        same("withdraw", &coded(answer), &Ok(()))
    }

    async fn update(&mut self, command: &command::Update) -> Result<(), Difference> {
        let Some(lease) = command.lease.of(self.plain.leases.len()) else {
            return Ok(());
        };
        if command.news == News::Fresh {
            self.plain.leases[lease].counter += 1;
        }
        let open = self.plain.leases[lease].acknowledged_gate;
        let told = Told {
            counter: self.plain.leases[lease].counter,
            lines: self.lines(lease, &command.load),
            ledger: self.ledger(lease, &command.load, open),
            state: if open {
                self.state_for(lease, command.load.state)
            } else {
                None
            },
            phase: command.phase,
            gate: command.gate,
            plan: planned(&command.plan),
        };
        let given = &self.plain.leases[lease];
        let update = Update {
            daemon: self.daemon(given.daemon),
            job: self.plain.jobs[given.job].id,
            lease: given.id,
            counter: told.counter,
            phase: told.phase,
            lines: self.texts(lease, &told.lines),
            ledger: told.ledger.clone(),
            checkpoint: self.put(told.state.as_ref(), self.holder(lease)).await,
            gate: told.gate,
            plan: Plan {
                changes: told.plan.iter().map(change).collect(),
                left_out: 0,
            },
        };
        let reply = coded(self.world.store.update(update).await)?;
        let expected = self.plain.update(lease, &told);
        if let Reply::Accepted { gate, .. } = expected {
            self.plain.leases[lease].acknowledged_gate = gate;
        }
        same("update", &answered(&reply)?, &expected)
    }

    async fn finish(&mut self, command: &command::Finish) -> Result<(), Difference> {
        let Some(lease) = command.lease.of(self.plain.leases.len()) else {
            return Ok(());
        };
        let open = self.plain.leases[lease].acknowledged_gate;
        let released = command.outcome == Outcome::Released;
        let addresses = command.unconfirmed.iter().filter(|_| open && !released);
        let ended = Ended {
            outcome: command.outcome,
            reason: command.reason,
            lines: self.lines(lease, &command.load),
            ledger: self.ledger(lease, &command.load, open),
            state: if open {
                self.state_for(lease, command.load.state)
            } else {
                None
            },
            unconfirmed: addresses.map(|&it| (it, LedgerAction::Create)).collect(),
        };
        let finish = self.finish_of(lease, &ended).await;
        for _ in 0..2 {
            let finished = coded(self.world.store.finish(finish.clone()).await)?;
            let word = match finished.disposition {
                Disposition::Applied => "applied",
                Disposition::Late => "late",
                Disposition::Unclaimed => "unclaimed",
            };
            same("finish", &word, &self.plain.finish(lease, &ended))?;
        }
        Ok(())
    }

    async fn finish_of(&self, lease: usize, ended: &Ended) -> Finish {
        let given = &self.plain.leases[lease];
        let unconfirmed =
            ended
                .unconfirmed
                .iter()
                .map(|(address, action)| v1::UnconfirmedResource {
                    address: address.to_string(),
                    action: (*action).into(),
                    ..v1::UnconfirmedResource::default()
                });
        let state = ended.state.as_ref();
        let (state, brings) = self.brought(state, self.holder(lease)).await;
        Finish {
            daemon: self.daemon(given.daemon),
            job: self.plain.jobs[given.job].id,
            lease: given.id,
            attempt: given.attempt,
            outcome: ended.outcome,
            release: (ended.outcome == Outcome::Released).then_some(ended.reason),
            state,
            brings,
            report: Box::new(v1::FinishJobRequest {
                outcome: ended.outcome.into(),
                lines: self.texts(lease, &ended.lines),
                ledger: ended.ledger.clone(),
                unconfirmed: unconfirmed.collect(),
                ..v1::FinishJobRequest::default()
            }),
        }
    }

    /// Someone without the lease: nothing of it has an effect.
    async fn foreign(&mut self, back: Back, known: Known) -> Result<(), Difference> {
        let Some(lease) = back.of(self.plain.leases.len()) else {
            return Ok(());
        };
        let ended = Ended {
            outcome: Outcome::Failed,
            reason: ReleaseReason::Drain,
            lines: vec![1],
            ledger: Vec::new(),
            state: None,
            unconfirmed: Vec::new(),
        };
        let who = self.plain.leases[lease].daemon;
        let mut finish = self.finish_of(lease, &ended).await;
        finish.lease = LeaseId::generate();
        let mut fate = UpdateVerdict::Fenced;
        if let Known::Nothing = known {
            finish.job = JobId::generate();
            fate = UpdateVerdict::UnknownJob;
        }
        let update = Update {
            daemon: finish.daemon.clone(),
            job: finish.job,
            lease: finish.lease,
            counter: 1,
            phase: None,
            lines: vec![line(1, "foreign")],
            ledger: Vec::new(),
            checkpoint: None,
            gate: Gate::Asked,
            plan: Plan::default(),
        };
        let reply = coded(self.world.store.update(update).await)?;
        same("a foreign update", &reply.verdict(), &fate)?;
        let finished = coded(self.world.store.finish(finish).await)?;
        self.plain.heard(who);
        let unclaimed = Disposition::Unclaimed;
        same("a foreign finish", &finished.disposition, &unclaimed)
    }

    async fn pass(&mut self, seconds: u64) -> Result<(), Difference> {
        let mut left = seconds;
        while left > 0 {
            let step = left.min(3);
            self.world.pass(step).await;
            self.plain.now = self.world.clock.now_ms();
            self.plain.look();
            left -= step;
        }
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, reason = "one of the commands")]
    fn away(&mut self, seconds: u64) -> Result<(), Difference> {
        self.world
            .clock
            .advance(std::time::Duration::from_secs(seconds));
        self.plain.now = self.world.clock.now_ms();
        Ok(())
    }

    async fn control_lost(&mut self, name: usize) -> Result<(), Difference> {
        let who = self.who(name);
        let answer = self
            .world
            .store
            .control_lost(self.daemon(who), self.replica.clone());
        let answer = answer.await;
        self.plain.control_lost(who);
        same("control lost", &coded(answer), &Ok(()))
    }

    /// A control stream stands: its daemon hears of every cancel it may have missed.
    async fn touch(&mut self, name: usize) -> Result<(), Difference> {
        let who = self.who(name);
        let contact = self.contact(who);
        let opened = self
            .world
            .store
            .open_control(contact, self.replica.clone())
            .await;
        let opened = coded(opened);
        let told = opened.clone().map(|opened| opened.drain == Drain::On);
        same("open control", &told, &self.plain.see(who))?;
        let Ok(opened) = opened else { return Ok(()) };
        for job in &self.plain.jobs {
            let holder = job.held.map(|lease| self.plain.leases[lease].daemon);
            let wanted = v1::CancelJob {
                job_id: job.id.to_string(),
                kind: job.cancel.into(),
            };
            let own = holder == Some(who) && job.stand.is_in_hand();
            if own && job.cancel != crate::words::Cancel::None && !opened.cancels.contains(&wanted)
            {
                return Err(format!("the control stream does not bring {wanted:?}"));
            }
        }
        Ok(())
    }
}

pub(super) fn tags_of(special: bool) -> Tags {
    if special {
        tags(&[("scope", "organization"), ("owner", ""), ("gpu", "yes")])
    } else {
        untagged()
    }
}

pub(super) fn engines(list: &str) -> Tags {
    tags(&[("engine", list)])
}

fn given(job: &v1::Job) -> Result<(JobId, u32, LeaseId), &'static str> {
    let lease = job.lease.as_ref().ok_or("no lease")?;
    let id = LeaseId::try_from(lease.id.as_slice()).map_err(|_| "no lease id")?;
    let job = job.id.parse().map_err(|_| "no job id")?;
    Ok((job, lease.attempt, id))
}

fn answered(reply: &v1::UpdateJobReply) -> Result<Reply, Difference> {
    let stored = reply.stored_seq;
    match reply.verdict() {
        UpdateVerdict::Fenced => Ok(Reply::Fenced { stored }),
        UpdateVerdict::Accepted => {
            let lease = reply.lease.as_ref().ok_or("accepted without a lease")?;
            let ttl_ms = i64::try_from(lease.ttl_ms).expect("small");
            let reserve = if reply.gate_open { 90 * SECOND } else { 0 };
            let trusted = i64::try_from(lease.trusted_ms).expect("small");
            same("trust", &trusted, &(ttl_ms - reserve).max(0))?;
            Ok(Reply::Accepted {
                stored,
                ttl_ms,
                gate: reply.gate_open,
                cancel: crate::words::Cancel::from_wire(reply.cancel).ok_or("no cancel")?,
            })
        }
        other => Err(format!("update: {other:?}")),
    }
}
