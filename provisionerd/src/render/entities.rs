//! JSON documents of everything that is neither a job nor a template.

use proto::transport::Transport;
use proto::v1::{
    AuditEntry, Build, CreateKeyReply, CreateTokenReply, Daemon, Key, Limit, Organization, Owner,
    StateRecord, Token, UnclaimedFinish, Workspace,
};
use serde_json::{Value, json};

use super::extraction::resources;
use super::job::unconfirmed;
use super::time::rfc3339;
use super::words::{self, filled};

pub fn organization(organization: &Organization) -> Value {
    json!({
        "name": organization.name,
        "created_at": rfc3339(organization.created_at_ms),
    })
}

pub fn owner(owner: &Owner) -> Value {
    json!({
        "name": owner.name,
        "email": owner.email,
        "full_name": owner.full_name,
        "groups": owner.groups,
    })
}

pub fn limit(limit: &Limit) -> Value {
    json!({
        "of": words::limit_of(limit.of()),
        "name": limit.name,
        "most": limit.most,
        "running": limit.running,
    })
}

pub fn key(key: &Key) -> Value {
    json!({
        "name": key.name,
        "tags": key.tags,
        "created_at": rfc3339(key.created_at_ms),
        "last_used_at": key.last_used_at_ms.and_then(rfc3339),
    })
}

/// The only document that holds a key's secret.
pub fn created_key(reply: &CreateKeyReply) -> Value {
    let info = reply.info.clone().unwrap_or_default();
    json!({
        "name": info.name,
        "key": reply.key,
        "tags": info.tags,
        "created_at": rfc3339(info.created_at_ms),
    })
}

pub fn token(token: &Token) -> Value {
    json!({
        "name": token.name,
        "owner": token.owner,
        "role": token.role,
        "created_at": rfc3339(token.created_at_ms),
    })
}

/// The only document that holds a token's secret.
pub fn created_token(reply: &CreateTokenReply) -> Value {
    let info = reply.info.clone().unwrap_or_default();
    json!({
        "name": info.name,
        "token": reply.token,
        "owner": info.owner,
        "role": info.role,
        "created_at": rfc3339(info.created_at_ms),
    })
}

pub fn daemon(daemon: &Daemon) -> Value {
    json!({
        "name": daemon.name,
        "status": daemon.status,
        "drained": daemon.drained,
        "slots": daemon.slots,
        "tags": daemon.tags,
        "sandbox": daemon.facts.get("sandbox"),
        "engine": daemon.facts.get("engine"),
        "transport": transport(daemon),
        "facts": daemon.facts,
        "version": daemon.version,
        "jobs": daemon.jobs,
        "last_seen_at": rfc3339(daemon.last_seen_at_ms),
        "key": filled(&daemon.key),
    })
}

/// By which calls a daemon reaches the queue.
pub fn transport(daemon: &Daemon) -> &'static str {
    Transport::of(&daemon.facts.clone().into_iter().collect()).as_str()
}

pub fn build(build: &Build) -> Value {
    json!({
        "id": build.id,
        "number": build.number,
        "transition": words::transition(build.transition()),
        "version_id": build.template_version_id,
        "job_id": build.job_id,
        "status": words::status(build.status()),
        "created_at": rfc3339(build.created_at_ms),
    })
}

pub fn workspace(workspace: &Workspace) -> Value {
    json!({
        "id": workspace.id,
        "name": workspace.name,
        "owner": workspace.owner,
        "template": workspace.template,
        "created_at": rfc3339(workspace.created_at_ms),
        "latest_build": workspace.latest_build.as_ref().map(build),
        "parameters": workspace.parameters.iter()
            .map(|p| json!({ "name": p.name, "value": p.value })).collect::<Value>(),
        "resources": resources(&workspace.resources),
        "unconfirmed": unconfirmed(&workspace.unconfirmed),
        "deleted": workspace.deleted,
        "state_conflict": workspace.state_conflict,
    })
}

pub fn unclaimed(finish: &UnclaimedFinish) -> Value {
    let state = finish.state.as_ref();
    json!({
        "id": finish.id,
        "job": finish.job_id,
        "daemon": finish.daemon,
        "outcome": words::outcome(finish.outcome()),
        "received_at": rfc3339(finish.received_at_ms),
        "reason": finish.reason,
        "state": state.map(|state| json!({
            "serial": state.serial,
            "lineage": state.lineage,
            "size": state.blob.as_ref().map(|blob| blob.size),
        })),
        "unconfirmed": unconfirmed(&finish.unconfirmed),
    })
}

pub fn audit(entry: &AuditEntry) -> Value {
    json!({
        "id": entry.id,
        "time": rfc3339(entry.at_ms),
        "organization": filled(&entry.organization),
        "actor": { "kind": entry.actor_kind, "name": filled(&entry.actor) },
        "owner": filled(&entry.owner),
        "call": filled(&entry.call),
        "object": filled(&entry.object),
        "job": entry.job_id,
        "peer": filled(&entry.peer),
        "outcome": entry.outcome,
        "times": entry.times,
    })
}

pub fn state(record: &StateRecord) -> Value {
    let blob = record.blob.as_ref();
    let digest = blob.and_then(|b| proto::ids::Digest::try_from(b.sha256.as_slice()).ok());
    json!({
        "id": record.id,
        "source": record.source,
        "serial": record.serial,
        "lineage": record.lineage,
        "size": blob.map(|blob| blob.size),
        "sha256": digest.map(|digest| digest.to_string()),
        "created_at": rfc3339(record.created_at_ms),
        "job_id": record.job_id,
        "current": record.current,
        "waiting": record.waiting,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_key_prints_name_key_and_tags() {
        let reply = CreateKeyReply {
            key: "secret".to_owned(),
            info: Some(Key {
                name: "eu".to_owned(),
                tags: [("region".to_owned(), "eu".to_owned())].into(),
                ..Key::default()
            }),
        };
        let shown = created_key(&reply);
        assert_eq!(shown["name"], "eu");
        assert_eq!(shown["key"], "secret");
        assert_eq!(shown["tags"], json!({ "region": "eu" }));
        assert_eq!(key(&reply.info.unwrap_or_default()).get("key"), None);
    }
}
