//! Daemons: drain and list.

use std::collections::BTreeMap;

use proto::v1;

use super::codec::tags;
use super::rows::{Row, values};
use super::{Snapshot, Tx};
use crate::store::model::{DaemonContact, Drain};
use crate::store::{Error, Event, Result};

/// A daemon as the list shows it.
pub(super) struct DaemonRow {
    pub view: v1::Daemon,
    live: bool,
    /// By itself or because somebody drained it.
    draining: bool,
}

impl Tx<'_> {
    pub(super) fn set_drain(&mut self, organization: &str, name: &str, drain: Drain) -> Result<()> {
        let known = self
            .db
            .prepare("UPDATE daemons SET draining = ?3 WHERE organization = ?1 AND name = ?2")
            .execute(values![organization, name, drain == Drain::On])?;
        if known == 0 {
            return Err(no_daemon(name));
        }
        if drain == Drain::On {
            self.emit(Event::DrainRequested {
                organization: organization.to_owned(),
                daemon: name.to_owned(),
            });
        }
        Ok(())
    }
}

fn no_daemon(name: &str) -> Error {
    Error::NotFound {
        what: "daemon",
        name: name.to_owned(),
    }
}

impl Snapshot<'_> {
    pub(super) fn daemon(self, organization: &str, name: &str) -> Result<v1::Daemon> {
        self.daemons(organization)?
            .into_iter()
            .map(|row| row.view)
            .find(|view| view.name == name)
            .ok_or_else(|| no_daemon(name))
    }

    /// Daemons of an organization with their jobs, by name.
    pub(super) fn daemons(self, organization: &str) -> Result<Vec<DaemonRow>> {
        let mut jobs = self.jobs_in_hand(organization)?;
        let statement = self.db.prepare(
            "SELECT d.name, d.slots, d.tags, d.facts, d.version, d.last_seen_at, d.key, d.draining,
                 d.control_lost_at IS NOT NULL, COALESCE(r.seen_at, 0)
             FROM daemons d LEFT JOIN replicas r ON r.id = d.held_by
             WHERE d.organization = ?1 ORDER BY d.name",
        );
        statement.all(values![organization], |row| {
            let mut daemon = self.daemon_row(row)?;
            daemon.view.jobs = jobs.remove(&daemon.view.name).unwrap_or_default();
            daemon.view.status = status(&daemon).to_owned();
            Ok(daemon)
        })
    }

    fn daemon_row(self, row: Row<'_>) -> Result<DaemonRow> {
        // Who holds its control stream has seen it as lately as itself was seen.
        let last_seen = row.get::<i64>(5)?.max(row.get(9)?);
        let recent = last_seen > self.live_since();
        let control_lost: bool = row.get(8)?;
        let drained: bool = row.get(7)?;
        let facts = tags(row, 3)?;
        Ok(DaemonRow {
            draining: drained || DaemonContact::drain_of(&facts) == Drain::On,
            view: v1::Daemon {
                name: row.get(0)?,
                status: String::new(),
                slots: row.get(1)?,
                tags: tags(row, 2)?.into_iter().collect(),
                facts: facts.into_iter().collect(),
                version: row.get(4)?,
                jobs: Vec::new(),
                last_seen_at_ms: last_seen,
                key: row.get(6)?,
                drained,
            },
            live: recent && !control_lost,
        })
    }

    fn jobs_in_hand(self, organization: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let statement = self.db.prepare(
            "SELECT daemon, id FROM jobs INDEXED BY jobs_in_hand
             WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                 AND organization = ?1",
        );
        let rows: Vec<(String, String)> =
            statement.all(values![organization], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut jobs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (daemon, job) in rows {
            jobs.entry(daemon).or_default().push(job);
        }
        Ok(jobs)
    }
}

fn status(daemon: &DaemonRow) -> &'static str {
    match (daemon.live, daemon.draining, daemon.view.jobs.is_empty()) {
        (false, _, _) => "offline",
        (true, true, _) => "draining",
        (true, false, false) => "busy",
        (true, false, true) => "idle",
    }
}
