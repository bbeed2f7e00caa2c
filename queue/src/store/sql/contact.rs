//! Contact: what a daemon's call or its control stream says of its life, and to whom a
//! name belongs.

use std::sync::LazyLock;

use proto::transport::Transport;
use proto::v1;

use super::asked::{First, Read};
use super::codec::{tags, tags_json, word};
use super::rows::{Value, values};
use super::{Snapshot, Tx};
use crate::lease::millis;
use crate::store::model::{DaemonContact, DaemonRef, Drain, Opened, ReplicaId};
use crate::store::{Error, Result};
use crate::words::Cancel;

/// Of daemons: that of this organization (`?1`), name (`?2`) and instance (`?3`), unless a
/// replica vouches for it that was seen after `?4`.
pub(super) const UNHEARD: &str = "daemons.organization = ?1 AND daemons.name = ?2 \
     AND daemons.instance = ?3 AND (daemons.control_lost_at IS NOT NULL OR NOT EXISTS (SELECT 1 \
         FROM replicas r WHERE r.id = daemons.held_by AND r.seen_at > ?4))";

static HEARD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE daemons SET last_seen_at = ?5, control_lost_at = NULL
         WHERE organization = ?1 AND name = (SELECT name FROM daemons WHERE {UNHEARD}
             FOR NO KEY UPDATE SKIP LOCKED)"
    )
});

/// What stands under a daemon's name before a contact.
pub(super) struct Bearer {
    instance: String,
    control_lost_at: Option<i64>,
    drain: Drain,
    /// Nothing of this contact would change it, and its presence needs no word.
    settled: bool,
}

/// A row for a key that lives, and in it who has the name, if anybody has it.
const BEARER: &str = "SELECT d.instance, d.control_lost_at, d.draining,
         d.control_lost_at IS NULL AND d.instance = ?3 AND d.key = ?4
             AND d.version = ?5 AND d.slots = ?6 AND d.tags = ?7 AND d.facts = ?8
             AND CASE WHEN ?11 = 1 THEN d.held_by IS NULL AND d.last_seen_at > ?10
                 ELSE (?9 IS NULL OR d.held_by = ?9) AND EXISTS (SELECT 1
                     FROM replicas r WHERE r.id = d.held_by AND r.seen_at > ?10)
                 END
     FROM keys k LEFT JOIN daemons d ON d.organization = ?1 AND d.name = ?2
     WHERE k.hash = ?12 AND k.organization || '' = ?1 AND k.name || '' = ?4";

/// As whom a contact is noted.
#[derive(Clone, Copy)]
pub(super) enum Contact<'a> {
    /// A call.
    Call,
    /// A control stream that this replica holds from here on.
    HeldBy(&'a ReplicaId),
}

impl<'a> Contact<'a> {
    fn replica(self) -> Option<&'a str> {
        match self {
            Self::Call => None,
            Self::HeldBy(replica) => Some(replica.as_str()),
        }
    }
}

/// A contact as statements name it.
pub(super) struct Introduced<'a> {
    contact: &'a DaemonContact,
    how: Contact<'a>,
    tags: String,
    facts: String,
    since: i64,
}

impl<'a> Introduced<'a> {
    /// The question who has its name, for a daemon whose key lives. That is checked at every
    /// claim: a deleted key admits nobody, also when another one was made under its name
    /// since.
    pub(super) fn asked(&self) -> First<'_, Option<Bearer>, Read<Option<Bearer>>> {
        let (contact, daemon) = (self.contact, &self.contact.daemon);
        let values = [
            Value::Text(Some(&daemon.organization)),
            Value::Text(Some(&daemon.name)),
            Value::Text(Some(&daemon.instance)),
            Value::Text(Some(&daemon.key)),
            Value::Text(Some(&contact.version)),
            Value::Int(Some(contact.slots.into())),
            Value::Text(Some(&self.tags)),
            Value::Text(Some(&self.facts)),
            Value::Text(self.how.replica()),
            Value::Int(Some(self.since)),
            Value::Int(Some(calls_only(contact).into())),
            Value::Blob(Some(&contact.key_hash)),
        ];
        First::of(BEARER, &values, |row| {
            let Some(instance) = row.get(0)? else {
                return Ok(None);
            };
            Ok(Some(Bearer {
                instance,
                control_lost_at: row.get(1)?,
                drain: drain(row.get(2)?),
                settled: row.get(3)?,
            }))
        })
    }

    pub(super) fn contact(&self) -> &'a DaemonContact {
        self.contact
    }
}

