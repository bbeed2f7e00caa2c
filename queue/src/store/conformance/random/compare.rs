//! Everything that can be seen of both sides, after a command.

use std::collections::BTreeSet;

use proto::ids::{Digest, StateId};
use proto::v1::{JobStatus, JobView, LedgerAction, LogSource, StateRecord};

use super::Difference;
use super::drive::{Case, same};
use super::plain::{Job, SECOND, Stand, Workspace};
use crate::store::Store;
use crate::store::model::JobFilter;
use crate::words::{Cancel, Phase};

/// Jobs that a case begins with.
const IMPORTS: usize = 2;

/// Hard places that a run came to.
#[derive(Default)]
pub(super) struct Seen(BTreeSet<&'static str>);

impl Seen {
    /// Fails when the commands are too tame to prove anything.
    pub(super) fn assert_complete(&self) {
        let places = [
            "ATTEMPTS_EXHAUSTED",
            "JOB_ABANDONED",
            "QUEUE_DEADLINE",
            "RUN_DEADLINE",
            "WORKER_LOST",
            "canceling",
            "checkpoint",
            "deleted",
            "finish",
            "late",
            "push",
            "recovered",
            "unconfirmed",
            "waiting",
        ];
        assert_eq!(self.0, BTreeSet::from(places), "a run that is too tame");
    }

    fn note(&mut self, word: Option<&'static str>) {
        self.0.extend(word);
    }
}

/// A job as both sides show it.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    status: JobStatus,
    attempt: u32,
    gate: bool,
    phase: i32,
    cancel: bool,
    code: String,
    unreachable: bool,
    unconfirmed: Vec<(String, LedgerAction)>,
}

/// A state as both sides show it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    source: String,
    digest: Digest,
    serial: u64,
    lineage: String,
    current: bool,
    waiting: bool,
}

