//! Wire to words: what a daemon sent is checked once, here, and then trusted.

use std::collections::HashMap;

use proto::ids::{Digest, JobId, LeaseId};
use proto::limits;
use proto::tags::Tags;
use proto::transport::Transport;
use proto::v1;

use crate::auth::Daemon;
use crate::matching;
use crate::refusal::{Refusal, shown};
use crate::store::model::{BlobId, Checkpoint, DaemonContact, Drain};

/// Longest version text of a daemon.
const VERSION: usize = 64;

pub fn job(id: &str) -> Result<JobId, Refusal> {
    id.parse().map_err(|_| {
        Refusal::invalid("INVALID_ID", format!("`{}` is no job id", shown(id)))
            .hint("`provisionerd jobs list` shows the ids")
    })
}

pub fn lease(bytes: &[u8]) -> Result<LeaseId, Refusal> {
    LeaseId::try_from(bytes).map_err(|error| Refusal::invalid("INVALID_ID", error.to_string()))
}

pub fn digest(bytes: &[u8]) -> Result<Digest, Refusal> {
    Digest::try_from(bytes).map_err(|error| Refusal::invalid("INVALID_ID", error.to_string()))
}

/// A blob that must be named.
pub fn blob(blob: Option<&v1::BlobRef>) -> Result<BlobId, Refusal> {
    let blob = blob.ok_or_else(|| Refusal::invalid("INVALID_REQUEST", "no blob is named"))?;
    Ok(BlobId {
        digest: digest(&blob.sha256)?,
        size: blob.size,
    })
}

pub fn checkpoint(checkpoint: Option<v1::Checkpoint>) -> Result<Option<Checkpoint>, Refusal> {
    let Some(checkpoint) = checkpoint else {
        return Ok(None);
    };
    Ok(Some(Checkpoint {
        blob: blob(checkpoint.blob.as_ref())?,
        serial: checkpoint.serial,
        lineage: checkpoint.lineage,
        ledger_seq: checkpoint.ledger_seq,
    }))
}

/// What a daemon says of itself in an acquire or a control request.
pub struct Introduction {
    pub version: String,
    pub slots: u32,
    pub tags: HashMap<String, String>,
    pub facts: HashMap<String, String>,
    /// Whether it drains by itself.
    pub drain: Drain,
}

/// Checks an introduction that came `by` a call; a tag outside the daemon's key is refused by
/// name.
pub fn contact(
    daemon: &Daemon,
    says: Introduction,
    by: Transport,
) -> Result<DaemonContact, Refusal> {
    let tags = Tags::new(says.tags).map_err(bad_tags)?;
    if let Some((key, value)) = proto::tags::outside(&daemon.key.tags, &tags) {
        let message = format!(
            "provisioner key `{}` does not allow the tag {key}={value}",
            daemon.id.key
        );
        return Err(Refusal::not_allowed("TAG_NOT_ALLOWED", message).hint(format!(
            "start the daemon without it, or make a key with `provisionerd keys create NAME --tag {key}={value}`"
        )));
    }
    if says.slots > limits::SLOTS {
        let message = format!(
            "{} slots are more than the limit of {}",
            says.slots,
            limits::SLOTS
        );
        return Err(Refusal::invalid("TOO_MANY_SLOTS", message));
    }
    if says.version.len() > VERSION {
        let message = format!("the daemon's version is longer than {VERSION} bytes");
        return Err(Refusal::invalid("INVALID_REQUEST", message));
    }
    let mut facts = facts(says.facts)?;
    by.note(&mut facts);
    let mut contact = DaemonContact {
        daemon: daemon.id.clone(),
        key_hash: daemon.key_hash,
        version: says.version,
        slots: says.slots,
        tags: tags.into_pairs(),
        facts,
    };
    contact.note_drain(says.drain);
    Ok(contact)
}

/// Facts have the limits of tags, but no scope and owner.
fn facts(facts: HashMap<String, String>) -> Result<matching::Tags, Refusal> {
    let facts = proto::tags::Allowed::new(facts).map_err(bad_tags)?;
    Ok(facts.into_pairs())
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn bad_tags(error: proto::tags::Error) -> Refusal {
    Refusal::invalid("INVALID_TAGS", error.to_string())
}
