//! Short words for what tests say to a store.

use super::*;

pub(crate) fn untagged() -> Tags {
    tags(&[("scope", "organization"), ("owner", "")])
}

pub(crate) fn tags(pairs: &[(&str, &str)]) -> Tags {
    let own = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
    pairs.iter().map(own).collect()
}

pub(crate) fn submission(owner: &str) -> Submission {
    Submission {
        owner: owner.to_owned(),
        priority: Priority::Interactive,
        tags: untagged(),
        trace_context: HashMap::new(),
        deadlines: Deadlines::default(),
    }
}

pub(crate) fn contact(name: &str) -> DaemonContact {
    DaemonContact {
        daemon: DaemonRef {
            organization: ORG.to_owned(),
            key: "key".to_owned(),
            name: name.to_owned(),
            instance: format!("instance of {name}"),
        },
        key_hash: KEY_HASH,
        version: "1".to_owned(),
        slots: 4,
        tags: untagged(),
        facts: Tags::new(),
    }
}

/// A replica that never attends, as if presence were told by calls alone.
pub(crate) fn replica() -> ReplicaId {
    ReplicaId::generate()
}

pub(crate) fn named(name: &str) -> WorkspaceName {
    WorkspaceName {
        organization: ORG.to_owned(),
        owner: "ann".to_owned(),
        name: name.to_owned(),
    }
}

/// Who uploads with a token of this owner.
pub(crate) fn client(organization: &str, owner: &str) -> Holder {
    Holder::Client {
        organization: organization.to_owned(),
        owner: owner.to_owned(),
    }
}

/// A daemon that puts for a lease.
pub(crate) fn lease_of(daemon: &DaemonRef, job: JobId, lease: LeaseId) -> Holder {
    Holder::Lease {
        daemon: daemon.clone(),
        job,
        lease,
    }
}

/// Every job of the organization.
pub(crate) fn all_jobs() -> JobFilter {
    JobFilter {
        organization: ORG.to_owned(),
        status: None,
        kind: None,
        owner: None,
        workspace: None,
        limit: 100,
    }
}

pub(crate) fn line(seq: u64, text: &str) -> v1::LogLine {
    v1::LogLine {
        seq,
        text: text.to_owned(),
        ..v1::LogLine::default()
    }
}

pub(crate) fn lines(range: std::ops::RangeInclusive<u64>) -> Vec<v1::LogLine> {
    range.map(|seq| line(seq, &format!("line {seq}"))).collect()
}

pub(crate) fn started(seq: u64, address: &str) -> v1::LedgerEntry {
    entry(seq, address, v1::LedgerEvent::Started)
}

pub(crate) fn complete(seq: u64, address: &str) -> v1::LedgerEntry {
    entry(seq, address, v1::LedgerEvent::Complete)
}

fn entry(seq: u64, address: &str, event: v1::LedgerEvent) -> v1::LedgerEntry {
    v1::LedgerEntry {
        seq,
        address: address.to_owned(),
        action: v1::LedgerAction::Create.into(),
        event: event.into(),
        ..v1::LedgerEntry::default()
    }
}