impl<S: Store> Case<'_, S> {
    pub(super) async fn compare(&mut self, seen: &mut Seen) -> Result<(), Difference> {
        let filter = JobFilter {
            organization: self.organization.clone(),
            status: None,
            kind: None,
            owner: None,
            workspace: None,
            limit: 10_000,
        };
        let mut views = self.world.store.list_jobs(filter).await.expect("a list");
        views.reverse();
        let views = &views[IMPORTS..];
        self.history.look(views)?;
        same("jobs", &views.len(), &self.plain.jobs.len())?;
        for (view, job) in views.iter().zip(&self.plain.jobs) {
            same("a job", &view.id, &job.id.to_string())?;
            same(&format!("job {}", view.id), &shown(view), &self.shown(job))?;
            seen.note(job.code);
            seen.note((job.stand == Stand::Canceling).then_some("canceling"));
        }
        for index in 0..self.plain.workspaces.len() {
            let workspace = &self.plain.workspaces[index];
            if self.plain.named(workspace.name) == Some(index) {
                self.compare_workspace(workspace, seen).await?;
            }
        }
        Ok(())
    }

    async fn compare_workspace(
        &self,
        workspace: &Workspace,
        seen: &mut Seen,
    ) -> Result<(), Difference> {
        let name = self.named(workspace.name);
        let view = self.world.store.workspace(name.clone()).await;
        let view = view.expect("a workspace");
        same("deleted", &view.deleted, &workspace.deleted)?;
        let mut open: Vec<_> = view
            .unconfirmed
            .into_iter()
            .map(|it| (it.address.clone(), it.action(), it.id))
            .collect();
        let expected = workspace.unconfirmed.iter();
        let mut expected: Vec<_> = expected
            .map(|((address, _, action), id)| (address.to_string(), *action, id.clone()))
            .collect();
        open.sort();
        expected.sort();
        same("unconfirmed", &open, &expected)?;
        let waits = workspace.states.iter().any(|state| state.waiting);
        same("state conflict", &view.state_conflict, &waits)?;
        let states = self.world.store.states(name).await.expect("states");
        let mut kept: Vec<Kept> = states.iter().map(kept).collect();
        let mut expected = self.kept(workspace);
        kept.sort();
        expected.sort();
        same("states", &kept, &expected)?;
        seen.note(workspace.deleted.then_some("deleted"));
        seen.note(waits.then_some("waiting"));
        seen.note((!open.is_empty()).then_some("unconfirmed"));
        for state in &workspace.states {
            seen.note(Some(state.source));
        }
        Ok(())
    }

    fn shown(&self, job: &Job) -> Shown {
        let silent = self.world.clock.now_ms() - job.heard >= 15 * SECOND;
        Shown {
            status: match job.stand {
                Stand::Pending | Stand::Offered => JobStatus::Pending,
                Stand::Running => JobStatus::Running,
                Stand::Canceling => JobStatus::Canceling,
                Stand::Succeeded => JobStatus::Succeeded,
                Stand::Canceled => JobStatus::Canceled,
                Stand::Failed => JobStatus::Failed,
            },
            attempt: job.attempt,
            gate: job.gate,
            phase: job.phase.map_or(0, Phase::into),
            cancel: job.cancel != Cancel::None,
            code: job.code.unwrap_or_default().to_owned(),
            unreachable: silent && matches!(job.stand, Stand::Running | Stand::Canceling),
            unconfirmed: job
                .unconfirmed
                .iter()
                .map(|(address, action)| (address.to_string(), *action))
                .collect(),
        }
    }

    /// The states of a workspace, with the live checkpoint of its running build.
    fn kept(&self, workspace: &Workspace) -> Vec<Kept> {
        let live = workspace.builds.iter().filter_map(|build| {
            let lease = self.plain.jobs[*build].held?;
            self.plain.leases[lease].checkpoint.as_ref()
        });
        let current = workspace.current.map(|current| &workspace.states[current]);
        workspace
            .states
            .iter()
            .chain(live)
            .map(|state| Kept {
                source: state.source.to_owned(),
                digest: Digest::of(self.bytes(state.content).as_bytes()),
                serial: state.serial,
                lineage: state.lineage.clone(),
                current: current.is_some_and(|current| std::ptr::eq(current, state)),
                waiting: state.waiting,
            })
            .collect()
    }

    /// The store's name for a state of the model: those of equal bytes and source are told
    /// apart by whether they wait.
    pub(super) async fn state_id(
        &self,
        workspace: usize,
        state: usize,
    ) -> Result<StateId, Difference> {
        let workspace = &self.plain.workspaces[workspace];
        let state = &workspace.states[state];
        let records = self.world.store.states(self.named(workspace.name)).await;
        let digest = Digest::of(self.bytes(state.content).as_bytes());
        let found = records.expect("states").into_iter().find(|record| {
            let kept = kept(record);
            (kept.digest, kept.waiting, kept.source.as_str())
                == (digest, state.waiting, state.source)
        });
        Ok(found
            .ok_or("a state is missing")?
            .id
            .parse()
            .expect("an id"))
    }

    /// Every line that was sent is there once, in the order of the public sequence, and
    /// the queue's own are there where it has something to explain.
    pub(super) async fn compare_logs(&self) -> Result<(), Difference> {
        for job in &self.plain.jobs {
            let organization = self.organization.clone();
            let page = self.world.store.logs_after(organization, job.id, 0, 10_000);
            let page = page.await.expect("a page");
            let public: Vec<u64> = page.lines.iter().map(|line| line.seq).collect();
            same("public sequence", &public, &(1..=page.end).collect())?;
            let (own, of_daemons): (Vec<_>, Vec<_>) = page
                .lines
                .into_iter()
                .map(|line| (line.attempt, line.line.unwrap_or_default()))
                .partition(|(_, line)| line.source() == LogSource::System);
            let stored: Vec<(u32, String)> = of_daemons
                .into_iter()
                .map(|(attempt, line)| (attempt, line.text))
                .collect();
            let sent = job.log.iter();
            let sent = sent.map(|(attempt, seq)| (*attempt, format!("{attempt} {seq}")));
            same("lines", &stored, &sent.collect())?;
            same("explained", &!own.is_empty(), &job.explained)?;
        }
        Ok(())
    }
}

fn shown(view: &JobView) -> Shown {
    Shown {
        status: view.status(),
        attempt: view.attempt,
        gate: view.gate_open,
        phase: view.phase,
        cancel: view.cancel_requested,
        code: view
            .error
            .as_ref()
            .map_or("", |error| &error.code)
            .to_owned(),
        unreachable: view.unreachable_since_ms.is_some(),
        unconfirmed: sorted(view),
    }
}

fn sorted(view: &JobView) -> Vec<(String, LedgerAction)> {
    let each = view.unconfirmed.iter();
    let mut found: Vec<_> = each.map(|it| (it.address.clone(), it.action())).collect();
    found.sort();
    found
}

fn kept(record: &StateRecord) -> Kept {
    let digest = record.blob.as_ref().map(|blob| blob.sha256.as_slice());
    Kept {
        source: record.source.clone(),
        digest: Digest::try_from(digest.unwrap_or_default()).expect("a digest"),
        serial: record.serial,
        lineage: record.lineage.clone(),
        current: record.current,
        waiting: record.waiting,
    }
}
