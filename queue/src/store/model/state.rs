//! States of workspaces.

use proto::ids::StateId;
use proto::state_index::StateIndex;

use super::{BlobId, WorkspaceName};

/// Where a stored state came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateSource {
    /// A build's finish.
    Finish,
    /// An update of a running build.
    Checkpoint,
    /// The newest checkpoint of a lost build.
    Recovered,
    /// A finish that came after another verdict.
    Late,
    /// An operator.
    Push,
}

impl StateSource {
    /// As it stands in SQL and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::Checkpoint => "checkpoint",
            Self::Recovered => "recovered",
            Self::Late => "late",
            Self::Push => "push",
        }
    }
}

/// Whether a push must continue the current state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Same lineage, higher serial.
    Continue,
    /// Whatever it is.
    Force,
}

/// Makes an uploaded state the current one.
#[derive(Debug, Clone)]
pub struct PushState {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// Whose upload it is.
    pub by: String,
    /// The state's bytes.
    pub blob: BlobId,
    /// The state's serial.
    pub serial: u64,
    /// The state's lineage.
    pub lineage: String,
    /// Whether it must continue the current one.
    pub replace: Replace,
}

/// What a state that became the current one shows of the world.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Its objects.
    pub now: StateIndex,
    /// Those of the current state before it.
    pub before: StateIndex,
}

impl Shown {
    /// It tracks an object of this address and id.
    #[must_use]
    pub fn holds(&self, address: &str, id: &str) -> bool {
        self.now.holds(address, id)
    }

    /// It tracks an object where the state before had none.
    #[must_use]
    pub fn brings(&self, address: &str) -> bool {
        self.now.holds(address, "") && !self.before.holds(address, "")
    }
}

/// Drops from a workspace's list of doubts what its current state shows.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// The state that was read; nothing is dropped when another one is current by now.
    pub state: StateId,
    /// What was read in it.
    pub shown: Shown,
}
