//! States of a workspace: the current one, its history, and those that wait.

use proto::ids::{Digest, StateId, WorkspaceId};
use proto::v1;

use super::codec::{count, digest, signed};
use super::job_row::JobRow;
use super::rows::{Row, values};
use super::workspaces::WorkspaceRow;
use super::{Snapshot, Tx};
use crate::store::model::{
    BlobId, Checkpoint, Holder, PushState, Replace, StateSource, WorkspaceName,
};
use crate::store::{Error, Result};
use crate::swap::{self, Header};

const RECORD: &str = "SELECT s.id, s.source, s.digest, s.size, s.serial, s.lineage, s.created_at, \
     COALESCE(j.id, s.of_job), w.current_state = s.id, s.waiting \
     FROM states s JOIN workspaces w ON w.id = s.workspace LEFT JOIN jobs j ON j.row = s.job";

/// Of an attempt.
const LEDGER: &str = "SELECT entry FROM ledger WHERE job = ?1 AND attempt = ?2 ORDER BY seq";

impl Tx<'_> {
    pub(super) fn insert_state(
        &self,
        workspace: &str,
        source: StateSource,
        state: &Checkpoint,
        job: Option<&JobRow>,
    ) -> Result<String> {
        let id = StateId::generate().to_string();
        self.db
            .prepare(
                "INSERT INTO states (id, workspace, source, digest, size, serial, lineage,
                     ledger_seq, job, attempt, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )
            .run(values![
                id,
                workspace,
                source.as_str(),
                state.blob.digest.as_bytes(),
                signed(state.blob.size, "state size")?,
                signed(state.serial, "state serial")?,
                state.lineage,
                signed(state.ledger_seq, "ledger sequence")?,
                job.map(|job| job.row),
                job.map(|job| job.attempt),
                self.now,
            ])?;
        Ok(id)
    }

    pub(super) fn make_current(&self, workspace: &str, state: &str) -> Result<()> {
        self.db
            .prepare("UPDATE workspaces SET current_state = ?2 WHERE id = ?1")
            .run(values![workspace, state])
    }

    pub(super) fn let_wait(&self, state: &str) -> Result<()> {
        self.db
            .prepare("UPDATE states SET waiting = 1 WHERE id = ?1")
            .run(values![state])
    }

    pub(super) fn push_state(&self, push: &PushState) -> Result<v1::StateRecord> {
        let workspace = self.hold_workspace_named(&push.workspace)?;
        let last = self.last_build(&workspace)?;
        Self::is_idle(&workspace, &last)?;
        let holder = Holder::Client {
            organization: push.workspace.organization.clone(),
            owner: push.by.clone(),
        };
        self.may_name(push.blob, &holder)?;
        let new = Header {
            digest: push.blob.digest,
            serial: push.serial,
            lineage: push.lineage.clone(),
        };
        let current = self.header_of(workspace.current_state.as_deref())?;
        if push.replace == Replace::Continue
            && let Some(why) = swap::push_conflict(current.as_ref(), &new)
        {
            return Err(Error::StateMismatch { why });
        }
        let state = Checkpoint {
            blob: push.blob,
            serial: push.serial,
            lineage: push.lineage.clone(),
            ledger_seq: 0,
        };
        let id = workspace.id.to_string();
        let state = self.insert_state(&id, StateSource::Push, &state, None)?;
        self.make_current(&id, &state)?;
        self.record(workspace.id, &state)
    }

    pub(super) fn resolve_state(
        &self,
        name: &WorkspaceName,
        state: StateId,
        decision: Decision,
    ) -> Result<v1::StateRecord> {
        let workspace = self.hold_workspace_named(name)?;
        let last = self.last_build(&workspace)?;
        // A deleted one too: a state may come after the delete.
        Self::has_ended(&workspace, &last)?;
        let text = state.to_string();
        let resolved = self
            .db
            .prepare(
                "UPDATE states SET waiting = 0 WHERE id = ?1 AND workspace = ?2 AND waiting = 1",
            )
            .execute(values![&text, &workspace.id.to_string()])?;
        if resolved == 0 {
            return Err(Error::NotWaiting {
                state: text,
                build: None,
            });
        }
        match decision {
            Decision::Adopt => self.adopt(&workspace, &text)?,
            Decision::Discard => {}
        }
        self.record(workspace.id, &text)
    }
}

