//! Which resources were made or changed without proof in the state. Pure, shared by
//! the worker (for its own outcome) and the queue (for a worker that was lost).
//!
//! *Unconfirmed* = started and never ended ∪ ended after the newest good state was
//! taken ∪ a provisioner that started and never ended. A state proves all entries up
//! to its `ledger_seq`.

use std::collections::BTreeMap;

use crate::v1::{LedgerAction, LedgerEntry, LedgerEvent, UnconfirmedResource};

/// What the ledger says about one resource and one action.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Started,
    Provisioning,
    Complete { seq: u64 },
    Errored { seq: u64 },
}

#[derive(Debug, Clone)]
struct Record {
    standing: Standing,
    id: String,
}

/// The resources of `ledger` that a state which reflects all entries up to
/// `proved_seq` (0 = there is no state) does not prove, by address.
#[must_use]
pub fn unconfirmed(ledger: &[LedgerEntry], proved_seq: u64) -> Vec<UnconfirmedResource> {
    let mut records = BTreeMap::<(String, i32), Record>::new();
    for entry in ledger {
        if entry.action() != LedgerAction::Read {
            record(&mut records, entry);
        }
    }
    records
        .into_iter()
        .filter_map(|((address, action), record)| {
            let action = LedgerAction::try_from(action).unwrap_or_default();
            let reason = reason(&record.standing, action, proved_seq)?;
            Some(UnconfirmedResource {
                address,
                action: action.into(),
                id: record.id,
                reason: reason.to_owned(),
            })
        })
        .collect()
}

fn record(records: &mut BTreeMap<(String, i32), Record>, entry: &LedgerEntry) {
    let key = (entry.address.clone(), entry.action);
    let standing = match entry.event() {
        LedgerEvent::Unspecified => return,
        LedgerEvent::Started => Standing::Started,
        LedgerEvent::Complete => Standing::Complete { seq: entry.seq },
        LedgerEvent::Errored => Standing::Errored { seq: entry.seq },
        LedgerEvent::ProvisionStarted => Standing::Provisioning,
        // The resource itself goes on until it completes or errs.
        LedgerEvent::ProvisionComplete | LedgerEvent::ProvisionErrored => Standing::Started,
    };
    let record = records.entry(key).or_insert_with(|| Record {
        standing: Standing::Started,
        id: String::new(),
    });
    record.standing = standing;
    if !entry.id_value.is_empty() {
        record.id.clone_from(&entry.id_value);
    }
}

/// Plain words on what is not known, `None` when the state proves it.
fn reason(standing: &Standing, action: LedgerAction, proved_seq: u64) -> Option<&'static str> {
    match standing {
        Standing::Started => Some(match action {
            LedgerAction::Create | LedgerAction::Replace => {
                "its creation had not ended: it may exist without being tracked"
            }
            LedgerAction::Delete => "its deletion had not ended: it may be gone already",
            LedgerAction::Update | LedgerAction::Read | LedgerAction::Unspecified => {
                "its change had not ended: its attributes are unknown"
            }
        }),
        Standing::Provisioning => {
            Some("its provisioner had not ended: the state may show it as finished")
        }
        Standing::Complete { seq } if *seq > proved_seq => Some(match action {
            LedgerAction::Create | LedgerAction::Replace => {
                "it was created, but no saved state holds it"
            }
            LedgerAction::Delete => "it was deleted, but the saved state still holds it",
            LedgerAction::Update | LedgerAction::Read | LedgerAction::Unspecified => {
                "it was changed, but no saved state shows the change"
            }
        }),
        Standing::Errored { seq } if *seq > proved_seq => {
            Some("it failed, and no saved state shows what is left of it")
        }
        Standing::Complete { .. } | Standing::Errored { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_without_an_end_is_unconfirmed() {
        let ledger = [entry(1, "a.b", LedgerAction::Create, LedgerEvent::Started)];
        let found = unconfirmed(&ledger, 1);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, "a.b");
        assert!(found[0].reason.contains("may exist"), "{}", found[0].reason);
    }

    #[test]
    fn a_completion_is_confirmed_by_a_state_that_reflects_it() {
        let mut ledger = vec![
            entry(1, "a.b", LedgerAction::Create, LedgerEvent::Started),
            entry(2, "a.b", LedgerAction::Create, LedgerEvent::Complete),
        ];
        ledger[1].id_value = "i-1".to_owned();
        assert!(unconfirmed(&ledger, 2).is_empty());
        assert_eq!(unconfirmed(&ledger, 1)[0].id, "i-1");
    }

    #[test]
    fn a_provisioner_without_an_end_is_named_as_such() {
        let ledger = [
            entry(1, "a.b", LedgerAction::Create, LedgerEvent::Started),
            entry(
                2,
                "a.b",
                LedgerAction::Create,
                LedgerEvent::ProvisionStarted,
            ),
        ];
        let found = unconfirmed(&ledger, 9);
        assert!(found[0].reason.contains("provisioner"));
    }

    #[test]
    fn an_error_after_the_newest_state_is_unconfirmed() {
        let ledger = [
            entry(1, "a.b", LedgerAction::Delete, LedgerEvent::Started),
            entry(2, "a.b", LedgerAction::Delete, LedgerEvent::Errored),
        ];
        assert_eq!(unconfirmed(&ledger, 1).len(), 1);
        assert!(unconfirmed(&ledger, 2).is_empty());
    }

    #[test]
    fn reads_of_data_sources_change_nothing() {
        let ledger = [entry(
            1,
            "data.a.b",
            LedgerAction::Read,
            LedgerEvent::Started,
        )];
        assert!(unconfirmed(&ledger, 0).is_empty());
    }

    fn entry(seq: u64, address: &str, action: LedgerAction, event: LedgerEvent) -> LedgerEntry {
        LedgerEntry {
            seq,
            address: address.to_owned(),
            action: action.into(),
            event: event.into(),
            ..LedgerEntry::default()
        }
    }
}
