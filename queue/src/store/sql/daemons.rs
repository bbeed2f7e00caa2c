//! Daemons: contact, drain, control grace, list.

use std::collections::BTreeMap;

use proto::v1;

use super::codec::{tags, tags_json, word};
use super::rows::{Row, values};
use super::{Snapshot, Tx};
use crate::lease::millis;
use crate::matching::{Offer, Tags};
use crate::store::model::{DaemonContact, DaemonRef, Drain};
use crate::store::{Error, Event, Result};
use crate::words::Cancel;

/// A daemon as the list shows it.
pub(super) struct DaemonRow {
    pub view: v1::Daemon,
    pub tags: Tags,
    pub facts: Tags,
    pub live: bool,
    pub draining: bool,
}

impl DaemonRow {
    pub(super) fn offer(&self) -> Offer<'_> {
        Offer {
            tags: &self.tags,
            facts: &self.facts,
        }
    }
}

impl Tx<'_> {
    /// Notes a daemon's contact, unless another living instance has its name.
    pub(super) fn see_daemon(&self, contact: &DaemonContact) -> Result<()> {
        let daemon = &contact.daemon;
        self.key_lives(daemon)?;
        let displaced = self.displaced(daemon)?;
        let live_since = self.now - millis(self.timings.unreachable);
        let written = self
            .db
            .prepare(
                "INSERT INTO daemons (organization, name, instance, key, version, slots, tags,
                     facts, last_seen_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (organization, name) DO UPDATE SET
                     draining = CASE WHEN daemons.instance = excluded.instance
 THEN daemons.draining ELSE 0 END,
                     instance = excluded.instance, key = excluded.key,
                     version = excluded.version, slots = excluded.slots, tags = excluded.tags,
                     facts = excluded.facts, last_seen_at = excluded.last_seen_at,
                     control_lost_at = NULL
                 WHERE daemons.instance = excluded.instance OR daemons.last_seen_at <= ?10
                     OR daemons.control_lost_at IS NOT NULL",
            )
            .execute(values![
                daemon.organization,
                daemon.name,
                daemon.instance,
                daemon.key,
                contact.version,
                contact.slots,
                tags_json(&contact.tags),
                tags_json(&contact.facts),
                self.now,
                live_since,
            ])?;
        if written == 0 {
            return Err(Error::DaemonNameTaken {
                name: daemon.name.clone(),
            });
        }
        match displaced {
            None => Ok(()),
            Some(lost_at) => self.end_grace_of_others(daemon, lost_at),
        }
    }

    /// Since when the bearer of the name is gone, when it is another instance.
    fn displaced(&self, daemon: &DaemonRef) -> Result<Option<i64>> {
        let statement = self.db.prepare(
            "SELECT COALESCE(control_lost_at, ?4) FROM daemons
             WHERE organization = ?1 AND name = ?2 AND instance <> ?3",
        );
        let before = values![daemon.organization, daemon.name, daemon.instance, self.now];
        statement.first(before, |row| row.get(0))
    }

    /// That another instance takes the name is no sign of life of the one before. The
    /// control grace of its jobs before the gate goes on, as their leases' expiry, which
    /// only an update of theirs moves.
    fn end_grace_of_others(&self, daemon: &DaemonRef, lost_at: i64) -> Result<()> {
        self.db
            .prepare(
                "UPDATE jobs INDEXED BY jobs_in_hand SET expires_at = ?4
                 WHERE state IN ('offered', 'running', 'canceling') AND organization = ?1
                     AND daemon = ?2 AND gate_open_at IS NULL AND expires_at > ?4
                     AND EXISTS (SELECT 1 FROM attempts a WHERE a.job = jobs.row
                         AND a.attempt = jobs.attempt AND a.instance <> ?3)",
            )
            .execute(values![
                daemon.organization,
                daemon.name,
                daemon.instance,
                lost_at + millis(self.timings.control_grace)
            ])?;
        Ok(())
    }

    /// Checked at every claim: a deleted key admits nobody.
    fn key_lives(&self, daemon: &DaemonRef) -> Result<()> {
        let statement = self
            .db
            .prepare("SELECT 1 FROM keys WHERE organization = ?1 AND name = ?2");
        if statement.exists(values![&daemon.organization, &daemon.key])? {
            return Ok(());
        }
        Err(Error::NotFound {
            what: "provisioner key",
            name: daemon.key.clone(),
        })
    }

    /// Notes that this instance was heard.
    pub(super) fn heard(&self, daemon: &DaemonRef) -> Result<()> {
        self.db
            .prepare(
                "UPDATE daemons SET last_seen_at = ?4, control_lost_at = NULL
                 WHERE organization = ?1 AND name = ?2 AND instance = ?3",
            )
            .execute(values![
                daemon.organization,
                daemon.name,
                daemon.instance,
                self.now
            ])?;
        Ok(())
    }

    pub(super) fn control_lost(&self, daemon: &DaemonRef) -> Result<()> {
        self.db
            .prepare(
                "UPDATE daemons SET control_lost_at = ?4
                 WHERE organization = ?1 AND name = ?2 AND instance = ?3",
            )
            .execute(values![
                daemon.organization,
                daemon.name,
                daemon.instance,
                self.now
            ])?;
        Ok(())
    }

    pub(super) fn touch_daemon(&self, daemon: &DaemonRef) -> Result<Vec<v1::ControlEvent>> {
        self.heard(daemon)?;
        let mut events = Vec::new();
        if self.is_draining(daemon)? {
            events.push(v1::control_event::Event::Drain(v1::DrainDaemonEvent {}));
        }
        let statement = self.db.prepare(
            "SELECT id, cancel FROM jobs INDEXED BY jobs_in_hand
             WHERE state IN ('offered', 'running', 'canceling') AND organization = ?1
                 AND daemon = ?2 AND cancel <> 'none'",
        );
        let jobs = statement.all(values![&daemon.organization, &daemon.name], |row| {
            Ok(v1::CancelJob {
                job_id: row.get(0)?,
                kind: word(row, 1, Cancel::from_text)?.into(),
            })
        })?;
        events.extend(jobs.into_iter().map(v1::control_event::Event::Cancel));
        let wrap = |event| v1::ControlEvent { event: Some(event) };
        Ok(events.into_iter().map(wrap).collect())
    }

    pub(super) fn is_draining(&self, daemon: &DaemonRef) -> Result<bool> {
        let statement = self.db.prepare(
            "SELECT draining FROM daemons WHERE organization = ?1 AND name = ?2 AND instance = ?3",
        );
        let found = statement.first(
            values![&daemon.organization, &daemon.name, &daemon.instance],
            |row| row.get(0),
        )?;
        Ok(found.unwrap_or(false))
    }

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
            "SELECT name, slots, tags, facts, version, last_seen_at, key, draining,
                 control_lost_at IS NOT NULL
             FROM daemons WHERE organization = ?1 ORDER BY name",
        );
        statement.all(values![organization], |row| {
            let mut daemon = self.daemon_row(row)?;
            daemon.view.jobs = jobs.remove(&daemon.view.name).unwrap_or_default();
            daemon.view.status = status(&daemon).to_owned();
            Ok(daemon)
        })
    }

    fn daemon_row(self, row: Row<'_>) -> Result<DaemonRow> {
        let tags_of = tags(row, 2)?;
        let facts = tags(row, 3)?;
        let last_seen: i64 = row.get(5)?;
        let recent = self.now - last_seen < millis(self.timings.unreachable);
        let control_lost: bool = row.get(8)?;
        Ok(DaemonRow {
            view: v1::Daemon {
                name: row.get(0)?,
                status: String::new(),
                slots: row.get(1)?,
                tags: tags_of.clone().into_iter().collect(),
                facts: facts.clone().into_iter().collect(),
                version: row.get(4)?,
                jobs: Vec::new(),
                last_seen_at_ms: last_seen,
                key: row.get(6)?,
            },
            tags: tags_of,
            facts,
            live: recent && !control_lost,
            draining: row.get(7)?,
        })
    }

    fn jobs_in_hand(self, organization: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let statement = self.db.prepare(
            "SELECT daemon, id FROM jobs INDEXED BY jobs_in_hand
             WHERE state IN ('offered', 'running', 'canceling') AND organization = ?1",
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