impl Tx<'_> {
    /// What the state's own job left in doubt is what it reported; a deleted workspace
    /// lives again, so that what the state holds can be deleted.
    fn adopt(&self, workspace: &WorkspaceRow, state: &str) -> Result<()> {
        let id = workspace.id.to_string();
        self.make_current(&id, state)?;
        self.db
            .prepare("UPDATE workspaces SET deleted_at = NULL WHERE id = ?1")
            .execute(values![id])?;
        let of = self
            .db
            .prepare(
                "SELECT j.id, s.attempt FROM states s JOIN jobs j ON j.row = s.job
                 WHERE s.id = ?1 AND s.source = 'late'",
            )
            .first(values![state], |row| {
                Ok((super::codec::id(row, 0)?, row.get::<u32>(1)?))
            })?;
        let Some((job, attempt)) = of else {
            return Ok(());
        };
        let Some(job) = self.find_job(job)? else {
            return Ok(());
        };
        match self.late_report(job.row, attempt)? {
            Some(report) if report.outcome() != v1::Outcome::Released => {
                self.confirm_anew(&job, workspace, &report.unconfirmed)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What a person decides about a waiting state.
#[derive(Clone, Copy)]
pub(super) enum Decision {
    Adopt,
    Discard,
}

impl Snapshot<'_> {
    pub(super) fn header_of(self, state: Option<&str>) -> Result<Option<Header>> {
        let Some(state) = state else { return Ok(None) };
        let statement = self
            .db
            .prepare("SELECT digest, serial, lineage FROM states WHERE id = ?1");
        Ok(Some(statement.one(values![state], |row| {
            Ok(Header {
                digest: digest(row, 0)?,
                serial: count(row.get(1)?),
                lineage: row.get(2)?,
            })
        })?))
    }

    /// The state a build started from.
    pub(super) fn base_state(self, job: &JobRow) -> Result<Option<String>> {
        let statement = self
            .db
            .prepare("SELECT state_in FROM builds WHERE job = ?1");
        let found = statement.first(values![job.row], |row| row.get(0))?;
        Ok(found.flatten())
    }

    /// The current state, or the one of that id.
    pub(super) fn state(
        self,
        name: &WorkspaceName,
        state: Option<StateId>,
    ) -> Result<v1::StateRecord> {
        let workspace = self.workspace_named(name)?;
        let wanted = state.map(|id| id.to_string()).or(workspace.current_state);
        match wanted {
            Some(wanted) => self.record(workspace.id, &wanted),
            None => Err(Error::NotFound {
                what: "state of workspace",
                name: workspace.name,
            }),
        }
    }

    pub(super) fn states(self, name: &WorkspaceName) -> Result<Vec<v1::StateRecord>> {
        let workspace = self.workspace_named(name)?;
        let sql = format!("{RECORD} WHERE s.workspace = ?1 ORDER BY s.created_at DESC, s.id DESC");
        let statement = self.db.prepare(&sql);
        statement.all(values![workspace.id.to_string()], record)
    }

    fn record(self, workspace: WorkspaceId, state: &str) -> Result<v1::StateRecord> {
        let sql = format!("{RECORD} WHERE s.workspace = ?1 AND s.id = ?2");
        let statement = self.db.prepare(&sql);
        let found = statement.first(values![&workspace.to_string(), state], record)?;
        found.ok_or_else(|| Error::NotFound {
            what: "state",
            name: state.to_owned(),
        })
    }

    pub(super) fn ledger_of(self, job: i64, attempt: u32) -> Result<Vec<v1::LedgerEntry>> {
        let statement = self.db.prepare(LEDGER);
        statement.all(values![job, attempt], |row| super::codec::message(row, 0))
    }

    /// The ledger of the newest attempt that has one.
    pub(super) fn newest_ledger(self, job: &JobRow) -> Result<Vec<v1::LedgerEntry>> {
        let statement = self
            .db
            .prepare("SELECT MAX(attempt) FROM ledger WHERE job = ?1");
        let attempt: Option<u32> = statement.one(values![job.row], |row| row.get(0))?;
        match attempt {
            None => Ok(Vec::new()),
            Some(attempt) => self.ledger_of(job.row, attempt),
        }
    }
}

/// Digest, size, serial, lineage and place in the ledger, from this column on.
pub(super) fn checkpoint(row: Row<'_>, from: usize) -> Result<Checkpoint> {
    let digest: Digest = digest(row, from)?;
    Ok(Checkpoint {
        blob: BlobId {
            digest,
            size: count(row.get(from + 1)?),
        },
        serial: count(row.get(from + 2)?),
        lineage: row.get(from + 3)?,
        ledger_seq: count(row.get(from + 4)?),
    })
}

fn record(row: Row<'_>) -> Result<v1::StateRecord> {
    Ok(v1::StateRecord {
        id: row.get(0)?,
        source: row.get(1)?,
        blob: Some(v1::BlobRef {
            sha256: digest(row, 2)?.as_bytes().to_vec(),
            size: count(row.get(3)?),
        }),
        serial: count(row.get(4)?),
        lineage: row.get(5)?,
        created_at_ms: row.get(6)?,
        job_id: row.get(7)?,
        current: row.get::<Option<bool>>(8)?.unwrap_or(false),
        waiting: row.get(9)?,
    })
}
