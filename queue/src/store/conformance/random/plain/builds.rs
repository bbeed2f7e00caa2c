//! What people do: create, build, retry, cancel, abandon.

use super::super::command::{Build, Wish};
use super::{Job, Plain, Refused, Stand, Workspace};
use crate::store::model::{Abandon, Deadlines, Forget};
use crate::words::{Cancel, Priority, Transition};
use proto::ids::JobId;

/// Owner of each workspace: two of the three are one person's.
pub(in super::super) fn owner_of(name: usize) -> usize {
    name % 2
}

impl Plain {
    pub(in super::super) fn create(&mut self, name: usize) -> Result<usize, Refused> {
        let living = |index: &usize| !self.workspaces[*index].deleted;
        if self.named(name).filter(living).is_some() {
            return Err("ALREADY_EXISTS");
        }
        self.workspaces.push(Workspace {
            name,
            deleted: false,
            builds: Vec::new(),
            states: Vec::new(),
            current: None,
            unconfirmed: [].into(),
            hold: None,
        });
        let first = Build {
            name,
            transition: Transition::Start,
            forget: Forget::Refuse,
            priority: Priority::Interactive,
            deadlines: Deadlines::default(),
        };
        let job = self.submitted(&first, owner_of(name));
        Ok(self.insert(job, Some(self.workspaces.len() - 1)))
    }

    pub(in super::super) fn dry_run(
        &mut self,
        wish: Wish,
        priority: Priority,
        deadlines: Deadlines,
    ) -> usize {
        let of = Build {
            name: 0,
            transition: Transition::Start,
            forget: Forget::Refuse,
            priority,
            deadlines,
        };
        let job = Job {
            wish,
            ..self.submitted(&of, 1)
        };
        self.insert(job, None)
    }

    pub(in super::super) fn build(&mut self, build: &Build) -> Result<usize, Refused> {
        let workspace = self.idle(build.name)?;
        self.may_build(workspace, build)?;
        let job = self.submitted(build, owner_of(build.name));
        Ok(self.insert(job, Some(workspace)))
    }

    pub(in super::super) fn retry(&mut self, job: usize) -> Result<usize, Refused> {
        let old = self.jobs[job].clone();
        if !matches!(old.stand, Stand::Canceled | Stand::Failed) {
            return Err("WRONG_JOB_STATUS");
        }
        let mut again = Build {
            name: 0,
            transition: old.transition,
            forget: old.forget,
            priority: old.priority,
            deadlines: old.deadlines,
        };
        if let Some(workspace) = old.workspace {
            if self.workspaces[workspace].builds.last() != Some(&job) {
                return Err("WRONG_JOB_STATUS");
            }
            again.name = self.workspaces[workspace].name;
            self.may_build(workspace, &again)?;
        }
        let new = Job {
            wish: old.wish,
            ..self.submitted(&again, old.owner)
        };
        Ok(self.insert(new, old.workspace))
    }

    fn insert(&mut self, job: Job, workspace: Option<usize>) -> usize {
        let index = self.jobs.len();
        let base = workspace.and_then(|workspace| self.workspaces[workspace].current);
        self.jobs.push(Job {
            workspace,
            base,
            ..job
        });
        if let Some(workspace) = workspace {
            self.workspaces[workspace].builds.push(index);
        }
        index
    }

    /// The store chooses the id.
    pub(in super::super) fn called(&mut self, job: usize, id: JobId) {
        self.jobs[job].id = id;
    }

    /// A workspace that lives and of which no build runs.
    pub(super) fn idle(&self, name: usize) -> Result<usize, Refused> {
        let index = self.named(name).ok_or("NOT_FOUND")?;
        if self.workspaces[index].deleted {
            return Err("WORKSPACE_DELETED");
        }
        self.at_rest(name)
    }

    /// One of which no build runs, deleted or not.
    pub(super) fn at_rest(&self, name: usize) -> Result<usize, Refused> {
        let index = self.named(name).ok_or("NOT_FOUND")?;
        let workspace = &self.workspaces[index];
        let running = |build: &usize| !self.jobs[*build].stand.has_ended();
        if workspace.builds.iter().any(running) {
            return Err("BUILD_RUNNING");
        }
        Ok(index)
    }

    fn may_build(&self, workspace: usize, build: &Build) -> Result<(), Refused> {
        let workspace = &self.workspaces[workspace];
        // Only a delete may forget what is not known.
        if build.transition == Transition::Delete && build.forget == Forget::Drop {
            return Ok(());
        }
        match build.transition {
            _any if workspace.states.iter().any(|state| state.waiting) => Err("STATE_CONFLICT"),
            _any if workspace.hold.is_some_and(|(_, until)| until > self.now) => {
                Err("OLD_ENGINE_MAY_RUN")
            }
            Transition::Delete if !workspace.unconfirmed.is_empty() => Err("UNCONFIRMED_RESOURCES"),
            Transition::Start | Transition::Stop | Transition::Delete => Ok(()),
        }
    }

    pub(in super::super) fn cancel(&mut self, index: usize, kind: Cancel) -> Result<(), Refused> {
        let job = &mut self.jobs[index];
        match job.stand {
            Stand::Succeeded | Stand::Canceled | Stand::Failed => return Err("WRONG_JOB_STATUS"),
            Stand::Running => job.stand = Stand::Canceling,
            Stand::Canceling => {}
            Stand::Pending | Stand::Offered => self.end(index, (Stand::Canceled, None), None),
        }
        let job = &mut self.jobs[index];
        job.cancel = job.cancel.max(kind);
        job.overdue = false;
        Ok(())
    }

    pub(in super::super) fn abandon(&mut self, index: usize, how: Abandon) -> Result<(), Refused> {
        let job = self.jobs[index].clone();
        let verdict = match job.stand {
            Stand::Running | Stand::Canceling if job.gate => (Stand::Failed, Some("WORKER_LOST")),
            Stand::Canceling => self.as_asked(index),
            Stand::Running => (Stand::Failed, Some("JOB_ABANDONED")),
            Stand::Pending
            | Stand::Offered
            | Stand::Succeeded
            | Stand::Canceled
            | Stand::Failed => {
                return self.lift(index, how);
            }
        };
        self.end(index, verdict, None);
        if job.gate
            && how == Abandon::Careful
            && let Some(workspace) = job.workspace
        {
            self.workspaces[workspace].hold = Some((index, job.expires));
        }
        Ok(())
    }

    /// `--force` lifts the hold of a job that was abandoned before.
    fn lift(&mut self, job: usize, how: Abandon) -> Result<(), Refused> {
        let workspace = self.jobs[job].workspace.filter(|_| how == Abandon::Force);
        let hold = workspace.map(|index| &mut self.workspaces[index].hold);
        match hold {
            Some(hold) if hold.is_some_and(|(of, _)| of == job) => {
                *hold = None;
                Ok(())
            }
            Some(_) | None => Err("WRONG_JOB_STATUS"),
        }
    }
}
