//! Which resources were made or changed without proof in the state. Pure, shared by
//! the worker (for its own outcome) and the queue (for a worker that was lost).
//!
//! *Unconfirmed* = started and never ended ∪ ended after the newest good state was
//! taken ∪ a provisioner that started and never ended. A state proves all entries up
//! to its `ledger_seq`. Of an attempt that was not heard of again, all that its plan
//! [`intended`] and its ledger does not name is unconfirmed too.
//!
//! One resource may be in doubt twice: what replaces it is made before the old one is
//! destroyed, and each of the two may have happened or not.

use std::collections::{BTreeMap, BTreeSet};

use crate::v1::{IntendedChange, LedgerAction, LedgerEntry, LedgerEvent, UnconfirmedResource};

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

/// The resources of `ledger`, in any order, that a state which reflects all entries up
/// to `proved_seq` (0 = there is no state) does not prove, by address and action.
#[must_use]
pub fn unconfirmed(ledger: &[LedgerEntry], proved_seq: u64) -> Vec<UnconfirmedResource> {
    let mut entries: Vec<&LedgerEntry> = ledger.iter().collect();
    entries.sort_by_key(|entry| entry.seq);
    let mut records = BTreeMap::<(&str, i32), Record>::new();
    for entry in entries {
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
                address: address.to_owned(),
                action: action.into(),
                id: record.id,
                reason: reason.to_owned(),
            })
        })
        .collect()
}

/// What a daemon names that knows the ledger up to entry `end` alone, and what the entries
/// behind that leave in doubt: its host lost them with its memory, and no state of that
/// host is known to have them.
#[must_use]
pub fn with_forgotten(
    named: Vec<UnconfirmedResource>,
    ledger: &[LedgerEntry],
    end: u64,
) -> Vec<UnconfirmedResource> {
    let behind: Vec<LedgerEntry> = ledger
        .iter()
        .filter(|entry| entry.seq > end)
        .cloned()
        .collect();
    let forgotten = unconfirmed(&behind, 0);
    let again: BTreeSet<(&str, i32)> = forgotten
        .iter()
        .map(|resource| (resource.address.as_str(), resource.action))
        .collect();
    let mut all: Vec<UnconfirmedResource> = named
        .into_iter()
        .filter(|resource| !again.contains(&(resource.address.as_str(), resource.action)))
        .collect();
    all.extend(forgotten);
    all
}

/// What an attempt was going to change that has not been heard of since `since`, and of
/// which its ledger says nothing. `left_out` further changes have no name.
#[must_use]
pub fn intended(
    changes: &[IntendedChange],
    left_out: u64,
    ledger: &[LedgerEntry],
    since: &str,
) -> Vec<UnconfirmedResource> {
    let heard: BTreeSet<(&str, i32)> = ledger
        .iter()
        .map(|entry| (entry.address.as_str(), entry.action))
        .collect();
    let doubt = |address: String, action: LedgerAction, id: &str| UnconfirmedResource {
        address,
        action: action.into(),
        id: id.to_owned(),
        reason: format!("{}, not heard of since {since}", possible(action)),
    };
    let mut found: Vec<UnconfirmedResource> = changes
        .iter()
        .filter_map(|change| {
            let action = unheard(change, &heard)?;
            // The id of a replacement is that of the old one.
            let id = if action == LedgerAction::Create {
                ""
            } else {
                change.id.as_str()
            };
            Some(doubt(change.address.clone(), action, id))
        })
        .collect();
    if left_out > 0 {
        let address = format!("{left_out} further changes of the plan");
        found.push(doubt(address, LedgerAction::Unspecified, ""));
    }
    found
}

/// The part of a change that the ledger does not name.
fn unheard(change: &IntendedChange, heard: &BTreeSet<(&str, i32)>) -> Option<LedgerAction> {
    let is_heard = |action: LedgerAction| heard.contains(&(change.address.as_str(), action.into()));
    let made = is_heard(LedgerAction::Create);
    let removed = is_heard(LedgerAction::Delete);
    match change.action() {
        LedgerAction::Read => None,
        LedgerAction::Replace if is_heard(LedgerAction::Replace) || (made && removed) => None,
        LedgerAction::Replace if removed => Some(LedgerAction::Create),
        LedgerAction::Replace if made => Some(LedgerAction::Delete),
        action @ (LedgerAction::Create
        | LedgerAction::Update
        | LedgerAction::Delete
        | LedgerAction::Replace
        | LedgerAction::Unspecified) => {
            let address = change.address.as_str();
            let mut named = heard.range((address, i32::MIN)..=(address, i32::MAX));
            named.next().is_none().then_some(action)
        }
    }
}

/// What may have become of a change that was about to be made.
fn possible(action: LedgerAction) -> &'static str {
    match action {
        LedgerAction::Create => "it may exist",
        LedgerAction::Replace => "the old one may be gone and a new one may exist",
        LedgerAction::Delete => "it may be gone",
        LedgerAction::Update => "it may be changed",
        LedgerAction::Read | LedgerAction::Unspecified => "it may have happened",
    }
}

