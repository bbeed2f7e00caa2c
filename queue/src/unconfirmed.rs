//! What a lost job may have left in the world. Pure.
//!
//! The ledger says what the engine set out to do and what it said it had done; the
//! newest checkpoint proves some of it. A resource is *unconfirmed* when
//!
//! - it was started and neither completed nor errored, or
//! - it completed beyond the checkpoint's `ledger_seq` (with no checkpoint: at all), or
//! - a provisioner of it was started and did not complete.
//!
//! What that means depends on the action: a create may exist untracked, an update has
//! unknown attributes, a delete may be gone. Reads change nothing.

use std::collections::BTreeMap;

use proto::v1::{LedgerAction, LedgerEntry, LedgerEvent, UnconfirmedResource};

/// Unconfirmed resources, by address, of one attempt whose newest checkpoint reflects
/// the ledger up to `proved_seq` (0 without one).
#[must_use]
pub fn from_ledger(ledger: &[LedgerEntry], proved_seq: u64) -> Vec<UnconfirmedResource> {
    let mut entries: Vec<_> = ledger.iter().collect();
    entries.sort_by_key(|entry| entry.seq);
    let mut resources: BTreeMap<&str, Standing<'_>> = BTreeMap::new();
    for entry in entries {
        resources
            .entry(&entry.address)
            .or_default()
            .apply(entry, proved_seq);
    }
    resources
        .into_iter()
        .filter_map(|(address, standing)| standing.into_unconfirmed(address))
        .collect()
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

/// What is known of one resource so far.
#[derive(Default)]
struct Standing<'a> {
    action: LedgerAction,
    id: &'a str,
    doubt: Option<Doubt>,
    provisioning: bool,
}

#[derive(Clone, Copy)]
enum Doubt {
    Started,
    Unproved,
    Errored,
}

impl<'a> Standing<'a> {
    fn apply(&mut self, entry: &'a LedgerEntry, proved_seq: u64) {
        if !entry.id_value.is_empty() {
            self.id = &entry.id_value;
        }
        let proved = entry.seq <= proved_seq;
        match entry.event() {
            LedgerEvent::Started => {
                self.action = entry.action();
                self.doubt = Some(Doubt::Started);
            }
            LedgerEvent::Complete => {
                self.action = entry.action();
                self.doubt = (!proved).then_some(Doubt::Unproved);
            }
            LedgerEvent::Errored => {
                self.action = entry.action();
                self.doubt = (!proved).then_some(Doubt::Errored);
            }
            LedgerEvent::ProvisionStarted => self.provisioning = true,
            LedgerEvent::ProvisionComplete | LedgerEvent::ProvisionErrored => {
                self.provisioning = false;
            }
            LedgerEvent::Unspecified => {}
        }
    }

    fn into_unconfirmed(self, address: &str) -> Option<UnconfirmedResource> {
        if self.action == LedgerAction::Read {
            return None;
        }
        let reason = match (self.doubt, self.provisioning) {
            (Some(doubt), _) => reason(self.action, doubt),
            (None, true) => "a provisioner was started and did not complete".to_owned(),
            (None, false) => return None,
        };
        Some(UnconfirmedResource {
            address: address.to_owned(),
            action: self.action.into(),
            id: self.id.to_owned(),
            reason,
        })
    }
}

fn reason(action: LedgerAction, doubt: Doubt) -> String {
    let seen = match doubt {
        Doubt::Started => "was started and not reported complete",
        Doubt::Unproved => "was reported complete but is not in the saved state",
        Doubt::Errored => "ended in an error that the saved state does not reflect",
    };
    let (what, meaning) = match action {
        LedgerAction::Create => ("the create", "it may exist untracked"),
        LedgerAction::Update => ("the update", "its attributes are unknown"),
        LedgerAction::Delete => ("the delete", "it may be gone"),
        LedgerAction::Replace => (
            "the replacement",
            "the old one may be gone and the new one exist untracked",
        ),
        LedgerAction::Read | LedgerAction::Unspecified => ("the action", "its fate is unknown"),
    };
    format!("{what} {seen}: {meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, address: &str, action: LedgerAction, event: LedgerEvent) -> LedgerEntry {
        LedgerEntry {
            seq,
            address: address.to_owned(),
            action: action.into(),
            event: event.into(),
            ..LedgerEntry::default()
        }
    }

    fn addresses(ledger: &[LedgerEntry], proved: u64) -> Vec<String> {
        from_ledger(ledger, proved)
            .into_iter()
            .map(|resource| resource.address)
            .collect()
    }

    use LedgerAction::{Create, Delete, Read};
    use LedgerEvent::{Complete, Errored, ProvisionComplete, ProvisionStarted, Started};

    #[test]
    fn started_without_complete_is_unconfirmed_even_below_the_checkpoint() {
        let ledger = [entry(1, "a.x", Create, Started)];
        assert_eq!(addresses(&ledger, 0), ["a.x"]);
        assert_eq!(addresses(&ledger, 5), ["a.x"]);
    }

    #[test]
    fn complete_is_unconfirmed_only_beyond_the_checkpoint() {
        let ledger = [
            entry(1, "a.x", Create, Started),
            entry(2, "a.x", Create, Complete),
            entry(3, "a.y", Create, Started),
            entry(4, "a.y", Create, Complete),
        ];
        assert_eq!(addresses(&ledger, 2), ["a.y"]);
        assert_eq!(addresses(&ledger, 4), [""; 0]);
        assert_eq!(addresses(&ledger, 0), ["a.x", "a.y"]);
    }

    #[test]
    fn an_error_is_confirmed_by_a_checkpoint_that_reflects_it() {
        let ledger = [
            entry(1, "a.x", Create, Started),
            entry(2, "a.x", Create, Errored),
        ];
        assert_eq!(addresses(&ledger, 2), [""; 0]);
        assert_eq!(addresses(&ledger, 1), ["a.x"]);
    }

    #[test]
    fn a_provisioner_that_did_not_complete_leaves_its_resource_unconfirmed() {
        let mut ledger = vec![
            entry(1, "a.x", Create, Started),
            entry(2, "a.x", Create, Complete),
            entry(3, "a.x", Create, ProvisionStarted),
        ];
        assert_eq!(addresses(&ledger, 3), ["a.x"]);
        ledger.push(entry(4, "a.x", Create, ProvisionComplete));
        assert_eq!(addresses(&ledger, 4), [""; 0]);
    }

    #[test]
    fn reads_change_nothing() {
        let ledger = [entry(1, "data.a.x", Read, Started)];
        assert_eq!(addresses(&ledger, 0), [""; 0]);
    }

    #[test]
    fn the_reason_says_what_the_action_means() {
        let ledger = [entry(1, "a.x", Delete, Started)];
        let found = from_ledger(&ledger, 0);
        assert!(
            found[0].reason.contains("may be gone"),
            "{}",
            found[0].reason
        );
    }

    #[test]
    fn only_what_a_refresh_can_see_is_settled_by_a_later_success() {
        assert!(is_settled_by_success(LedgerAction::Update));
        assert!(is_settled_by_success(Delete));
        assert!(!is_settled_by_success(Create));
        assert!(!is_settled_by_success(LedgerAction::Replace));
    }

    #[test]
    fn order_of_arrival_does_not_matter() {
        let ledger = [
            entry(2, "a.x", Create, Complete),
            entry(1, "a.x", Create, Started),
        ];
        assert_eq!(addresses(&ledger, 2), [""; 0]);
    }
}
