//! Which state is current, and which wait for a person.

use super::attempts::Ended;
use super::{Plain, Refused, State, Workspace};
use crate::store::model::Replace;
use crate::words::Outcome;
use proto::v1::LedgerAction;

impl Plain {
    /// The state of a build's verdict: as brought, else its newest checkpoint. It
    /// replaces only the one that the build started from, and must continue it.
    pub(super) fn take_state(&mut self, job: usize, ended: Option<&Ended>, lost: bool) {
        let Some(lease) = self.jobs[job].held else {
            return;
        };
        let checkpoint = self.leases[lease].checkpoint.take();
        let brought = ended.and_then(|ended| ended.state.clone());
        let source = match (&brought, lost) {
            (Some(_), _) => "finish",
            (None, true) => "recovered",
            (None, false) => "checkpoint",
        };
        let Some(state) = brought.or(checkpoint) else {
            return;
        };
        let state = State { source, ..state };
        let base = self.jobs[job].base;
        let Some(workspace) = self.jobs[job].workspace else {
            return;
        };
        let workspace = &mut self.workspaces[workspace];
        let content = |index: Option<usize>| index.map(|index| workspace.states[index].content);
        let continues = base.is_none_or(|base| {
            let base = &workspace.states[base];
            base.lineage == state.lineage && base.serial <= state.serial
        });
        let untouched = content(workspace.current) == content(base);
        workspace.swap(state, untouched && continues);
    }

    /// A state that came after another verdict: it becomes current only when the current
    /// one is what was recovered from this very attempt (or, where nothing was, what it
    /// started from), it is of the same life and newer. No build may be running on it, and
    /// on a deleted workspace nobody would see it.
    pub(super) fn late(&mut self, lease: usize, ended: &Ended) {
        // One that gives its job back says nothing of what it left.
        let knows = ended.outcome != Outcome::Released;
        let job = self.leases[lease].job;
        let Some(index) = self.jobs[job].workspace else {
            return;
        };
        let workspace = &self.workspaces[index];
        let newest = workspace.builds.last().copied();
        let running = newest.is_some_and(|build| !self.jobs[build].stand.has_ended());
        let current = workspace.current.map(|current| &workspace.states[current]);
        let recovered =
            current.is_some_and(|it| it.source == "recovered" && it.lease == Some(lease));
        let own = self.jobs[job].held == Some(lease)
            && !running
            && !workspace.deleted
            && (recovered || workspace.current == self.jobs[job].base);
        let Some(state) = &ended.state else {
            // It changed nothing.
            if own && knows {
                self.knows_better(job, &ended.unconfirmed);
            }
            return;
        };
        let newer =
            current.is_none_or(|it| it.lineage == state.lineage && it.serial < state.serial);
        let same = current.is_some_and(|it| it.content == state.content);
        let state = State {
            source: "late",
            ..state.clone()
        };
        self.workspaces[index].swap(state, own && newer);
        if own && knows && (newer || same) {
            self.knows_better(job, &ended.unconfirmed);
        }
    }

    /// A report of its own knows better than the ledger of a lost attempt.
    fn knows_better(&mut self, job: usize, unconfirmed: &[(usize, LedgerAction)]) {
        let Some(workspace) = self.jobs[job].workspace else {
            return;
        };
        let doubts = &mut self.workspaces[workspace].unconfirmed;
        doubts.retain(|(_, of, _), _| *of != job);
        for &(address, action) in unconfirmed {
            doubts.insert((address, job, action), String::new());
        }
        self.jobs[job].unconfirmed = unconfirmed.iter().copied().collect();
    }

    pub(in super::super) fn push(
        &mut self,
        name: usize,
        state: State,
        replace: Replace,
    ) -> Result<(), Refused> {
        let index = self.idle(name)?;
        let workspace = &mut self.workspaces[index];
        if let Some(current) = workspace.current.map(|it| &workspace.states[it])
            && replace == Replace::Continue
        {
            let older = state.serial < current.serial
                || (state.serial == current.serial && state.content != current.content);
            if state.lineage != current.lineage || older {
                return Err("STATE_MISMATCH");
            }
        }
        workspace.states.push(state);
        workspace.current = Some(workspace.states.len() - 1);
        Ok(())
    }

    pub(in super::super) fn resolve(
        &mut self,
        name: usize,
        state: usize,
        adopt: bool,
    ) -> Result<(), Refused> {
        let index = self.at_rest(name)?;
        let workspace = &mut self.workspaces[index];
        if !workspace.states[state].waiting {
            return Err("STATE_NOT_WAITING");
        }
        workspace.states[state].waiting = false;
        if !adopt {
            return Ok(());
        }
        workspace.current = Some(state);
        workspace.deleted = false;
        let taken = &workspace.states[state];
        if let ("late", Some(lease)) = (taken.source, taken.lease)
            && let Some(unconfirmed) = self.leases[lease].says.clone()
        {
            self.knows_better(self.leases[lease].job, &unconfirmed);
        }
        Ok(())
    }
}

impl Workspace {
    fn swap(&mut self, state: State, becomes_current: bool) {
        let current = self.current.map(|current| self.states[current].content);
        if current == Some(state.content) {
            return;
        }
        let waiting = !becomes_current;
        self.states.push(State { waiting, ..state });
        if becomes_current {
            self.current = Some(self.states.len() - 1);
        }
    }
}
