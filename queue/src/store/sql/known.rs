//! All that an ending has to know of its job: asked for together, behind the hold of the
//! job, and of the workspace that the ending decides about.

use super::Tx;
use super::asked::{All, Asked, First, Read};
use super::codec::{count, digest, message, word_or_null};
use super::doubts::Doubt;
use super::job_row::{JobRow, Named};
use super::rows::{Row, Value};
use super::states;
use super::workspaces::{self, WorkspaceRow};
use crate::store::Result;
use crate::store::model::Checkpoint;
use crate::swap::Header;
use crate::words::Transition;
use proto::v1;

const LEDGER: &str = "SELECT entry FROM ledger WHERE job = (SELECT row FROM jobs WHERE id = ?1)
         AND attempt = (SELECT attempt FROM jobs WHERE id = ?1) ORDER BY seq";

/// The build with the state it started from, the current state of its workspace, the newest
/// checkpoint of its attempt, and whether there is more to be looked at. Apart from the
/// workspace's row, which is held: what a row that is waited for names is only seen by the
/// next statement.
const LOOK: &str = "SELECT b.transition, s.digest, s.serial, s.lineage,
         c.digest, c.serial, c.lineage, p.digest, p.size, p.serial, p.lineage, p.ledger_seq,
         EXISTS (SELECT 1 FROM doubts d WHERE d.workspace = j.workspace),
         EXISTS (SELECT 1 FROM intended i WHERE i.job = j.row),
         EXISTS (SELECT 1 FROM limits l WHERE l.organization = j.organization)
     FROM jobs j LEFT JOIN builds b ON b.job = j.row LEFT JOIN states s ON s.id = b.state_in
         LEFT JOIN workspaces w ON w.id = j.workspace
         LEFT JOIN states c ON c.id = w.current_state
         LEFT JOIN states p ON p.job = j.row AND p.attempt = j.attempt AND p.source = 'checkpoint'
     WHERE j.id = ?1";

/// Of a job in hand.
pub(super) struct Known {
    /// Of its attempt.
    pub ledger: Vec<v1::LedgerEntry>,
    /// The newest of its attempt.
    pub checkpoint: Option<Checkpoint>,
    /// When it is one.
    pub build: Option<Build>,
    /// Whether what it was going to change is stored.
    pub intends: bool,
    /// Whether its organization has limits.
    pub limited: bool,
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

struct Look {
    transition: Option<Transition>,
    base: Option<Header>,
    current: Option<Header>,
    checkpoint: Option<Checkpoint>,
    doubted: bool,
    intends: bool,
    limited: bool,
}

/// The questions; what is asked before them holds the job.
pub(super) struct Questions<'a> {
    workspace: First<'a, WorkspaceRow, Read<WorkspaceRow>>,
    look: First<'a, Look, Read<Look>>,
    ledger: All<'a, v1::LedgerEntry, Read<v1::LedgerEntry>>,
}

impl<'a> Questions<'a> {
    /// About the job of this id, which is held already.
    pub(super) fn of(job: &'a str) -> Self {
        Self::asked_by(job, None)
    }

    /// About the job of an attempt that is asked for before them.
    pub(super) fn of_attempt(named: &'a Named<'_>) -> Self {
        Self::asked_by(named.id(), Some(named))
    }

    fn asked_by(job: &'a str, named: Option<&'a Named<'_>>) -> Self {
        let values = [Value::Text(Some(job))];
        let daemon = named.map(|named| named.daemon);
        let holding = [
            Value::Text(Some(job)),
            Value::Text(daemon.map(|daemon| daemon.organization.as_str())),
            Value::Text(daemon.map(|daemon| daemon.name.as_str())),
            Value::Text(daemon.map(|daemon| daemon.instance.as_str())),
            Value::Blob(named.map(|named| named.lease.as_bytes().as_slice())),
        ];
        Self {
            workspace: First::of(workspaces::HELD_OF_JOB, &holding, workspaces::row),
            look: First::of(LOOK, &values, look),
            ledger: All::of(LEDGER, &values, |row| message(row, 0)),
        }
    }

    /// In the order in which they are to be asked.
    pub(super) fn each(&mut self) -> [&mut dyn Asked; 3] {
        [&mut self.workspace, &mut self.look, &mut self.ledger]
    }
}

impl Tx<'_> {
    pub(super) fn known_of(&self, job: &JobRow) -> Result<Known> {
        let id = job.id.to_string();
        let mut questions = Questions::of(&id);
        self.db.ask(&mut questions.each())?;
        self.known(job, questions)
    }

    /// What the questions came to, and what follows from that.
    pub(super) fn known(&self, job: &JobRow, questions: Questions<'_>) -> Result<Known> {
        let look = questions
            .look
            .found()
            .ok_or_else(|| super::verdict::no_workspace(job))?;
        let held = questions.workspace.found().zip(look.transition);
        let doubts = match &held {
            Some((workspace, _)) if look.doubted => self.doubts_of(workspace)?,
            Some(_) | None => Vec::new(),
        };
        let build = held.map(|(workspace, transition)| Build {
            workspace,
            transition,
            base: look.base,
            current: look.current,
            doubts,
        });
        Ok(Known {
            ledger: questions.ledger.found(),
            checkpoint: look.checkpoint,
            build,
            intends: look.intends,
            limited: look.limited,
        })
    }
}

fn look(row: Row<'_>) -> Result<Look> {
    let checkpoint = match row.bytes_or_null(7)? {
        None => None,
        Some(_) => Some(states::checkpoint(row, 7)?),
    };
    Ok(Look {
        transition: word_or_null(row, 0, Transition::from_text)?,
        base: header(row, 1)?,
        current: header(row, 4)?,
        checkpoint,
        doubted: row.get(12)?,
        intends: row.get(13)?,
        limited: row.get(14)?,
    })
}

fn header(row: Row<'_>, from: usize) -> Result<Option<Header>> {
    if row.bytes_or_null(from)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Header {
        digest: digest(row, from)?,
        serial: count(row.get(from + 1)?),
        lineage: row.get(from + 2)?,
    }))
}
