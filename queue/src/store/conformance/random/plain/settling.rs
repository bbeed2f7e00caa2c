//! What takes resources off a workspace's list of doubts besides the builds themselves.

use super::{Plain, Refused};
use proto::v1::LedgerAction;

/// An object that a state tracks.
pub(in super::super) struct Object {
    pub address: usize,
    pub id: String,
    /// The state before had nothing at its address.
    pub is_new: bool,
}

impl Plain {
    /// The id of what is in doubt at an address; empty when none was told.
    pub(in super::super) fn in_doubt_at(&self, workspace: usize, address: usize) -> String {
        let doubts = &self.workspaces[workspace].unconfirmed;
        let found = doubts.iter().find(|((of, _, _), _)| *of == address);
        found.map(|(_, id)| id.clone()).unwrap_or_default()
    }

    /// Whatever was done to an address is forgotten; how much that was.
    pub(in super::super) fn forget(
        &mut self,
        name: usize,
        address: usize,
    ) -> Result<usize, Refused> {
        let workspace = self.named(name).ok_or("NOT_FOUND")?;
        let doubts = &mut self.workspaces[workspace].unconfirmed;
        let before = doubts.len();
        doubts.retain(|(of, _, _), _| *of != address);
        match before - doubts.len() {
            0 => Err("NOT_FOUND"),
            forgotten => Ok(forgotten),
        }
    }

    /// The current state shows what was made: by its id, whoever brought the state; where
    /// no id is known, only when a person did, and nothing was tracked there before. What
    /// its own job left in doubt it has judged itself.
    pub(in super::super) fn show(&mut self, workspace: usize, objects: &[Object]) {
        let workspace = &mut self.workspaces[workspace];
        let Some(current) = workspace.current.map(|it| &workspace.states[it]) else {
            return;
        };
        let by = current.lease.map(|lease| self.leases[lease].job);
        workspace.unconfirmed.retain(|(address, job, action), id| {
            let here = || objects.iter().filter(|object| object.address == *address);
            let shown = if id.is_empty() {
                by.is_none() && here().count() > 0 && here().all(|object| object.is_new)
            } else {
                by != Some(*job) && here().any(|object| object.id == *id)
            };
            !(shown && *action == LedgerAction::Create)
        });
    }
}
