//! The ledger of one attempt: what happened to each resource, in the order the engine
//! told it. Only an apply writes here; reads of data sources during a plan change nothing.

use std::collections::HashMap;
use std::time::Instant;

use proto::v1::{LedgerAction, LedgerEntry, LedgerEvent};

use super::events::{Event, Hook, Kind, Step};

/// All entries of this attempt. Sequence numbers count from 1 without holes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<LedgerEntry>,
    /// When each entry was read from the engine's output.
    seen: Vec<Instant>,
    /// Provisioner events do not say what is done to the resource; its start did.
    actions: HashMap<String, LedgerAction>,
}

impl Ledger {
    /// Adds what `event` says about a resource; `now_ms` stands in for a missing time.
    /// The new entry, `None` when the event is about something else.
    pub(super) fn record(&mut self, event: &Event, now_ms: i64) -> Option<LedgerEntry> {
        let Kind::Hook(step, hook) = &event.kind else {
            return None;
        };
        let action = self.action(*step, hook);
        if action == LedgerAction::Read {
            return None;
        }
        let entry = LedgerEntry {
            seq: self.last_seq() + 1,
            time_ms: event.time_ms.unwrap_or(now_ms),
            address: hook.address.clone(),
            resource_type: hook.resource_type.clone(),
            action: action.into(),
            event: ledger_event(*step).into(),
            id_key: hook.id_key.clone(),
            id_value: hook.id_value.clone(),
            elapsed_ms: hook.elapsed_ms,
        };
        self.entries.push(entry.clone());
        self.seen.push(Instant::now());
        Some(entry)
    }

    /// Takes over what an earlier worker told, before anything is recorded.
    pub(super) fn restore(&mut self, entries: Vec<LedgerEntry>) {
        for entry in &entries {
            if entry.event() == LedgerEvent::Started {
                self.actions.insert(entry.address.clone(), entry.action());
            }
        }
        self.seen = vec![Instant::now(); entries.len()];
        self.entries = entries;
    }

    /// Sequence of the newest entry, 0 when there is none.
    pub(super) fn last_seq(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq)
    }

    /// In order.
    pub(super) fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    /// In order, each with the moment it was read.
    pub(super) fn seen(&self) -> impl Iterator<Item = (&LedgerEntry, Instant)> {
        self.entries.iter().zip(self.seen.iter().copied())
    }

    fn action(&mut self, step: Step, hook: &Hook) -> LedgerAction {
        if step == Step::Started {
            self.actions.insert(hook.address.clone(), hook.action);
        }
        match hook.action {
            LedgerAction::Unspecified => self
                .actions
                .get(&hook.address)
                .copied()
                .unwrap_or(LedgerAction::Unspecified),
            known => known,
        }
    }
}

fn ledger_event(step: Step) -> LedgerEvent {
    match step {
        Step::Started => LedgerEvent::Started,
        Step::Complete => LedgerEvent::Complete,
        Step::Errored => LedgerEvent::Errored,
        Step::ProvisionStarted => LedgerEvent::ProvisionStarted,
        Step::ProvisionComplete => LedgerEvent::ProvisionComplete,
        Step::ProvisionErrored => LedgerEvent::ProvisionErrored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::LogLevel;

    #[test]
    fn entries_count_from_one_and_keep_the_engines_time() {
        let mut ledger = Ledger::default();
        let first = ledger.record(&event(Step::Started, LedgerAction::Create), 9);
        assert_eq!(first.map(|e| (e.seq, e.time_ms)), Some((1, 5)));
        ledger.record(&event(Step::Complete, LedgerAction::Create), 9);
        assert_eq!(ledger.last_seq(), 2);
        assert_eq!(ledger.entries()[1].event(), LedgerEvent::Complete);
    }

    #[test]
    fn a_provisioner_takes_the_action_of_its_resource() {
        let mut ledger = Ledger::default();
        ledger.record(&event(Step::Started, LedgerAction::Create), 0);
        let entry = ledger.record(&event(Step::ProvisionStarted, LedgerAction::Unspecified), 0);
        assert_eq!(entry.expect("entry").action(), LedgerAction::Create);
    }

    #[test]
    fn reads_leave_no_trace() {
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.record(&event(Step::Started, LedgerAction::Read), 0),
            None
        );
        assert_eq!(ledger.last_seq(), 0);
    }

    fn event(step: Step, action: LedgerAction) -> Event {
        Event {
            level: LogLevel::Info,
            message: String::new(),
            time_ms: Some(5),
            kind: Kind::Hook(
                step,
                Box::new(Hook {
                    address: "a.b".to_owned(),
                    resource_type: "a".to_owned(),
                    action,
                    id_key: String::new(),
                    id_value: String::new(),
                    elapsed_ms: 0,
                }),
            ),
        }
    }
}