impl Tx<'_> {
    /// Notes a daemon's contact, unless another living instance has its name. Writes
    /// nothing when it would change nothing.
    pub(super) fn see_daemon(&self, contact: &DaemonContact, how: Contact<'_>) -> Result<Drain> {
        let introduced = self.introduced(contact, how);
        let mut bearer = introduced.asked();
        self.db.ask(&mut [&mut bearer])?;
        self.see_bearer(&introduced, bearer.found())
    }

    pub(super) fn introduced<'a>(
        &self,
        contact: &'a DaemonContact,
        how: Contact<'a>,
    ) -> Introduced<'a> {
        Introduced {
            contact,
            how,
            tags: tags_json(&contact.tags),
            facts: tags_json(&contact.facts),
            since: self.vouches_since(),
        }
    }

    /// The same, by who has asked already.
    pub(super) fn see_bearer(
        &self,
        introduced: &Introduced<'_>,
        bearer: Option<Option<Bearer>>,
    ) -> Result<Drain> {
        let (contact, how) = (introduced.contact, introduced.how);
        let daemon = &contact.daemon;
        let bearer = bearer.ok_or_else(|| Error::NotFound {
            what: "provisioner key",
            name: daemon.key.clone(),
        })?;
        let bearer = match bearer {
            Some(bearer) if bearer.settled => return Ok(bearer.drain),
            bearer => bearer,
        };
        let Some(drain) = self.take_name(contact, how)? else {
            return Err(Error::DaemonNameTaken {
                name: daemon.name.clone(),
            });
        };
        match bearer {
            Some(bearer) if bearer.instance != daemon.instance => {
                let lost_at = bearer.control_lost_at.unwrap_or(self.now);
                self.end_grace_of_others(daemon, lost_at)?;
            }
            Some(_) | None => {}
        }
        Ok(drain)
    }

    /// Makes the name this instance's, and tells whether that drains; `None` when another
    /// living one has it.
    fn take_name(&self, contact: &DaemonContact, how: Contact<'_>) -> Result<Option<Drain>> {
        let daemon = &contact.daemon;
        let (tags, facts) = (tags_json(&contact.tags), tags_json(&contact.facts));
        let (replica, live_since) = (how.replica(), self.live_since());
        let calls_only = calls_only(contact);
        let statement = self.db.prepare(
            "INSERT INTO daemons (organization, name, instance, key, version, slots, tags,
                     facts, last_seen_at, held_by)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?11)
                 ON CONFLICT (organization, name) DO UPDATE SET
                     draining = CASE WHEN daemons.instance = excluded.instance
                         THEN daemons.draining ELSE 0 END,
                     held_by = CASE WHEN ?12 = 0 AND daemons.instance = excluded.instance
                         THEN COALESCE(excluded.held_by, daemons.held_by)
                         ELSE excluded.held_by END,
                     instance = excluded.instance, key = excluded.key,
                     version = excluded.version, slots = excluded.slots, tags = excluded.tags,
                     facts = excluded.facts, last_seen_at = excluded.last_seen_at,
                     control_lost_at = NULL
                 WHERE daemons.instance = excluded.instance
                     OR daemons.control_lost_at IS NOT NULL
                     OR (daemons.last_seen_at <= ?10 AND NOT EXISTS (SELECT 1 FROM replicas r
                         WHERE r.id = daemons.held_by AND r.seen_at > ?10))
                 RETURNING draining",
        );
        let values = values![
            daemon.organization,
            daemon.name,
            daemon.instance,
            daemon.key,
            contact.version,
            contact.slots,
            tags,
            facts,
            self.now,
            live_since,
            replica,
            calls_only,
        ];
        statement.first(values, |row| Ok(drain(row.get(0)?)))
    }

    /// That another instance takes the name is no sign of life of the one before. The
    /// control grace of its jobs before the gate goes on, as their leases' expiry, which
    /// only an update of theirs moves.
    fn end_grace_of_others(&self, daemon: &DaemonRef, lost_at: i64) -> Result<()> {
        self.db
            .prepare(
                "UPDATE jobs INDEXED BY jobs_in_hand SET expires_at = ?4
                 WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                     AND organization = ?1
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

    /// Notes that this instance was heard. For one whose control stream stands at a
    /// replica that was seen lately there is nothing to note; nor is there while somebody
    /// else writes of it, who is not waited for: its job may be held by now.
    pub(super) fn heard(&self, daemon: &DaemonRef) -> Result<()> {
        self.db.prepare(&HEARD).run(values![
            daemon.organization,
            daemon.name,
            daemon.instance,
            self.vouches_since(),
            self.now,
        ])
    }

    /// A stream that ends while another living replica holds a newer one says nothing, nor
    /// does one that its daemon has left for short calls.
    pub(super) fn control_lost(&self, daemon: &DaemonRef, replica: &ReplicaId) -> Result<()> {
        if self.transport_of(daemon)? == Transport::Unary {
            return Ok(());
        }
        self.db
            .prepare(
                "UPDATE daemons SET control_lost_at = ?4, held_by = NULL,
                     last_seen_at = CASE WHEN held_by IS NULL THEN last_seen_at ELSE ?4 END
                 WHERE organization = ?1 AND name = ?2 AND instance = ?3
                     AND (held_by IS NULL OR held_by = ?5 OR NOT EXISTS (SELECT 1
                         FROM replicas r WHERE r.id = daemons.held_by AND r.seen_at > ?6))",
            )
            .execute(values![
                daemon.organization,
                daemon.name,
                daemon.instance,
                self.now,
                replica.as_str(),
                self.live_since(),
            ])?;
        Ok(())
    }

    fn transport_of(&self, daemon: &DaemonRef) -> Result<Transport> {
        let statement = self.db.prepare(
            "SELECT facts FROM daemons WHERE organization = ?1 AND name = ?2 AND instance = ?3
             FOR NO KEY UPDATE",
        );
        let values = values![daemon.organization, daemon.name, daemon.instance];
        let facts = statement.first(values, |row| tags(row, 0))?;
        Ok(facts.map_or(Transport::Streams, |facts| Transport::of(&facts)))
    }

    /// A control stream was opened at this replica.
    pub(super) fn open_control(
        &self,
        contact: &DaemonContact,
        replica: &ReplicaId,
    ) -> Result<Opened> {
        let drain = self.see_daemon(contact, Contact::HeldBy(replica))?;
        self.untold(&contact.daemon, drain)
    }

    /// A daemon without streams asks.
    pub(super) fn poll_control(&self, contact: &DaemonContact) -> Result<Opened> {
        let drain = self.see_daemon(contact, Contact::Call)?;
        self.untold(&contact.daemon, drain)
    }

    fn untold(&self, daemon: &DaemonRef, drain: Drain) -> Result<Opened> {
        let statement = self.db.prepare(
            "SELECT id, cancel FROM jobs INDEXED BY jobs_in_hand
             WHERE (state = 'offered' OR state = 'running' OR state = 'canceling')
                 AND organization = ?1
                 AND daemon = ?2 AND cancel <> 'none'",
        );
        let cancels = statement.all(values![&daemon.organization, &daemon.name], |row| {
            Ok(v1::CancelJob {
                job_id: row.get(0)?,
                kind: word(row, 1, Cancel::from_text)?.into(),
            })
        })?;
        Ok(Opened { drain, cancels })
    }
}

impl Snapshot<'_> {
    /// Who was last seen then or before is gone.
    pub(super) fn live_since(self) -> i64 {
        self.now - millis(self.timings.unreachable)
    }

    /// A replica that was seen after this vouches for the daemons it holds, with enough
    /// time left for their next call to be noted before it is given up itself.
    pub(super) fn vouches_since(self) -> i64 {
        self.now - millis(self.timings.unreachable) / 2
    }
}

/// Whether no control stream of this daemon is wanted any more.
fn calls_only(contact: &DaemonContact) -> bool {
    contact.transport() == Transport::Unary
}

fn drain(draining: bool) -> Drain {
    if draining { Drain::On } else { Drain::Off }
}
