//! What one replica tells and asks for all the daemons whose control streams it holds, and
//! what waits for any of them: a few statements, however many they are.

use super::codec::{tags, word};
use super::rows::{unreadable, values};
use super::{Snapshot, Tx};
use crate::lease::millis;
use crate::matching::Affinity;
use crate::store::Result;
use crate::store::model::{Attendance, DaemonName, Lane, ReplicaId, SecretHash};
use crate::words::{Cancel, Kind};
use proto::v1;

/// Replicas that were not seen for so many times the unreachable time are forgotten.
const FORGOTTEN_AFTER: i64 = 240;

impl Tx<'_> {
    /// Notes that this replica lives, and with it the daemons it holds.
    pub(super) fn attend(&self, replica: &ReplicaId) -> Result<Attendance> {
        self.db
            .prepare(
                "INSERT INTO replicas (id, seen_at) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
            )
            .execute(values![replica.as_str(), self.now])?;
        let old = self.now - millis(self.timings.unreachable) * FORGOTTEN_AFTER;
        self.db
            .prepare("DELETE FROM replicas WHERE seen_at < ?1")
            .execute(values![old])?;
        Ok(Attendance {
            draining: self.held_draining(replica)?,
            busy: self.held_busy(replica)?,
            lost: self.control_lost_lately()?,
        })
    }
}

impl Snapshot<'_> {
    pub(super) fn held(self, replica: &ReplicaId) -> Result<Vec<(DaemonName, String)>> {
        let statement = self.db.prepare(
            "SELECT organization, name, instance FROM daemons INDEXED BY daemons_held
             WHERE held_by = ?1",
        );
        statement.all(values![replica.as_str()], |row| {
            Ok((name(row.get(0)?, row.get(1)?), row.get(2)?))
        })
    }

    fn held_draining(self, replica: &ReplicaId) -> Result<Vec<(DaemonName, String)>> {
        let statement = self.db.prepare(
            "SELECT organization, name, instance FROM daemons INDEXED BY daemons_held
             WHERE held_by = ?1 AND draining = 1",
        );
        statement.all(values![replica.as_str()], |row| {
            Ok((name(row.get(0)?, row.get(1)?), row.get(2)?))
        })
    }

    fn held_busy(self, replica: &ReplicaId) -> Result<Vec<(DaemonName, Option<v1::CancelJob>)>> {
        let statement = self.db.prepare(
            "SELECT d.organization, d.name, j.id, j.cancel
             FROM jobs j INDEXED BY jobs_in_hand
                 JOIN daemons d ON d.organization = j.organization AND d.name = j.daemon
             WHERE (j.state = 'offered' OR j.state = 'running' OR j.state = 'canceling')
                 AND d.held_by = ?1",
        );
        statement.all(values![replica.as_str()], |row| {
            let kind = word(row, 3, Cancel::from_text)?;
            let cancel = v1::CancelJob {
                job_id: row.get(2)?,
                kind: kind.into(),
            };
            let cancel = (kind != Cancel::None).then_some(cancel);
            Ok((name(row.get(0)?, row.get(1)?), cancel))
        })
    }

    /// Later their jobs before the gate are with others anyway.
    fn control_lost_lately(self) -> Result<Vec<(DaemonName, String)>> {
        let statement = self.db.prepare(
            "SELECT organization, name, instance FROM daemons INDEXED BY daemons_control_lost
             WHERE control_lost_at IS NOT NULL AND control_lost_at > ?1",
        );
        statement.all(values![self.live_since()], |row| {
            Ok((name(row.get(0)?, row.get(1)?), row.get(2)?))
        })
    }

    /// One pending job for each set of organization, tags, engine and kind that has any.
    pub(super) fn waiting(self) -> Result<Vec<Lane>> {
        let statement = self.db.prepare(
            "SELECT first.id, first.organization, s.tags, first.kind, first.engine,
                 first.version, v.providers
             FROM
                 (SELECT MIN(row) AS row FROM jobs INDEXED BY jobs_ready
                  WHERE state = 'pending' GROUP BY organization, tagset, engine, kind) lane
             JOIN jobs first ON first.row = lane.row JOIN tagsets s ON s.id = first.tagset
             JOIN template_versions v ON v.id = first.version",
        );
        statement.all(values![], |row| {
            let job = row.text(0)?.parse();
            Ok(Lane {
                job: job.map_err(|_| unreadable(0, "job id"))?,
                organization: row.get(1)?,
                tags: tags(row, 2)?,
                engine: row.get(4)?,
                kind: word(row, 3, Kind::from_text)?,
                affinity: Affinity {
                    version: row.get(5)?,
                    providers: row.get(6)?,
                },
            })
        })
    }

    /// Hashes of all keys and tokens that exist.
    pub(super) fn credentials(self) -> Result<Vec<SecretHash>> {
        let statement = self
            .db
            .prepare("SELECT hash FROM keys UNION ALL SELECT hash FROM tokens");
        statement.all(values![], |row| {
            let hash = row.get::<Vec<u8>>(0)?;
            SecretHash::try_from(hash).map_err(|_| unreadable(0, "hash"))
        })
    }
}

fn name(organization: String, name: String) -> DaemonName {
    DaemonName { organization, name }
}