/// Whether a later build that ended well settles what was unconfirmed: it has read the
/// world again, so what the state names (updated, or to be deleted) is known. A create
/// or replacement that the state never heard of is not found by any refresh.
#[must_use]
pub fn is_settled_by_success(action: LedgerAction) -> bool {
    match action {
        LedgerAction::Update | LedgerAction::Delete | LedgerAction::Read => true,
        LedgerAction::Create | LedgerAction::Replace | LedgerAction::Unspecified => false,
    }
}

fn record<'a>(records: &mut BTreeMap<(&'a str, i32), Record>, entry: &'a LedgerEntry) {
    let key = (entry.address.as_str(), entry.action);
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
    fn what_a_daemon_has_forgotten_is_in_doubt_and_said_once() {
        let mut made = entry(4, "a.two", LedgerAction::Create, LedgerEvent::Complete);
        made.id_value = "i-2".to_owned();
        let ledger = [
            entry(1, "a.one", LedgerAction::Create, LedgerEvent::Started),
            entry(2, "a.one", LedgerAction::Create, LedgerEvent::Complete),
            entry(3, "a.two", LedgerAction::Create, LedgerEvent::Started),
            made,
        ];
        // It knows that one is proved, and of two that it began.
        let named = unconfirmed(&ledger[..3], 2);
        assert_eq!(named.len(), 1);
        let all = with_forgotten(named.clone(), &ledger, 3);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(
            (all[0].address.as_str(), all[0].id.as_str()),
            ("a.two", "i-2")
        );
        assert_eq!(with_forgotten(named.clone(), &ledger, 4), named);
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

    #[test]
    fn a_replacement_made_first_is_in_doubt_beside_the_removal_of_the_old_one() {
        let ledger = [
            entry(1, "a.b", LedgerAction::Create, LedgerEvent::Started),
            entry(2, "a.b", LedgerAction::Create, LedgerEvent::Complete),
            entry(3, "a.b", LedgerAction::Delete, LedgerEvent::Started),
        ];
        let found = unconfirmed(&ledger, 0);
        let actions: Vec<LedgerAction> = found.iter().map(UnconfirmedResource::action).collect();
        assert_eq!(actions, [LedgerAction::Create, LedgerAction::Delete]);
    }

    #[test]
    fn order_of_arrival_does_not_matter() {
        let ledger = [
            entry(2, "a.b", LedgerAction::Create, LedgerEvent::Complete),
            entry(1, "a.b", LedgerAction::Create, LedgerEvent::Started),
        ];
        assert!(unconfirmed(&ledger, 2).is_empty());
    }

    #[test]
    fn only_what_a_refresh_can_see_is_settled_by_a_later_success() {
        assert!(is_settled_by_success(LedgerAction::Update));
        assert!(is_settled_by_success(LedgerAction::Delete));
        assert!(!is_settled_by_success(LedgerAction::Create));
        assert!(!is_settled_by_success(LedgerAction::Replace));
    }

    #[test]
    fn what_was_intended_and_never_heard_of_may_have_happened() {
        let change = |address: &str, action: LedgerAction| IntendedChange {
            address: address.to_owned(),
            action: action.into(),
            id: String::new(),
        };
        let changes = [
            change("a.x", LedgerAction::Create),
            change("a.y", LedgerAction::Create),
            change("a.z", LedgerAction::Delete),
        ];
        let ledger = [entry(1, "a.y", LedgerAction::Create, LedgerEvent::Started)];
        let found = intended(&changes, 2, &ledger, "noon");
        let reasons: Vec<(&str, &str)> = found
            .iter()
            .map(|it| (it.address.as_str(), it.reason.as_str()))
            .collect();
        let expected = [
            ("a.x", "it may exist, not heard of since noon"),
            ("a.z", "it may be gone, not heard of since noon"),
            (
                "2 further changes of the plan",
                "it may have happened, not heard of since noon",
            ),
        ];
        assert_eq!(reasons, expected);
        assert!(intended(&[], 0, &ledger, "noon").is_empty());
    }

    #[test]
    fn of_a_replacement_the_half_that_was_not_heard_of_is_in_doubt() {
        let changes = [IntendedChange {
            address: "a.b".to_owned(),
            action: LedgerAction::Replace.into(),
            id: "i-old".to_owned(),
        }];
        let half = |ledger: &[LedgerEntry]| {
            let found = intended(&changes, 0, ledger, "noon");
            let each = found.iter();
            each.map(|it| (it.action(), it.id.clone()))
                .collect::<Vec<_>>()
        };
        let removal = entry(1, "a.b", LedgerAction::Delete, LedgerEvent::Started);
        let making = entry(2, "a.b", LedgerAction::Create, LedgerEvent::Started);
        let old = || "i-old".to_owned();
        assert_eq!(half(&[]), [(LedgerAction::Replace, old())]);
        let removed = std::slice::from_ref(&removal);
        assert_eq!(half(removed), [(LedgerAction::Create, String::new())]);
        let made = std::slice::from_ref(&making);
        assert_eq!(half(made), [(LedgerAction::Delete, old())]);
        assert_eq!(half(&[removal, making]), []);
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
