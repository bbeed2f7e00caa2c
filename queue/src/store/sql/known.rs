//! All that an ending has to know of its job: asked for together, behind the hold of the
//! workspace that the ending decides about.

use super::Tx;
use super::asked::{All, First};
use super::codec::{count, digest, message, word};
use super::doubts::{self, Doubt};
use super::job_row::JobRow;
use super::rows::{Row, values};
use super::states;
use super::workspaces::{self, WorkspaceRow};
use crate::store::Result;
use crate::store::model::Checkpoint;
use crate::swap::Header;
use crate::words::Transition;
use proto::v1;

const BUILD: &str = "SELECT b.transition, s.digest, s.serial, s.lineage FROM builds b
     LEFT JOIN states s ON s.id = b.state_in WHERE b.job = ?1";

/// Apart from the workspace's row, which is held: what a row that is waited for names is
/// only seen by the next statement.
const CURRENT: &str = "SELECT digest, serial, lineage FROM states
     WHERE id = (SELECT current_state FROM workspaces WHERE id = ?1)";

/// Of a job in hand.
pub(super) struct Known {
    /// Of its attempt.
    pub ledger: Vec<v1::LedgerEntry>,
    /// The newest of its attempt.
    pub checkpoint: Option<Checkpoint>,
    /// When it is one.
    pub build: Option<Build>,
}

/// Of a build in hand.
pub(super) struct Build {
    /// Held.
    pub workspace: WorkspaceRow,
    pub transition: Transition,
    /// The state it started from.
    pub base: Option<Header>,
    /// The current state of its workspace.
    pub current: Option<Header>,
    /// What jobs may have left in the world.
    pub doubts: Vec<Doubt>,
}

impl Tx<'_> {
    pub(super) fn known_of(&self, job: &JobRow) -> Result<Known> {
        let mut ledger = All::of(states::LEDGER, values![job.row, job.attempt], |row| {
            message(row, 0)
        });
        let of_attempt = values![job.row, job.attempt];
        let mut checkpoint = First::of(states::CHECKPOINT, of_attempt, states::checkpoint);
        let Some(workspace) = &job.workspace else {
            self.db.ask(&mut [&mut ledger, &mut checkpoint])?;
            return Ok(Known {
                ledger: ledger.found(),
                checkpoint: checkpoint.found(),
                build: None,
            });
        };
        let mut held = First::of(workspaces::HELD, values![workspace], workspaces::row);
        let mut build = First::of(BUILD, values![job.row], build);
        let mut current = First::of(CURRENT, values![workspace], |row| header(row, 0));
        let mut doubts = All::of(doubts::OF_WORKSPACE, values![workspace], doubts::doubt);
        self.db.ask(&mut [
            &mut ledger,
            &mut checkpoint,
            &mut held,
            &mut build,
            &mut current,
            &mut doubts,
        ])?;
        let built = held.found().zip(build.found());
        let build = built.map(|(workspace, (transition, base))| Build {
            workspace,
            transition,
            base,
            current: current.found(),
            doubts: doubts.found(),
        });
        Ok(Known {
            ledger: ledger.found(),
            checkpoint: checkpoint.found(),
            build,
        })
    }
}

fn build(row: Row<'_>) -> Result<(Transition, Option<Header>)> {
    let base = match row.bytes_or_null(1)? {
        None => None,
        Some(_) => Some(header(row, 1)?),
    };
    Ok((word(row, 0, Transition::from_text)?, base))
}

fn header(row: Row<'_>, from: usize) -> Result<Header> {
    Ok(Header {
        digest: digest(row, from)?,
        serial: count(row.get(from + 1)?),
        lineage: row.get(from + 2)?,
    })
}
